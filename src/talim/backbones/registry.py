"""Registry of base models: names, Hub ids, licences, dimensions, download sizes."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
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
    """A base model with a short name; `hub_id` is empty for models that ship with the package.

    `download_gb` is what loading reads, in 1e9 bytes; `revision` the commit on the Hub that is used by default, empty
    where none is known for certain: then that of the first download stays.
    """

    name: str
    hub_id: str
    licence: str
    musicgen_shape: MusicGenShape | None = None
    download_gb: float = 0.0
    family: str = "musicgen"
    revision: str = ""
    value_bytes: int = 4  # of a number in the released files

    @property
    def fp32_gb(self) -> float:
        """The weights in fp32, in 1e9 bytes, whatever they are stored in."""
        return self.download_gb * 4 / self.value_bytes

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
# commits of released repositories that several public projects name independently
REVISIONS = {
    "musicgen-small": "4c8334b02c6ec4e8664a91979669a501ec497792",
    "musicgen-medium": "d3bd7b00761b78ad7a8a05145ee31e7832e9916c",
    "musicgen-large": "15ccdc92099879e47b6da12c350cdb71d4eab3ca",
    "musicgen-melody": "68d653a95788ec0d2b0abccab22c0b3a200c2d90",
    "musicgen-melody-large": "6fdf8d3d815995108c9bdb5183414ff464b171ac",
}
# numbers in the files beside the decoder: T5-base's encoder, and the codec with the state of its codebooks
TEXT_ENCODER_VALUES = 109_628_544
CODEC_VALUES = 58_990_022
POSITIONS = 2048  # rows of the decoder's table of sinusoids, which the files hold
MELODY_FRAMES = 235  # of chroma: 30 s


def _released_models() -> list[ModelEntry]:
    models = []
    for size, shape in SHAPES.items():
        for stereo in (False, True):
            name = f"musicgen-stereo-{size}" if stereo else f"musicgen-{size}"
            channels, codebooks = (2, 8) if stereo else (1, 4)
            full = MusicGenShape(shape.hidden, shape.layers, shape.heads, codebooks, channels)
            facts = {"download_gb": released_gb(full), "value_bytes": value_bytes(full)}
            facts |= {"revision": REVISIONS.get(name, "")}
            models.append(ModelEntry(name, f"facebook/{name}", RELEASED_LICENCE, full, **facts))
    for name, size in (("melody", "medium"), ("melody-large", "large")):
        for stereo in (False, True):
            full_name = f"musicgen-stereo-{name}" if stereo else f"musicgen-{name}"
            channels = 2 if stereo else 1
            shape = replace(SHAPES[size], codebooks=4 * channels, channels=channels, melody_frames=MELODY_FRAMES)
            facts = {"download_gb": released_gb(shape), "value_bytes": value_bytes(shape)}
            facts |= {"revision": REVISIONS.get(full_name, "")}
            models.append(ModelEntry(full_name, f"facebook/{full_name}", RELEASED_LICENCE, shape, **facts))
    return models


def released_gb(shape: MusicGenShape) -> float:
    """The weights of a released MusicGen in 1e9 bytes, to four digits: fp32, and fp16 in stereo without melody."""
    inputs = shape.text_width + 1 + ((shape.chroma + 1) if shape.melody_frames else 0)  # of text and melody
    projection = inputs * shape.hidden
    values = shape.decoder_parameters + POSITIONS * shape.hidden + projection + TEXT_ENCODER_VALUES + CODEC_VALUES
    return float(f"{values * value_bytes(shape) / 1e9:.4g}")


def value_bytes(shape: MusicGenShape) -> int:
    """Bytes of a number in the released files: fp32, and fp16 in stereo without melody."""
    return 4 if shape.channels == 1 or shape.melody_frames else 2


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


# models of the same maker that people ask for and that talim cannot load, by the end of their Hub id
UNSUPPORTED = {
    "musicgen-style": "it hears the style of a recording by a part that transformers' MusicGen does not have",
    "audiogen": "it makes sounds, no music, and transformers has no class for it",
    "magnet": "it fills in masked tokens, and transformers has no class for it",
    "jasco": "it is a flow-matching model, and transformers has no class for it",
    "melodyflow": "it is a flow-matching model, and transformers has no class for it",
}


def unsupported_reason(name: str) -> str:
    """Why a known model of the Hub, such as "facebook/musicgen-style", cannot be a base, and which can; else empty."""
    owner, _, plain = name.partition("@")[0].lower().rpartition("/")
    known = next((reason for start, reason in UNSUPPORTED.items() if f"{plain}-".startswith(f"{start}-")), "")
    supported = f"{', '.join(MODELS)}, and checkpoints that were fine-tuned from these"
    return f"{known}; supported are {supported}" if known and owner in ("", "facebook") else ""


def find_model(name: str) -> ModelEntry | None:
    """Registry entry of a short name ("musicgen-small") or Hub id ("facebook/musicgen-small"), also with @revision."""
    return MODELS.get(name.partition("@")[0].removeprefix("facebook/").removeprefix("declare-lab/"))


def is_miniature(name: str) -> bool:
    """Whether a model of this name ships with the package, for testing only."""
    return any(entry.name == name.rsplit("/", 1)[-1] for entry in SHIPPED)


def miniature_like(name: str) -> str:
    """The shipped model that can do in its small way what this one does; empty where none can, as follow a melody."""
    entry = find_model(name)
    if entry is None:
        return NANO
    melody = isinstance(entry.shape, MusicGenShape) and entry.shape.melody_frames
    return "" if melody else next(model.name for model in SHIPPED if model.family == entry.family)


def closest_names(name: str) -> list[str]:
    """Up to three registered names that are similar to a misspelt one."""
    return difflib.get_close_matches(name.partition("@")[0].rsplit("/", 1)[-1].lower(), MODELS, n=3, cutoff=0.5)
