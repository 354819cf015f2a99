"""Biases of the base that an adapter overwrites: switched with the adapter, so that the base can be had again."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

import talim.adapters as adapters
from talim.adapters import base_biases, injection, serialization
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.errors import UsageError

Fresh = Callable[..., MusicGen]
MATRICES = ["q_proj", "v_proj", "enc_to_dec_proj"]


def logits(base: MusicGen) -> torch.Tensor:
    tokens = np.random.default_rng(0).integers(0, 32, (base.codebooks, 9)).astype(np.int16)
    batch = base.collate([(tokens, base.encode_text(["a"])[0])], [False])
    with torch.no_grad(), sampling.inference_mode(base.model):
        return base.logits(batch)


def write(base: MusicGen, folder: Path, bias: str) -> torch.Tensor:
    """An adapter of plain PEFT with random weights and biases; the logits that it gives there."""
    model = get_peft_model(base.model, LoraConfig(r=2, target_modules=MATRICES, bias=bias))  # type: ignore[arg-type]
    torch.manual_seed(0)
    with torch.no_grad():
        for weight in adapters.trainable_parameters(model):
            weight.add_(0.3 * torch.randn_like(weight))
    model.save_pretrained(str(folder), save_embedding_layers=False)
    return logits(base)


@pytest.fixture
def biased(fresh: Fresh, tmp_path: Path) -> tuple[Path, torch.Tensor]:
    return tmp_path / "theirs", write(fresh(), tmp_path / "theirs", "all")


@pytest.mark.parametrize("bias", ["all", pytest.param("lora_only", marks=pytest.mark.slow)])
def test_the_base_comes_back_to_the_bit_and_so_does_the_adapter(fresh: Fresh, tmp_path: Path, bias: str) -> None:
    expected = write(fresh(), tmp_path / "theirs", bias)
    base = fresh()
    plain, state = logits(base), copy.deepcopy(base.model.state_dict())
    model = adapters.load(base, tmp_path / "theirs")
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # PEFT's "Careful, ..." is not true here
        for scales, wanted in (({"adapter": 1.0}, expected), ({"adapter": 0.0}, plain), ({"adapter": 1.0}, expected)):
            adapters.set_adapter_scales(model, scales)
            torch.testing.assert_close(logits(base), wanted, atol=1e-6, rtol=0)
        adapters.set_adapter_scales(model, {})
        assert torch.equal(logits(base), plain)
        with injection.disabled(model):
            assert torch.equal(logits(base), plain)
        adapters.set_adapter_scales(model, {"adapter": 1.0})
        with injection.disabled(model):
            assert torch.equal(logits(base), plain)
        torch.testing.assert_close(logits(base), expected, atol=1e-6, rtol=0)
    assert (expected - plain).abs().max() > 1e-2
    with injection.disabled(model):
        now = {key.replace(".base_layer", ""): value for key, value in base.model.state_dict().items()}
        assert all(torch.equal(now[key], value) for key, value in state.items())


def test_off_beside_another_active_adapter_leaves_no_bias(
    fresh: Fresh, biased: tuple[Path, torch.Tensor], tmp_path: Path
) -> None:
    folder, with_biases = biased
    write(fresh(), tmp_path / "plain", "none")
    alone, both = fresh(), fresh()
    adapters.load(alone, tmp_path / "plain")
    model = adapters.load(both, folder, name="first")
    adapters.load(both, tmp_path / "plain", name="second")
    torch.testing.assert_close(logits(both), logits(alone), atol=1e-6, rtol=0)  # the last one loaded is active
    adapters.set_adapter_scales(model, {"first": 0.0, "second": 1.0})
    torch.testing.assert_close(logits(both), logits(alone), atol=1e-6, rtol=0)
    adapters.set_adapter_scales(model, {"first": 1.0, "second": 0.0})
    torch.testing.assert_close(logits(both), with_biases, atol=1e-6, rtol=0)
    adapters.set_adapter_scales(model, {"second": 1.0})
    adapters.save(model, tmp_path / "saved", "first", base={"name": both.name, "fingerprint": both.fingerprint})
    torch.testing.assert_close(logits(both), logits(alone), atol=1e-6, rtol=0)  # saving leaves the active one
    again = fresh()
    adapters.load(again, tmp_path / "saved")
    torch.testing.assert_close(logits(again), with_biases, atol=1e-6, rtol=0)


def test_trained_biases_survive_a_look_at_the_base(fresh: Fresh, biased: tuple[Path, torch.Tensor]) -> None:
    base = fresh()
    plain = logits(base)
    model = adapters.load(base, biased[0], trainable=True)
    kept = base_biases.kept_biases(injection.unwrap_peft(model))
    assert kept is not None
    assert all(weight.requires_grad for weight in kept.weights)
    with torch.no_grad():
        for weight in kept.weights:
            weight.add_(0.1)  # a step of an optimiser
    trained = logits(base)
    with injection.disabled(model):
        assert torch.equal(logits(base), plain)
    assert torch.equal(logits(base), trained)
    assert all(weight.requires_grad for weight in kept.weights)


def test_temporary_adapters_leave_the_biases_of_the_base(fresh: Fresh, biased: tuple[Path, torch.Tensor]) -> None:
    base = fresh()
    plain = logits(base)
    with injection.temporary_adapters(base.model):
        adapters.load(base, biased[0])
        assert not torch.equal(logits(base), plain)
    assert torch.equal(logits(base), plain)
    assert base_biases.kept_biases(base.model) is None


def test_what_cannot_be_done_with_biases_is_refused(fresh: Fresh, biased: tuple[Path, torch.Tensor]) -> None:
    base = fresh()
    model = adapters.load(base, biased[0])
    with pytest.raises(UsageError, match=r"own biases of the base, which cannot be scaled by 0\.5; give 1, or 0"):
        adapters.set_adapter_scales(model, {"adapter": 0.5})
    before = logits(base)
    with pytest.raises(UsageError, match="holds one such adapter per model, and only as the first"):
        adapters.load(base, biased[0], name="second")
    assert torch.equal(logits(base), before)
    theirs = fresh()  # PEFT's own model, whose biases nobody kept
    config = LoraConfig(r=2, target_modules=MATRICES, bias="all")
    wrapped = get_peft_model(theirs.model, config)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=r"bias='all' in its configuration\) before talim knew it"):
        adapters.set_adapter_scales(wrapped, {})  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="load the base again"), injection.disabled(wrapped):  # type: ignore[arg-type]
        pass
    assert serialization.read_config(biased[0]).bias == "all"  # type: ignore[attr-defined]
