"""Base models on the meta device against the real ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import released_mustango

from talim.backbones import registry
from talim.backbones.load import load
from talim.backbones.meta_models import load_on_meta
from talim.design.unet_sites import UNetShape
from talim.errors import TalimError


def tensors(backbone: Any) -> dict[str, Any]:
    """Name, shape and dtype of all tensors."""
    parts = {"model": backbone.model, "mel_vae": getattr(backbone, "mel_vae", None)}
    return {
        f"{word}.{name}": (tuple(value.shape), value.dtype)
        for word, part in parts.items()
        if part is not None
        for name, value in [*part.named_parameters(), *part.named_buffers()]
    }


@pytest.fixture(scope="module")
def own_mustango(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return released_mustango.write(tmp_path_factory.mktemp("mustangos") / "own")


@pytest.mark.parametrize("base", ["tiny_base", "own_mustango", "nano-musicgen"])
@pytest.mark.parametrize("precision", ["bf16", "fp32"])
def test_load_on_meta_has_the_tensors_and_facts_of_the_real_model(
    base: str, precision: str, request: pytest.FixtureRequest
) -> None:
    path = base if base.startswith("nano") else str(request.getfixturevalue(base))
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    real, on_meta = load(path, precision=precision, device="cpu"), load_on_meta(path, dtype)
    assert tensors(on_meta) == tensors(real)
    assert all(value.is_meta for value in on_meta.model.parameters())
    for attribute in ("name", "family", "licence", "num_parameters", "frame_rate_hz", "window_seconds", "miniature"):
        assert getattr(on_meta, attribute) == getattr(real, attribute), attribute
    assert on_meta.sites() == real.sites()
    assert on_meta.fingerprint == ""


@pytest.mark.parametrize("name", ["musicgen-small", "musicgen-stereo-medium"])
def test_load_on_meta_released_musicgen_has_its_parameter_counts(name: str) -> None:
    shape = registry.MODELS[name].shape
    on_meta = load_on_meta(name, torch.bfloat16)
    assert shape is not None
    assert on_meta.num_parameters == shape.decoder_parameters
    text: Any = on_meta.model.text_encoder
    assert sum(weight.numel() for weight in text.parameters()) == 109_628_544  # T5-base's encoder
    assert next(text.parameters()).dtype == torch.float32


def test_load_on_meta_released_mustango_has_its_parameter_counts() -> None:
    """Counts of the released files."""
    on_meta: Any = load_on_meta("mustango", torch.bfloat16)
    assert on_meta.num_parameters == 1_416_364_360
    assert sum(weight.numel() for weight in on_meta.model.text_encoder.parameters()) == 341_231_104
    assert sum(weight.numel() for weight in on_meta.mel_vae.parameters()) == 110_641_770
    assert UNetShape.of(on_meta.model.unet.config) == registry.released_unet()


def test_load_on_meta_unavailable_base_raises_talim_error() -> None:
    with pytest.raises(TalimError, match="nano-musicgen"):
        load_on_meta("musicgen-smal", torch.float32)
