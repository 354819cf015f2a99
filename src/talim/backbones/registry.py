"""Registry of base models: names, Hub ids, licences, dimensions, download sizes."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.backbones.mustango.unet_config import UNetConfig
from talim.design.musicgen_sites import MusicGenShape
from talim.design.unet_sites import UNetShape

RELEASED_LICENCE = "CC-BY-NC-4.0"
NANO = "nano-musicgen"


@dataclass(frozen=True)
class ModelEntry:
    """A base model with a short name; `hub_id` is empty for models that ship with the package."""

    name: str
    hub_id: str
    licence: str
    musicgen_shape: MusicGenShape | None = None
    unsupported_reason: str = ""
    download_gb: float = 0.0
    family: str = "musicgen"

    @property
    def shape(self) -> MusicGenShape | UNetShape | None:
        """Dimensions of a released model; None for one whose files have to be read."""
        return released_unet() if self.family == "mustango" and self.hub_id else self.musicgen_shape

    @property
    def channels(self) -> int:
        """Audio channels."""
        return self.shape.channels if isinstance(self.shape, MusicGenShape) else 1


SHAPES = {
    "small": MusicGenShape(1024, 24, 16),
    "medium": MusicGenShape(1536, 48, 24),
    "large": MusicGenShape(2048, 48, 32),
}
DOWNLOAD_GB = {"small": 2.4, "medium": 8.0, "large": 13.7}
MELODY_UNSUPPORTED = "it is conditioned on a melody, which is not supported yet; use the model without -melody"


def _released_models() -> list[ModelEntry]:
    models = []
    for size, shape in SHAPES.items():
        for stereo in (False, True):
            name = f"musicgen-stereo-{size}" if stereo else f"musicgen-{size}"
            channels, codebooks = (2, 8) if stereo else (1, 4)
            full = MusicGenShape(shape.hidden, shape.layers, shape.heads, codebooks, channels)
            models.append(ModelEntry(name, f"facebook/{name}", RELEASED_LICENCE, full, download_gb=DOWNLOAD_GB[size]))
    for name in ("melody", "melody-large", "stereo-melody", "stereo-melody-large"):
        name = f"musicgen-{name}"
        models.append(ModelEntry(name, f"facebook/{name}", RELEASED_LICENCE, unsupported_reason=MELODY_UNSUPPORTED))
    return models


@cache
def released_configs() -> dict[str, Any]:
    """Configurations of t5-base and encodec_32khz, which all released MusicGens share, and of Mustango's parts."""
    return read_json(Path(__file__).with_name("released_configs.json"))


@cache
def released_unet() -> UNetShape:
    """Dimensions of the released Mustango's U-Net."""
    return UNetShape.of(UNetConfig.of(released_configs()["mustango_unet"]))


UNET_CONFIG = "configs/music_diffusion_model_config.json"
FRAME_RATE_AND_WINDOW = {"musicgen": (50, 30.0), "mustango": (25, 10.24)}  # Hz; seconds of context in training
MUSTANGO = [
    ModelEntry(name, f"declare-lab/{name}", "Apache-2.0", download_gb=7.5, family="mustango")
    for name in ("mustango", "mustango-pretrained")
]
SHIPPED = [ModelEntry(NANO, "", "Apache-2.0"), ModelEntry("nano-mustango", "", "Apache-2.0", family="mustango")]
MODELS: dict[str, ModelEntry] = {model.name: model for model in [*SHIPPED, *_released_models(), *MUSTANGO]}


def find_model(name: str) -> ModelEntry | None:
    """Registry entry of a short name ("musicgen-small") or Hub id ("facebook/musicgen-small")."""
    return MODELS.get(name.removeprefix("facebook/").removeprefix("declare-lab/"))


def is_miniature(name: str) -> bool:
    """Whether a model of this name ships with the package, for testing only."""
    return any(entry.name == name.rsplit("/", 1)[-1] for entry in SHIPPED)


def closest_names(name: str) -> list[str]:
    """Up to three registered names that are similar to a misspelt one."""
    usable = [model.name for model in MODELS.values() if not model.unsupported_reason]
    return difflib.get_close_matches(name.rsplit("/", 1)[-1].lower(), usable, n=3, cutoff=0.5)
