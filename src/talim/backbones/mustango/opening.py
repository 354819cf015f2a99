"""From a folder or a Hub id to a Mustango that is ready to use."""

from __future__ import annotations

import torch

from talim.backbones.mustango import checkpoint, files
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.predictors import Predictors


def load_mustango(
    place: str, local: bool, device: torch.device, dtype: torch.dtype, *, name: str, licence: str, reason: str
) -> Mustango:
    """The model at `place`; the U-Net is held in `dtype`, everything else is small or precise: float32."""
    stored = files.Checkpoint(files.fetch(place, local))
    tokenizer = checkpoint.read_tokenizer(stored)
    model, sound = checkpoint.read_model(stored), checkpoint.read_sound(stored)
    model.unet.to(dtype)

    def predictors() -> Predictors:
        return checkpoint.read_predictors(
            files.Checkpoint(files.fetch(place, local, predictors=True)), device
        )

    return Mustango(
        model.to(device),
        sound.to(device),
        tokenizer,
        name=name,
        licence=licence,
        predictors=predictors,
        precision_reason=reason,
    )
