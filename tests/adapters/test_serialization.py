"""Saving and loading adapters of every method, interchange with plain PEFT, adapter scales."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

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
    with pytest.raises(TalimError, match="1 weights missing, 0 unknown"):
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
    assert config["peft_type"] == "TALIM"
    assert config["base_model_name_or_path"] == "tiny"
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
        (lambda w: w.pop(KEY), "1 weights missing, 0 unknown"),
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
    with pytest.raises(TalimError, match="1 weights missing"):
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
    config = {"peft_type": "LOHA", "r": 4}
    (stored / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    with pytest.raises(TalimError, match="LOHA"):
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
