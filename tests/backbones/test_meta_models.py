"""A base without weights is the real one in all but its numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import released_mustango

from talim.backbones import registry
from talim.backbones.load import load
from talim.backbones.meta_models import load_on_meta
from talim.backbones.mustango import unet_config
from talim.backbones.mustango.unet_config import UNetConfig
from talim.designs.unet_sites import UNetShape
from talim.errors import TalimError


def tensors(backbone: Any) -> dict[str, Any]:
    """Name, shape and type of all that is resident."""
    parts = {"model": backbone.model, "sound": getattr(backbone, "sound", None)}
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
def test_the_same_tensors_as_the_real_one(base: str, precision: str, request: pytest.FixtureRequest) -> None:
    place = base if base.startswith("nano") else str(request.getfixturevalue(base))
    dtype = {"bf16": torch.bfloat16, "fp32": torch.float32}[precision]
    real, made = load(place, precision=precision, device="cpu"), load_on_meta(place, dtype)
    assert tensors(made) == tensors(real)
    assert all(value.is_meta for value in made.model.parameters())
    for word in ("name", "family", "licence", "parameters", "frame_rate_hz", "window_seconds", "miniature"):
        assert getattr(made, word) == getattr(real, word), word
    assert made.sites() == real.sites()
    assert made.fingerprint == ""


@pytest.mark.parametrize("name", ["musicgen-small", "musicgen-stereo-medium"])
def test_a_released_musicgen_is_built_from_its_numbers(name: str) -> None:
    shape = registry.MODELS[name].shape
    made = load_on_meta(name, torch.bfloat16)
    assert shape is not None
    assert made.num_parameters == shape.decoder_parameters
    text: Any = made.model.text_encoder
    assert sum(weight.numel() for weight in text.parameters()) == 109_628_544  # T5-base's encoder
    assert next(text.parameters()).dtype == torch.float32


def test_the_released_mustango_is_built_from_its_numbers() -> None:
    """Counts of the released files, from the golden description of its keys."""
    made: Any = load_on_meta("mustango", torch.bfloat16)
    assert made.num_parameters == 1_416_364_360
    assert sum(weight.numel() for weight in made.model.text_encoder.parameters()) == 341_231_104
    assert sum(weight.numel() for weight in made.sound.parameters()) == 110_641_770
    assert UNetShape.of(UNetConfig.of(unet_config.UNET)) == registry.UNET


def test_a_base_that_is_nowhere_is_refused() -> None:
    with pytest.raises(TalimError, match="nano-musicgen"):
        load_on_meta("musicgen-smal", torch.float32)
