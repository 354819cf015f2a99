"""Adapters in folders: every method, plain PEFT's too, and nothing is half loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors.torch import load_file, save_file

import talim.adapters as adapters
from talim.adapters import injection
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.errors import TalimError, UsageError

Fresh = Callable[..., MusicGen]
DESIGNS = ["lora@all:r2", "dora@layers[1]:r3", "ia3@all", "lora@post:r2", "ia3@conditioner", "full@layers[0]"]


def facts(base: MusicGen) -> dict[str, str]:
    return {"name": base.name, "fingerprint": base.fingerprint}


def stirred(base: MusicGen, design: str, seed: int = 0, name: str = "adapter") -> PeftModel:
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
def test_what_was_stored_is_loaded_under_another_name(fresh: Fresh, design: str, tmp_path: Path) -> None:
    base = fresh()
    plain = logits(base)
    model = stirred(base, design)
    taught = logits(base)
    assert (taught - plain).abs().max() > 1e-3
    adapters.save(model, tmp_path / "a", base=facts(base))
    assert adapters.read_info(tmp_path / "a")["expression"] == design
    other = fresh()
    loaded = adapters.load(other, tmp_path / "a", name="second")
    torch.testing.assert_close(logits(other), taught, atol=1e-6, rtol=0)
    assert adapters.trainable_parameters(loaded) == []
    again = adapters.load(fresh(), tmp_path / "a", trainable=True)
    counts = [sum(w.numel() for w in adapters.trainable_parameters(m)) for m in (again, model)]
    assert counts[0] == counts[1] > 0


@pytest.mark.parametrize("design", DESIGNS)
def test_unmatched_weights_leave_the_model_as_it_was(fresh: Fresh, design: str, tmp_path: Path) -> None:
    base = fresh()
    adapters.save(stirred(base, design), tmp_path / "a", base=facts(base))
    file = tmp_path / "a" / "adapter_model.safetensors"
    weights = load_file(file)
    gone = sorted(weights)[0]
    del weights[gone]
    save_file(weights, file)
    other = fresh()
    with pytest.raises(TalimError, match="1 weights missing, 0 unknown"):
        adapters.load(other, tmp_path / "a")
    assert not any(isinstance(module, BaseTunerLayer) for module in other.model.modules())


def test_what_plain_peft_wrote_is_taken_by_its_shape(fresh: Fresh, tmp_path: Path) -> None:
    base = fresh()
    config = LoraConfig(r=3, target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    model = get_peft_model(base.model, config)
    taught = logits(base)
    model.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    info = adapters.read_info(tmp_path / "peft")
    assert info["base"]["fingerprint"] is None
    assert info["expression"] == "lora"
    other = fresh()
    adapters.load(other, tmp_path / "peft")
    torch.testing.assert_close(logits(other), taught, atol=1e-6, rtol=0)
    smaller = fresh(layers=3)
    with pytest.raises(TalimError, match="weights missing"):
        adapters.load(smaller, tmp_path / "peft")


def test_what_talim_wrote_is_taken_by_plain_peft(fresh: Fresh, tmp_path: Path) -> None:
    base = fresh()
    adapters.save(stirred(base, "lora@all:5k"), tmp_path / "a", base=facts(base))
    taught = logits(base)
    other = fresh()
    PeftModel.from_pretrained(other.model, tmp_path / "a")
    torch.testing.assert_close(logits(other), taught, atol=1e-6, rtol=0)


def test_methods_do_not_mix(fresh: Fresh, tmp_path: Path) -> None:
    base = fresh()
    adapters.attach(base.model, "conv@all:width3", base.sites())
    with pytest.raises(UsageError, match="lora adapter cannot join a talim adapter: PEFT holds one"):
        adapters.attach(base.model, "lora@all:r2", base.sites(), name="other")


@pytest.mark.parametrize("design", ["linear@all:width4", "lora@all:r2", "full@layers[1]"])
def test_strength_runs_from_the_base_to_beyond_the_adapter(fresh: Fresh, design: str) -> None:
    base = fresh()
    plain = logits(base)
    model = stirred(base, design)
    model.requires_grad_(False)
    taught = logits(base)
    steps = []
    for strength in (0.0, 0.5, 1.0, 1.5):
        adapters.set_adapter_scales(model, {"adapter": strength})
        steps.append((logits(base) - plain).norm().item())
    assert steps[0] < 1e-4
    assert steps == sorted(steps)
    adapters.set_adapter_scales(model, {"adapter": 1.0})
    torch.testing.assert_close(logits(base), taught, atol=1e-6, rtol=0)
    adapters.set_adapter_scales(model, {})
    torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)


def test_strengths_and_names_that_make_no_sense(fresh: Fresh) -> None:
    base = fresh()
    model = stirred(base, "dora@all:r2")
    for wishes, words in (
        ({"adapter": 1.6}, "out of range"),
        ({"adapter": -0.1}, "out of range"),
        ({"nobody": 1.0}, "there are adapter"),
        ({"adapter": 0.5}, "no strength but 1"),
    ):
        with pytest.raises(UsageError, match=words):
            adapters.set_adapter_scales(model, wishes)


@pytest.mark.parametrize("design", ["transformer@all:width6", "lora@all:r2", "ia3@all", "conv@post:width5"])
def test_in_the_bases_precision_it_still_streams(fresh: Fresh, design: str) -> None:
    base = fresh("bf16")
    model = stirred(base, design)
    model.requires_grad_(False)
    injection.cast_adapters(model, base.dtype)
    kinds = {
        weight.dtype
        for name, weight in model.named_parameters()
        if "talim_blocks" in name or "lora_" in name or "ia3_" in name
    }
    assert kinds == {torch.bfloat16}
    assert tokens(base).shape == (1, 4, 20)
