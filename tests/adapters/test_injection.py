"""Placing, naming, storing and refusing adapters."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures import released_musicgen
from fixtures.adapter_designs import stir
from safetensors.torch import load_file, save_file
from transformers import T5Config, T5EncoderModel

import talim.adapters as adapters
from talim.adapters import injection, serialization
from talim.adapters.config import AdapterConfig, exact_path_regex
from talim.adapters.layer import AdapterLayer
from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen
from talim.designs.kinds import KINDS
from talim.errors import TalimError, UsageError


def step(base: MusicGen) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 32, (base.codebooks, 20), generator=generator).numpy().astype("int16")
    batch = base.collate([(tokens, base.encode_text(["a long alap"])[0])], [False])
    loss = base.loss(batch)
    weights = {name: p for name, p in base.model.named_parameters() if p.requires_grad}
    return loss.per_item, dict(
        zip(weights, torch.autograd.grad(loss.mean, list(weights.values())), strict=True)
    )


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_the_same_to_bf16_and_the_weights_stay_in_float32(fresh: Fresh, kind: str) -> None:
    base = fresh("bf16")
    peft = injection.attach(base.model, f"{kind}@all:width16", base.sites(), dropout=0.0)
    stir(peft)
    exact, exact_gradients = step(base)
    injection.set_mixed_precision(peft)
    mixed, mixed_gradients = step(base)
    assert not torch.equal(mixed, exact)  # it does something
    torch.testing.assert_close(mixed, exact, rtol=0.03, atol=0.03)
    flat = [
        torch.cat([g.flatten() for g in gradients.values()])
        for gradients in (exact_gradients, mixed_gradients)
    ]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.98
    assert {weight.dtype for weight in adapters.trainable_parameters(peft)} == {torch.float32}
    assert {gradient.dtype for gradient in mixed_gradients.values()} == {torch.float32}
    injection.set_mixed_precision(peft, False)
    assert torch.equal(step(base)[0], exact)


def test_a_float32_base_and_full_are_left_alone(fresh: Fresh) -> None:
    for precision, design in (("fp32", "conv@all:width16"), ("bf16", "full@all")):
        base = fresh(precision)
        peft = injection.attach(base.model, design, base.sites(), dropout=0.0)
        stir(peft)
        exact, _ = step(base)
        injection.set_mixed_precision(peft)
        assert torch.equal(step(base)[0], exact)


Fresh = Callable[..., MusicGen]

DESIGN = "linear@all:2k"


@pytest.fixture
def stored(fresh: Fresh, tmp_path: Path) -> Path:
    base = fresh()
    model = adapters.attach(base.model, DESIGN, base.sites())
    facts = {"name": base.name, "fingerprint": base.fingerprint, "licence": "CC0-1.0"}
    adapters.save(model, tmp_path / "adapter", base=facts, card="# Yaman\n", facts={"corpus": "yaman"})
    return tmp_path / "adapter"


def test_what_lies_in_the_folder(stored: Path, fresh: Fresh) -> None:
    names = {"adapter_config.json", "adapter_model.safetensors", "talim.json", "README.md"}
    assert {file.name for file in stored.iterdir()} == names
    assert {file.name for file in stored.parent.iterdir()} == {"adapter"}  # nothing half-written beside it
    info = adapters.read_info(stored)
    assert info["base"] == {"name": "tiny", "fingerprint": fresh().fingerprint, "licence": "CC0-1.0"}
    assert info["expression"] == DESIGN
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


def test_another_base_is_refused(stored: Path, tmp_path: Path) -> None:
    other = load(released_musicgen.write(tmp_path / "other", seed=5), device="cpu")
    with pytest.raises(TalimError, match=r"trained on base tiny .*but this is other") as caught:
        adapters.load(other, stored)
    assert "\n" not in str(caught.value)
    assert not any(isinstance(module, AdapterLayer) for module in other.model.modules())


def test_the_same_base_in_another_place_is_taken(stored: Path, base_folder: Path, tmp_path: Path) -> None:
    moved = load(shutil.copytree(base_folder, tmp_path / "moved"), precision="bf16", device="cpu")
    adapters.load(moved, stored)


def test_without_fingerprint_the_name_decides(stored: Path, fresh: Fresh) -> None:
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


KEY = "base_model.model.decoder.model.decoder.layers.0.talim_blocks.0.up.bias"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda w: w.pop(KEY), "1 weights missing, 0 unknown"),
        (
            lambda w: w.update({KEY.replace("layers.0", "layers.7"): torch.zeros(16)}),
            "0 weights missing, 1 unk",
        ),
        (lambda w: w.update({KEY: torch.zeros(3)}), r"shape \(3,\), expected \(16,\)"),
    ],
)
def test_unmatched_weights_are_refused(stored: Path, fresh: Fresh, change, words: str) -> None:
    spoil_weights(stored, change)
    base = fresh()
    with pytest.raises(TalimError, match=words) as caught:
        adapters.load(base, stored)
    assert "\n" not in str(caught.value)
    assert not any(isinstance(module, AdapterLayer) for module in base.model.modules())


def test_plain_peft_refuses_unmatched_weights_too(stored: Path, fresh: Fresh) -> None:
    from peft import PeftModel

    spoil_weights(stored, lambda w: w.pop(KEY))
    with pytest.raises(TalimError, match="1 weights missing"):
        PeftModel.from_pretrained(fresh().model, stored)


def test_fewer_layers_are_refused(stored: Path, tmp_path: Path) -> None:
    shallow = load(released_musicgen.write(tmp_path / "shallow", layers=1), device="cpu")
    info = adapters.read_info(stored)
    info["base"]["fingerprint"] = shallow.fingerprint
    (stored / "talim.json").write_text(json.dumps(info), encoding="utf-8")
    with pytest.raises(TalimError, match=r"layers\.1, which this model lacks"):
        adapters.load(shallow, stored)


@pytest.mark.parametrize("file", ["adapter_model.safetensors", "adapter_config.json", "talim.json"])
@pytest.mark.parametrize("harm", ["gone", "torn"])
def test_damaged_folders_are_one_line(stored: Path, fresh: Fresh, file: str, harm: str) -> None:
    if harm == "gone" and file == "talim.json":
        pytest.skip("such a folder is plain PEFT's: see test_store.py")
    (stored / file).unlink() if harm == "gone" else (stored / file).write_bytes(b"{torn")
    with pytest.raises(TalimError, match=re.escape(file)) as caught:
        adapters.load(fresh(), stored)
    assert "\n" not in str(caught.value)


def test_other_adapters_are_refused(stored: Path, fresh: Fresh, tmp_path: Path) -> None:
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


def test_a_failed_save_leaves_the_old_adapter(
    stored: Path, fresh: Fresh, monkeypatch: pytest.MonkeyPatch
) -> None:
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


@pytest.mark.parametrize(
    "name", ["decoder", "layers", "0", "down", "talim_blocks", "base_layer", "keys", "a.b", ""]
)
def test_names_that_would_lose_weights_are_refused(fresh: Fresh, name: str) -> None:
    base = fresh()
    with pytest.raises(UsageError, match="adapter name"):
        adapters.attach(base.model, DESIGN, base.sites(), name=name)


def test_a_name_is_taken_once(fresh: Fresh) -> None:
    base = fresh()
    adapters.attach(base.model, DESIGN, base.sites(), name="raga")
    with pytest.raises(UsageError, match="already in this model"):
        adapters.attach(base.model, DESIGN, base.sites(), name="raga")


def test_only_decoder_layers_are_wrapped(fresh: Fresh) -> None:
    base = fresh()
    model = adapters.attach(base.model, "linear@layers[1]:1k", base.sites())
    assert model.base_model.targeted_module_names == ["decoder.model.decoder.layers.1"]
    assert adapters.attach(base.model, DESIGN, base.sites(), name="more") is model


@pytest.mark.parametrize("count", [1, 3, 48])
def test_the_expression_matches_nothing_else(count: int) -> None:
    paths = [f"decoder.model.decoder.layers.{i}" for i in range(count)]
    pattern = exact_path_regex(paths)
    assert all(re.fullmatch(pattern, path) for path in paths)
    strangers = [
        "audio_encoder.decoder.layers.0",
        "decoder.model.decoder.layers.0.fc1",
        f"{paths[0]}9{count}",
    ]
    assert not any(re.fullmatch(pattern, path) for path in [*strangers, f"x.{paths[0]}", "decoderxmodel"])


def test_a_plain_transformers_model_is_enough(fresh: Fresh) -> None:
    base = fresh()
    ours, theirs = (
        adapters.adapter_config(base, "linear@all:5%"),
        adapters.adapter_config(base.model, "linear@all:5%"),
    )
    assert ours.to_dict() == theirs.to_dict()
    adapters.attach(base.model, DESIGN)
    again = adapters.adapter_config(base.model, "linear@all:5%")
    assert again.to_dict() == ours.to_dict()  # a share is one of the base, not of base and adapters


def test_other_models_are_refused() -> None:
    other = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(UsageError, match="T5EncoderModel arrived"):
        adapters.adapter_config(other, DESIGN)


def test_merging_is_refused(fresh: Fresh) -> None:
    base = fresh()
    model = adapters.attach(base.model, DESIGN, base.sites())
    with pytest.raises(TalimError, match="cannot be merged"):
        model.merge_and_unload()


def test_modes_follow_the_block(fresh: Fresh) -> None:
    base = fresh()
    adapters.attach(base.model, DESIGN, base.sites(), name="calm")
    assert not any(module.training for module in base.model.modules())
    base.enable_training()
    adapters.attach(base.model, DESIGN, base.sites(), name="eager")
    layer = base.model.decoder.model.decoder.layers[0]
    assert layer.talim_blocks["eager"].training
    assert not base.model.text_encoder.training
    assert layer.embed_dim == 16  # attributes of the block are still there
    with pytest.raises(AttributeError):
        _ = layer.no_such_attribute


def test_dropout_acts_in_training_only(fresh: Fresh) -> None:
    block = AdapterConfig(blocks=[{"module": "x", "kind": "linear", "features": 8, "width": 4}], dropout=0.5)
    kind = block.build(block.blocks[0], torch.nn.Identity())
    hidden = torch.ones(1, 3, 8)
    torch.manual_seed(0)
    kind.train()
    assert not torch.equal(kind(hidden), kind(hidden))
    kind.eval()
    assert torch.equal(kind(hidden), kind(hidden))


def test_tuples_pass_through() -> None:
    """Blocks of other models return more than hidden states."""

    class Pair(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
            return super().forward(x), "kept"

    config = AdapterConfig(blocks=[{"module": "m", "kind": "linear", "features": 4, "width": 2}])
    layer = AdapterLayer(Pair(4, 4), "raga", config, "m")
    torch.nn.init.ones_(layer.talim_blocks["raga"][0].up.bias)  # type: ignore[index,union-attr]
    x = torch.zeros(1, 2, 4)
    hidden, rest = layer(x)
    assert rest == "kept"
    torch.testing.assert_close(hidden, layer.base_layer(x)[0] + 1)


def test_settings_reach_the_kind(fresh: Fresh) -> None:
    counts = []
    for settings in ({"conv": {"kernel": 3}}, None):
        base = fresh()
        model = adapters.attach(base.model, "conv@all:width8", base.sites(), settings=settings)
        counts.append(sum(weight.numel() for weight in adapters.trainable_parameters(model)))
    taps = (5 - 3) * 8 * 8 * 2 * len(base.model.decoder.model.decoder.layers)
    assert counts[1] - counts[0] == taps


@pytest.mark.parametrize(
    ("settings", "word"),
    [({"conv": {"kernel": 3}}, "settings.conv"), ({"linear": {"kernel": 3}}, "no setting kernel")],
)
def test_settings_that_fit_no_kind_of_the_design_are_refused(fresh: Fresh, settings: dict, word: str) -> None:
    base = fresh()
    with pytest.raises(UsageError, match=word):
        adapters.attach(base.model, "linear@all:1k", base.sites(), settings=settings)
