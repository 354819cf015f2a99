"""Saving and loading adapters of every method, interchange with plain PEFT, adapter scales."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import released_musicgen
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

import talim.adapters as adapters
from talim.adapters import injection, serialization
from talim.adapters.layer import AdapterLayer
from talim.backbones.load import load
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.errors import TalimError, UsageError

Fresh = Callable[..., MusicGen]
DESIGNS = ["lora@all:r2", "dora@layers[1]:r3", "ia3@all", "lora@post:r2", "ia3@conditioner", "full@layers[0]"]
DESIGN = "linear@all:2k"
KEY = "base_model.model.decoder.model.decoder.layers.0.talim_blocks.0.up.bias"


def facts(base: MusicGen) -> dict[str, str]:
    return {"name": base.name, "fingerprint": base.fingerprint}


def attach_randomized(base: MusicGen, design: str, seed: int = 0, name: str = "adapter") -> PeftModel:
    model = adapters.attach(base.model, design, base.sites(), name=name)
    torch.manual_seed(seed)
    with torch.no_grad():
        for weight in adapters.trainable_parameters(model):
            weight.add_(0.3 * torch.randn_like(weight))
    return model


def tokens(base: MusicGen) -> torch.Tensor:
    return torch.from_numpy(base.generate_tokens(["a flute"], 0.4, seed=1).astype("int64"))


def logits(base: MusicGen) -> torch.Tensor:
    batch = base.collate([(tokens_of(base), base.encode_text(["a"])[0])], [False])
    with torch.no_grad(), sampling.inference_mode(base.model):
        return base.logits(batch)


def tokens_of(base: MusicGen):
    import numpy as np

    return np.random.default_rng(0).integers(0, 32, (base.codebooks, 9)).astype(np.int16)


@pytest.mark.parametrize("design", ["linear@all:2k", "conv@layers[0]:2k+linear@layers[1]:1k", "lora@all:r2"])
def test_changes_nothing_follows_the_last_weights_of_an_adapter(fresh: Fresh, design: str, tmp_path: Path) -> None:
    base = fresh()
    model = adapters.attach(base.model, design, base.sites())
    adapters.save(model, tmp_path / "new", base=facts(base))
    assert serialization.changes_nothing(tmp_path / "new")
    (note,) = serialization.unchanged_notes(tmp_path / "new")
    assert f"{tmp_path / 'new'} changes nothing" in note
    with torch.no_grad():  # one number of one block
        next(w for name, w in model.named_parameters() if ".up." in name or "lora_B" in name).view(-1)[0] = 1e-3
    adapters.save(model, tmp_path / "trained", base=facts(base))
    assert not serialization.changes_nothing(tmp_path / "trained")
    assert serialization.unchanged_notes(tmp_path / "trained") == []


@pytest.mark.parametrize("design", ["full@layers[0]", "linear@all:2k+full@layers[1]", "dora@layers[1]:r3", "ia3@all"])
def test_changes_nothing_where_weights_do_not_tell_is_known_of_untrained_ones(
    fresh: Fresh, design: str, tmp_path: Path
) -> None:
    base = fresh()
    model = adapters.attach(base.model, design, base.sites())
    adapters.save(model, tmp_path / "a", base=facts(base))
    assert not serialization.changes_nothing(tmp_path / "a")
    adapters.save(model, tmp_path / "b", base=facts(base), facts={serialization.UNTRAINED: True})
    assert serialization.changes_nothing(tmp_path / "b")


@pytest.mark.parametrize("design", DESIGNS)
def test_load_under_another_name_restores_the_saved_adapter(fresh: Fresh, design: str, tmp_path: Path) -> None:
    base = fresh()
    plain = logits(base)
    model = attach_randomized(base, design)
    adapted = logits(base)
    assert (adapted - plain).abs().max() > 1e-3
    adapters.save(model, tmp_path / "a", base=facts(base))
    assert adapters.read_info(tmp_path / "a")["design"] == design
    reloaded = fresh()
    loaded = adapters.load(reloaded, tmp_path / "a", name="second")
    torch.testing.assert_close(logits(reloaded), adapted, atol=1e-6, rtol=0)
    assert adapters.trainable_parameters(loaded) == []
    again = adapters.load(fresh(), tmp_path / "a", trainable=True)
    counts = [sum(w.numel() for w in adapters.trainable_parameters(m)) for m in (again, model)]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("design", DESIGNS)
def test_load_with_a_missing_weight_keeps_the_model_unchanged(fresh: Fresh, design: str, tmp_path: Path) -> None:
    base = fresh()
    adapters.save(attach_randomized(base, design), tmp_path / "a", base=facts(base))
    file = tmp_path / "a" / "adapter_model.safetensors"
    weights = load_file(file)
    removed = sorted(weights)[0]
    del weights[removed]
    save_file(weights, file)
    reloaded = fresh()
    with pytest.raises(TalimError, match="1 weight missing, 0 unknown"):
        adapters.load(reloaded, tmp_path / "a")
    assert not any(isinstance(module, BaseTunerLayer) for module in reloaded.model.modules())


def test_load_adapter_of_plain_peft_is_checked_by_shapes(fresh: Fresh, tmp_path: Path) -> None:
    base = fresh()
    config = LoraConfig(r=3, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(base.model, config)
    adapted = logits(base)
    model.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    info = adapters.read_info(tmp_path / "peft")
    assert info["base"]["fingerprint"] is None
    assert info["design"] == "lora"
    reloaded = fresh()
    adapters.load(reloaded, tmp_path / "peft")
    torch.testing.assert_close(logits(reloaded), adapted, atol=1e-6, rtol=0)
    smaller = fresh(layers=3)
    with pytest.raises(TalimError, match="weights missing"):
        adapters.load(smaller, tmp_path / "peft")


def test_plain_peft_loads_a_saved_lora_adapter(fresh: Fresh, tmp_path: Path) -> None:
    base = fresh()
    adapters.save(attach_randomized(base, "lora@all:5k"), tmp_path / "a", base=facts(base))
    adapted = logits(base)
    reloaded = fresh()
    PeftModel.from_pretrained(reloaded.model, tmp_path / "a")
    torch.testing.assert_close(logits(reloaded), adapted, atol=1e-6, rtol=0)


def test_attach_second_method_raises_usage_error(fresh: Fresh, tmp_path: Path) -> None:
    base = fresh()
    adapters.attach(base.model, "conv@all:width3", base.sites())
    with pytest.raises(UsageError, match="lora adapter cannot join a talim adapter: PEFT holds one"):
        adapters.attach(base.model, "lora@all:r2", base.sites(), name="reloaded")


@pytest.mark.parametrize("design", ["linear@all:width4", "lora@all:r2", "full@layers[1]"])
def test_set_adapter_scales_grows_from_base_to_beyond_the_adapter(fresh: Fresh, design: str) -> None:
    base = fresh()
    plain = logits(base)
    model = attach_randomized(base, design)
    model.requires_grad_(False)
    adapted = logits(base)
    steps = []
    for scale in (0.0, 0.5, 1.0, 1.5):
        adapters.set_adapter_scales(model, {"adapter": scale})
        steps.append((logits(base) - plain).norm().item())
    assert steps[0] < 1e-4
    assert steps == sorted(steps)
    adapters.set_adapter_scales(model, {"adapter": 1.0})
    torch.testing.assert_close(logits(base), adapted, atol=1e-6, rtol=0)
    adapters.set_adapter_scales(model, {})
    torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)


def test_set_adapter_scales_invalid_scale_or_name_raises_usage_error(fresh: Fresh) -> None:
    base = fresh()
    model = attach_randomized(base, "dora@all:r2")
    for scales, message in (
        ({"adapter": 1.6}, "out of range"),
        ({"adapter": -0.1}, "out of range"),
        ({"nobody": 1.0}, "there are adapter"),
        ({"adapter": 0.5}, "no scale but 1"),
    ):
        with pytest.raises(UsageError, match=message):
            adapters.set_adapter_scales(model, scales)


@pytest.mark.parametrize("design", ["transformer@all:width6", "lora@all:r2", "ia3@all", "conv@post:width5"])
def test_cast_adapters_to_bf16_still_generates(fresh: Fresh, design: str) -> None:
    base = fresh("bf16")
    model = attach_randomized(base, design)
    model.requires_grad_(False)
    injection.cast_adapters(model, base.dtype)
    dtypes = {
        weight.dtype
        for name, weight in model.named_parameters()
        if "talim_blocks" in name or "lora_" in name or "ia3_" in name
    }
    assert dtypes == {torch.bfloat16}
    assert tokens(base).shape == (1, 4, 20)


@pytest.fixture
def stored(fresh: Fresh, tmp_path: Path) -> Path:
    base = fresh()
    model = adapters.attach(base.model, DESIGN, base.sites())
    facts = {"name": base.name, "fingerprint": base.fingerprint, "licence": "CC0-1.0"}
    adapters.save(model, tmp_path / "adapter", base=facts, card="# Yaman\n", facts={"corpus": "yaman"})
    return tmp_path / "adapter"


def test_save_writes_exactly_the_documented_files(stored: Path, fresh: Fresh) -> None:
    names = {"adapter_config.json", "adapter_model.safetensors", "talim.json", "README.md"}
    assert {file.name for file in stored.iterdir()} == names
    assert {file.name for file in stored.parent.iterdir()} == {"adapter"}  # nothing half-written beside it
    info = adapters.read_info(stored)
    assert info["base"] == {"name": "tiny", "fingerprint": fresh().fingerprint, "licence": "CC0-1.0"}
    assert info["design"] == DESIGN
    assert info["corpus"] == "yaman"
    weights = load_file(stored / "adapter_model.safetensors")
    assert info["parameters"] == sum(weight.numel() for weight in weights.values())
    assert set(weights) == {
        f"base_model.model.decoder.model.decoder.layers.{i}.talim_blocks.0.{part}"
        for i in (0, 1)
        for part in ("down.weight", "down.bias", "up.weight", "up.bias")
    }
    config = json.loads((stored / "adapter_config.json").read_text(encoding="utf-8"))
    assert config["peft_type"] == "TALIM: run `import talim.adapters` before loading this adapter"
    assert config["base_model_name_or_path"] == "./tiny"  # not a name on the Hub
    assert all(row["kind_options"] == {} and row["causal"] is True for row in config["blocks"])
    for name in names - {"adapter_model.safetensors"}:
        assert "/tmp" not in (stored / name).read_text(encoding="utf-8")
        assert str(stored.parent) not in (stored / name).read_text(encoding="utf-8")


def test_load_on_another_base_raises_talim_error(stored: Path, tmp_path: Path) -> None:
    other = load(released_musicgen.write(tmp_path / "other", seed=5), device="cpu")
    with pytest.raises(TalimError, match=r"trained on base tiny .*but this is other") as caught:
        adapters.load(other, stored)
    assert "\n" not in str(caught.value)
    assert not any(isinstance(module, AdapterLayer) for module in other.model.modules())


def test_load_on_the_same_base_in_another_folder_and_dtype_succeeds(
    stored: Path, base_folder: Path, tmp_path: Path
) -> None:
    moved = load(shutil.copytree(base_folder, tmp_path / "moved"), precision="bf16", device="cpu")
    adapters.load(moved, stored)


def test_load_without_stored_fingerprint_compares_names(stored: Path, fresh: Fresh) -> None:
    info = adapters.read_info(stored)
    for name, fits in (("tiny", True), ("huge", False)):
        info["base"] = {"name": name}
        (stored / "talim.json").write_text(json.dumps(info), encoding="utf-8")
        if fits:
            adapters.load(fresh(), stored)
        else:
            with pytest.raises(TalimError, match="trained on base huge"):
                adapters.load(fresh(), stored)


def spoil_weights(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    weights = load_file(folder / "adapter_model.safetensors")
    change(weights)
    save_file(weights, folder / "adapter_model.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop(KEY), "1 weight missing, 0 unknown"),
        (lambda w: w.update({KEY.replace("layers.0", "layers.7"): torch.zeros(16)}), "0 weights missing, 1 unk"),
        (lambda w: w.update({KEY: torch.zeros(3)}), r"shape \(3,\), expected \(16,\)"),
    ],
)
def test_load_unmatched_weights_raises_talim_error_and_keeps_the_model(
    stored: Path, fresh: Fresh, change, message: str
) -> None:
    spoil_weights(stored, change)
    base = fresh()
    with pytest.raises(TalimError, match=message) as caught:
        adapters.load(base, stored)
    assert "\n" not in str(caught.value)
    assert not any(isinstance(module, AdapterLayer) for module in base.model.modules())


def test_from_pretrained_unmatched_weights_raises_talim_error(stored: Path, fresh: Fresh) -> None:
    from peft import PeftModel

    spoil_weights(stored, lambda w: w.pop(KEY))
    with pytest.raises(TalimError, match="1 weight missing"):
        PeftModel.from_pretrained(fresh().model, stored)


def test_load_on_a_base_with_fewer_layers_raises_talim_error(stored: Path, tmp_path: Path) -> None:
    shallow = load(released_musicgen.write(tmp_path / "shallow", layers=1), device="cpu")
    info = adapters.read_info(stored)
    info["base"]["fingerprint"] = shallow.fingerprint
    (stored / "talim.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(TalimError, match=r"layers\.1, which this model lacks"):
        adapters.load(shallow, stored)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", "talim.json"])
@pytest.mark.parametrize("harm", ["gone", "torn"])
def test_load_damaged_folder_raises_a_one_line_error(stored: Path, fresh: Fresh, file: str, harm: str) -> None:
    if harm == "gone" and file == "talim.json":
        pytest.skip("such a folder is plain PEFT's")
    (stored / file).unlink() if harm == "gone" else (stored / file).write_bytes(b"{torn")
    with pytest.raises(TalimError, match=re.escape(file)) as caught:
        adapters.load(fresh(), stored)
    assert "\n" not in str(caught.value)


def test_load_unsupported_adapter_raises_talim_error(stored: Path, fresh: Fresh, tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="is no adapter folder"):
        adapters.read_info(tmp_path)
    for kind, reason in {"LN_TUNING": "normalisation", "PREFIX_TUNING": "no method .* that changes linear"}.items():
        (stored / "adapter_config.json").write_text(json.dumps({"peft_type": kind}), encoding="utf-8")
        with pytest.raises(TalimError, match=rf"holds a {kind} adapter, which talim cannot use: .*{reason}"):
            adapters.load(fresh(), stored)
    config = {"peft_type": "TALIM", "blocks": [{"module": "x", "kind": "quantum", "features": 1, "width": 1}]}
    (stored / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TalimError, match="kind 'quantum' is unknown"):
        adapters.load(fresh(), stored)


def test_save_that_fails_keeps_the_old_adapter(stored: Path, fresh: Fresh, monkeypatch: pytest.MonkeyPatch) -> None:
    before = (stored / "adapter_model.safetensors").read_bytes()
    base = fresh()
    model = adapters.attach(base.model, "linear@all:4k", base.sites())

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(serialization, "write_json", full)
    with pytest.raises(TalimError, match="No space left"):
        adapters.save(model, stored, base={"name": "tiny", "fingerprint": "x"})
    assert (stored / "adapter_model.safetensors").read_bytes() == before
    assert {file.name for file in stored.parent.iterdir()} == {"adapter"}


@pytest.mark.parametrize("info_format", [1, None])
def test_load_folder_of_another_format_raises_talim_error(stored: Path, fresh: Fresh, info_format: int | None) -> None:
    info = adapters.read_info(stored) | {"format": info_format}
    (stored / "talim.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(TalimError, match="another version of talim; train this adapter again"):
        adapters.load(fresh(), stored)


def test_load_blocks_with_unknown_keys_raises_talim_error(stored: Path, fresh: Fresh) -> None:
    config = json.loads((stored / "adapter_config.json").read_text(encoding="utf-8"))
    for block in config["blocks"]:
        block["settings"] = block.pop("kind_options")
    (stored / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TalimError, match="unknown key settings"):
        adapters.load(fresh(), stored)


# Damaged and foreign files


def flip_a_bit(path: Path, at: float) -> None:
    data = bytearray(path.read_bytes())
    data[int(at * (len(data) - 1))] ^= 1
    path.write_bytes(bytes(data))


@pytest.mark.parametrize("at", [0.7, 0.9, 1.0])
def test_load_with_a_flipped_bit_in_the_weights_raises_talim_error(stored: Path, fresh: Fresh, at: float) -> None:
    flip_a_bit(stored / "adapter_model.safetensors", at)
    base = fresh()
    with pytest.raises(TalimError, match=r"changed after it was written: its checksum is not that in talim\.json"):
        adapters.load(base, stored)
    assert not any(isinstance(module, AdapterLayer) for module in base.model.modules())


def test_load_with_a_changed_setting_raises_talim_error(stored: Path, fresh: Fresh) -> None:
    path = stored / "adapter_config.json"
    path.write_text(path.read_text(encoding="utf-8").replace('"dropout": 0.1', '"dropout": 0.3'), encoding="utf-8")
    with pytest.raises(TalimError, match=r"adapter_config\.json was changed after it was written"):
        adapters.load(fresh(), stored)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("plain_peft", [False, True])
def test_load_weights_that_are_no_numbers_raises_talim_error(
    stored: Path, fresh: Fresh, value: float, plain_peft: bool
) -> None:
    spoil_weights(stored, lambda w: w.update({KEY: torch.full((16,), value)}))
    info = json.loads((stored / "talim.json").read_text(encoding="utf-8"))
    del info["sha256"]
    (stored / "talim.json").write_text(json.dumps(info), encoding="utf-8")
    if plain_peft:
        (stored / "talim.json").unlink()
    with pytest.raises(TalimError, match=r"up\.bias holds NaN or infinity"):
        adapters.load(fresh(), stored)


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o027])
def test_save_gives_all_files_the_mode_of_the_umask(fresh: Fresh, tmp_path: Path, umask: int) -> None:
    base = fresh()
    model = adapters.attach(base.model, DESIGN, base.sites())
    before = os.umask(umask)
    try:
        adapters.save(model, tmp_path / "a", base=facts(base), card="c", licence="l")
    finally:
        os.umask(before)
    assert {file.name: file.stat().st_mode & 0o777 for file in (tmp_path / "a").iterdir()} == dict.fromkeys(
        ["adapter_config.json", "adapter_model.safetensors", "talim.json", "README.md", "LICENSE.md"], 0o666 & ~umask
    )


def peft_folder(base: MusicGen, config: object, folder: Path, **options: object) -> torch.Tensor:
    """Save an adapter of plain PEFT with random weights; the adapted logits."""
    model = get_peft_model(base.model, config)  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in adapters.trainable_parameters(model):
            weight.add_(0.3 * torch.randn_like(weight))
    adapted = logits(base)
    model.save_pretrained(folder, **options)
    return adapted


LAYERS = r"decoder\.model\.decoder\.layers\.\d+"
TALIM = {"kind": "linear", "width": 3}
FOREIGN = {
    "talim regex": lambda: adapters.AdapterConfig(kind="conv", width=3, target_modules=LAYERS),
    "talim list": lambda: adapters.AdapterConfig(**TALIM, target_modules=["self_attn.q_proj", "fc1"]),
    "talim lm_head": lambda: adapters.AdapterConfig(**TALIM, target_modules=r"decoder\.lm_heads\.\d"),
    "talim all-linear": lambda: adapters.AdapterConfig(**TALIM, target_modules="all-linear"),
    "talim excluded": lambda: adapters.AdapterConfig(**TALIM, target_modules=LAYERS, exclude_modules=r".*\.1"),
    "talim modules_to_save": lambda: adapters.AdapterConfig(
        **TALIM, target_modules=LAYERS, modules_to_save=["enc_to_dec_proj"]
    ),
    "talim task_type": lambda: adapters.AdapterConfig(**TALIM, target_modules=LAYERS, task_type="SEQ_2_SEQ_LM"),
    "lora all-linear": lambda: LoraConfig(r=2, target_modules="all-linear"),
    "lora modules_to_save": lambda: LoraConfig(r=2, target_modules=["q_proj"], modules_to_save=["enc_to_dec_proj"]),
    "lora regex": lambda: LoraConfig(r=2, target_modules=r".*\.(q|v)_proj", rank_pattern={r".*1\.self_attn.*": 3}),
    "lora embeddings": lambda: LoraConfig(r=2, target_modules=["embed_tokens.0", "q_proj"]),
    "dora": lambda: LoraConfig(r=2, target_modules=["q_proj"], use_dora=True),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_load_folder_of_save_pretrained_restores_the_outputs(fresh: Fresh, tmp_path: Path, name: str) -> None:
    adapted = peft_folder(fresh(), FOREIGN[name](), tmp_path / "peft", save_embedding_layers=False)
    reloaded = fresh()
    adapters.load(reloaded, tmp_path / "peft")
    torch.testing.assert_close(logits(reloaded), adapted, atol=1e-5, rtol=0)
    weights = load_file(tmp_path / "peft" / "adapter_model.safetensors")
    del weights[sorted(weights)[0]]
    save_file(weights, tmp_path / "peft" / "adapter_model.safetensors")
    with pytest.raises(TalimError, match="1 weight missing"):
        adapters.load(fresh(), tmp_path / "peft")


@pytest.mark.parametrize("by_talim", [False, True])
def test_load_brings_the_resized_vocabulary_of_the_text_encoder(fresh: Fresh, tmp_path: Path, by_talim: bool) -> None:
    base = fresh()
    rows = base.model.text_encoder.get_input_embeddings().weight.shape[0] + 5
    base.model.text_encoder.resize_token_embeddings(rows)
    table = base.model.text_encoder.get_input_embeddings().weight.detach().clone()
    config = adapters.AdapterConfig(**TALIM, target_modules=LAYERS)
    if by_talim:
        model = get_peft_model(base.model, config)
        adapters.save(model, tmp_path / "peft", "default", base=facts(base), save_embedding_layers=True)
    else:
        peft_folder(base, config, tmp_path / "peft", save_embedding_layers=True)
    reloaded = fresh()
    with pytest.warns(UserWarning, match=f"brings its own vocabulary: .* now has {rows} rows"):
        adapters.load(reloaded, tmp_path / "peft")
    assert torch.equal(reloaded.model.text_encoder.get_input_embeddings().weight, table)


def test_check_fit_beside_a_loaded_adapter_uses_the_plain_base(fresh: Fresh, tmp_path: Path) -> None:
    base = fresh()
    adapters.save(attach_randomized(base, "conv@all:width3"), tmp_path / "a", base=facts(base))
    base = fresh()
    adapters.attach(base.model, "linear@post:width2", base.sites(), name="first")
    model = adapters.load(base, tmp_path / "a", name="second")
    assert set(model.peft_config) == {"first", "second"}


WRONG = {
    "target_modules": [3, {"a": 1}, [1, 2], "(", "(?P<a", "[", None],
    "r": ["abc", -1, [], None],
    "rank_pattern": [[1], {"(": 2}, {"q_proj": "x"}, 7],
    "alpha_pattern": ["q", {"*": 1}],
    "exclude_modules": [5, "(("],
    "modules_to_save": [4, ["("], [None]],
    "layers_pattern": [9, "("],
    "layers_to_transform": ["x", {"a": 1}],
    "lora_alpha": ["x"],
    "base_model_name_or_path": [3, {"a": 1}],
    "peft_type": [None, 3, ["LORA"], {"a": 1}, "NO_SUCH_METHOD"],
    "task_type": ["NO_SUCH_TASK", 5],
    "use_dora": ["yes"],
}


@pytest.fixture(scope="session")
def lora_folder(base_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    base = load(base_folder, device="cpu")
    folder = tmp_path_factory.mktemp("lora") / "adapter"
    config = LoraConfig(r=2, target_modules=["q_proj"])
    get_peft_model(base.model, config).save_pretrained(folder, save_embedding_layers=False)  # type: ignore[arg-type]
    return folder


@pytest.mark.parametrize(("field", "value"), [(field, value) for field, values in WRONG.items() for value in values])
def test_load_wrong_type_in_the_configuration_is_a_one_line_error(
    lora_folder: Path, fresh: Fresh, tmp_path: Path, field: str, value: object
) -> None:
    folder = shutil.copytree(lora_folder, tmp_path / "adapter")
    config = json.loads((folder / "adapter_config.json").read_text(encoding="utf-8"))
    (folder / "adapter_config.json").write_text(json.dumps(config | {field: value}), encoding="utf-8")
    base = fresh()
    with pytest.raises(TalimError, match="adapter") as caught:
        adapters.load(base, folder)
    assert "\n" not in str(caught.value)
    assert not any(isinstance(module, BaseTunerLayer) for module in base.model.modules())


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", 3),
        ("width", "six"),
        ("width", 0),
        ("dropout", "x"),
        ("dropout", 2),
        ("causal", "no"),
        ("kind_options", [1]),
        ("target_modules", {"a": 1}),
        ("target_modules", "("),
        ("blocks", [3]),
        ("blocks", [{"module": 1, "kind": "linear"}]),
        ("blocks", [{"module": "x", "kind": "linear"}]),
        ("blocks", [{"module": "x", "kind": "linear", "features": "a", "width": 2}]),
        ("modules_to_save", "x"),
    ],
)
def test_read_config_wrong_type_of_talims_own_raises_talim_error(tmp_path: Path, field: str, value: object) -> None:
    values = {"peft_type": "TALIM", "kind": "linear", "width": 2, "target_modules": "x", field: value}
    (tmp_path / "adapter_config.json").write_text(json.dumps(values), encoding="utf-8")
    with pytest.raises(TalimError, match=r"adapter_config\.json") as caught:
        serialization.read_config(tmp_path)
    assert "\n" not in str(caught.value)


def test_read_config_too_deeply_nested_raises_talim_error(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text("[" * 100_000, encoding="utf-8")
    with pytest.raises(TalimError, match="cannot be read"):
        serialization.read_config(tmp_path)


DREAMBOOTHING = ["enc_to_dec_proj", "audio_enc_to_dec_proj", "k_proj", "v_proj", "q_proj", "out_proj", "fc1", "fc2"]


def heads(base: MusicGen, name: str = "lm_heads") -> list[str]:
    return [f"{name}.{index}" for index in range(base.codebooks)]


def of_plain_peft(base: MusicGen, folder: Path, **settings: Any) -> torch.Tensor:
    """Save an adapter with plain PEFT; the logits that it gives there."""
    model = get_peft_model(base.model, LoraConfig(r=4, lora_alpha=4, lora_dropout=0.05, **settings))  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in adapters.trainable_parameters(model):
            weight.add_(0.1 * torch.randn_like(weight))
    model.save_pretrained(str(folder))
    return logits(base)


OF_OTHERS: dict[str, Callable[[MusicGen], dict[str, Any]]] = {
    "musicgen-dreamboothing": lambda base: {
        "target_modules": [*DREAMBOOTHING, "lm_heads.0", *heads(base), *heads(base, "embed_tokens")]
    },
    "heads trained whole": lambda base: {"target_modules": DREAMBOOTHING, "modules_to_save": heads(base)},
    "embeddings trained whole": lambda base: {
        "target_modules": ["q_proj"],
        "modules_to_save": heads(base, "embed_tokens"),
    },
    "projection trained whole": lambda base: {"target_modules": ["q_proj"], "modules_to_save": ["enc_to_dec_proj"]},
    "regular expression": lambda base: {"target_modules": r".*decoder.*(embed_tokens|lm_heads|q_proj).*\d.*"},
    "text encoder, too": lambda base: {"target_modules": [*DREAMBOOTHING, "k", "v", "q", "o", "wi", "wo"]},
    "biases": lambda base: {"target_modules": DREAMBOOTHING, "bias": "all"},
    "rank-stabilised": lambda base: {"target_modules": DREAMBOOTHING, "use_rslora": True},
}


@pytest.mark.filterwarnings("ignore:Could not find a config file")
@pytest.mark.parametrize("kind", OF_OTHERS)
def test_load_adapters_of_others_gives_the_logits_of_plain_peft(fresh: Fresh, tmp_path: Path, kind: str) -> None:
    base = fresh()
    plain = logits(base)
    expected = of_plain_peft(base, tmp_path / "theirs", **OF_OTHERS[kind](base))
    assert (expected - plain).abs().max() > 0.1
    reloaded = fresh()
    model = adapters.load(reloaded, tmp_path / "theirs")
    torch.testing.assert_close(logits(reloaded), expected, atol=1e-6, rtol=0)
    assert tokens(reloaded).shape == (1, base.codebooks, 20)
    adapters.save(model, tmp_path / "ours", base=facts(base))
    again = fresh()
    adapters.load(again, tmp_path / "ours")
    torch.testing.assert_close(logits(again), expected, atol=1e-6, rtol=0)


@pytest.mark.filterwarnings("ignore:Could not find a config file")
@pytest.mark.parametrize("kind", ["musicgen-dreamboothing", "heads trained whole", "embeddings trained whole"])
def test_load_adapters_of_others_to_train_them_further(fresh: Fresh, tmp_path: Path, kind: str) -> None:
    base = fresh()
    of_plain_peft(base, tmp_path / "theirs", **OF_OTHERS[kind](base))
    reloaded = fresh("bf16")
    reloaded.enable_training()
    model = adapters.load(reloaded, tmp_path / "theirs", trainable=True)
    batch = reloaded.collate([(tokens_of(reloaded), reloaded.encode_text(["a"])[0])], [False])
    optimiser, losses = torch.optim.AdamW(adapters.trainable_parameters(model), lr=1e-2, weight_decay=0.0), []
    for _ in range(8):
        loss = reloaded.loss(batch).mean
        optimiser.zero_grad()
        loss.backward()
        assert all(weight.grad is not None for weight in adapters.trainable_parameters(model))
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.2


@pytest.mark.filterwarnings("ignore:Could not find a config file")
def test_modules_that_were_trained_whole_are_on_or_off(fresh: Fresh, tmp_path: Path) -> None:
    base = fresh()
    plain = logits(base)
    expected = of_plain_peft(base, tmp_path / "theirs", **OF_OTHERS["heads trained whole"](base))
    reloaded = fresh()
    model = adapters.load(reloaded, tmp_path / "theirs")
    adapters.load(reloaded, tmp_path / "theirs", name="second")
    for scales, message in (
        ({"adapter": 0.5}, r"own decoder\.lm_heads\.0 \(modules_to_save\), which cannot be scaled by 0\.5"),
        ({"adapter": 1.0, "second": 1.0}, r"adapter and second each bring their own decoder\.lm_heads\.0"),
    ):
        with pytest.raises(UsageError, match=message):
            adapters.set_adapter_scales(model, scales)
    for scales, wanted in (({"adapter": 0.0}, plain), ({"adapter": 1.0, "second": 0.0}, expected), ({}, plain)):
        adapters.set_adapter_scales(model, scales)
        torch.testing.assert_close(logits(reloaded), wanted, atol=1e-6, rtol=0)
