"""Checkpoints of audiocraft: MusicGens as they were first released, and those that its training exports.

state_dict.bin               the language model with its settings, and the name of the text encoder
compression_state_dict.bin   the codec with its settings, or the name of its repository
README.md                    (optional) the licence

Repositories that the files name (t5-base with its tokenizer, at times facebook/encodec_32khz) are looked for in the
folder, under the last part of their name, and else fetched. Nothing pickled is executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from talim.backbones import hub_download
from talim.backbones.hub_download import HubBase
from talim.backbones.musicgen import audiocraft_names
from talim.backbones.musicgen.audiocraft_settings import (
    Settings,
    codec_settings,
    decoder_settings,
    melody_settings,
    text_encoder_name,
)
from talim.backbones.pickled_weights import read_pickled
from talim.backbones.registry import released_configs
from talim.errors import TalimError
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from torch import Tensor

LM_FILE, CODEC_FILE = "state_dict.bin", "compression_state_dict.bin"
CONFIG = "config.json"
T5_BASE = "google-t5/t5-base"  # of all released models
TEXT_PROJECTION = "condition_provider.conditioners.description.output_proj.weight"  # [D of the decoder, D of the text]
EXPORT_ADVICE = "expected a file of audiocraft.utils.export (export_lm, export_encodec), or a released one"


def is_audiocraft(folder: Path) -> bool:
    """Whether a folder holds a checkpoint of audiocraft and none of transformers; imports no torch."""
    return (folder / LM_FILE).is_file() and not (folder / CONFIG).is_file()


@dataclass(frozen=True)
class AudiocraftCheckpoint:
    """A folder with the files of one model."""

    folder: Path

    @cached_property
    def text_encoder(self) -> str:
        """Folder or repository of the text encoder and its tokenizer."""
        name = text_encoder_name(self._settings(LM_FILE))
        return self._repository(name if "/" in name else f"google-t5/{name}")

    @cached_property
    def codec(self) -> str:
        """Folder or repository of a codec in transformers' layout; empty if the codec is in the folder's own file."""
        name = self._package(CODEC_FILE).get("pretrained", "")
        if not isinstance(name, str) or name.startswith("dac_"):
            raise TalimError(
                f"{self.folder / CODEC_FILE}: the codec {name!r:.60} is not supported; expected an EnCodec"
            )
        return self._repository(name) if name else ""

    @property
    def sources(self) -> str:
        """What is read besides the two files, in one sentence."""
        parts = {"text encoder and tokenizer": self.text_encoder} | ({"codec": self.codec} if self.codec else {})
        read = ", ".join(f"{part} from {name}" for part, name in parts.items())
        return f"audiocraft's files, converted while they are read; {read}"

    @property
    def preprocessor(self) -> dict[str, int]:
        """Settings of the melody's chromagram, as transformers' preprocessor_config.json names them."""
        return melody_settings(self._settings(LM_FILE)) or {}

    @cached_property
    def config(self) -> dict[str, Any]:
        """What transformers' config.json of this model would hold; TalimError where transformers has no such model."""
        file = self.folder / LM_FILE
        projection = self._weights(LM_FILE).get(TEXT_PROJECTION)
        if projection is None or projection.ndim != 2:
            raise TalimError(f"{file} lacks {TEXT_PROJECTION}; expected a MusicGen that hears text")
        text_width = projection.shape[1]
        decoder = decoder_settings(self._settings(LM_FILE), text_width)
        window_seconds = decoder.pop("talim_window_seconds")
        text = self._text_config()
        if text["d_model"] != text_width:
            raise TalimError(
                f"{file} was trained on text states of {text_width} channels, and {self.text_encoder} has "
                f"{text['d_model']}; give the text encoder that it was trained with"
            )
        parts = {"decoder": decoder, "text_encoder": text, "audio_encoder": self._codec_config()}
        values = {"model_type": "musicgen", **parts, "talim_window_seconds": window_seconds}
        if chroma := self.preprocessor:
            decoder["model_type"] = "musicgen_melody_decoder"
            frames = 1 + int(window_seconds * chroma["sampling_rate"]) // chroma["hop_length"]
            values |= {"model_type": "musicgen_melody", "num_chroma": chroma["num_chroma"], "chroma_length": frames}
        return values

    def weights(self) -> dict[str, Tensor]:
        """Weights of the whole model under the names of the transformers classes, in the precision of the files."""
        renamed = audiocraft_names.language_model_weights(self._weights(LM_FILE), str(self.folder / LM_FILE))
        if not any(name.startswith("text_encoder.") for name in renamed):
            from transformers import T5EncoderModel

            renamed |= self._part_weights(T5EncoderModel, self.text_encoder, "text_encoder")
        if self.codec:
            from transformers import EncodecModel

            return renamed | self._part_weights(EncodecModel, self.codec, "audio_encoder")
        return renamed | audiocraft_names.codec_weights(self._weights(CODEC_FILE), str(self.folder / CODEC_FILE))

    def _codec_config(self) -> dict[str, Any]:
        if not self.codec:
            return codec_settings(self._settings(CODEC_FILE))
        from transformers import EncodecConfig

        return EncodecConfig.from_pretrained(self._fetched(self.codec, whole=False)).to_dict()

    def _text_config(self) -> dict[str, Any]:
        """Settings of the text encoder; those of t5-base are known."""
        from transformers import T5Config

        t5: Any = T5Config  # accepts more than its signature
        if self.text_encoder == T5_BASE:
            config = t5(**released_configs()["t5_base"])
        else:
            config = t5.from_pretrained(self._fetched(self.text_encoder, whole=False))
        return config.to_dict() | {"model_type": "t5", "is_encoder_decoder": False}

    def _part_weights(self, model_class: Any, name: str, part: str) -> dict[str, Tensor]:
        """Weights of a part; TalimError where its files lack some, which transformers would draw at random."""
        model, report = model_class.from_pretrained(self._fetched(name), output_loading_info=True)
        if missing := sorted(report["missing_keys"]):
            examples = ", ".join(missing[:3])
            lost = format_counted(len(missing), "weight")
            raise TalimError(f"{name} lacks {lost} ({examples} ...); is the download complete?")
        return {f"{part}.{key}": weight for key, weight in model.state_dict().items()}

    def _fetched(self, name: str, whole: bool = True) -> Path:
        """The folder of a repository, downloaded where it is not here; without weights unless `whole`."""
        if Path(name).is_dir():
            return Path(name)
        base = HubBase(f"{name} (part of {self.folder.name})", name, is_part=True)
        try:
            return hub_download.fetch(base) if whole else hub_download.fetch_description(base)
        except TalimError as error:
            folder = self.folder / name.rsplit("/", 1)[-1]
            raise TalimError(f"{self.folder} needs {name}, as {folder} or from the Hub: {error}") from error

    def _repository(self, name: str) -> str:
        inside = self.folder / name.rsplit("/", 1)[-1]
        return str(inside) if (inside / CONFIG).is_file() else name

    def _settings(self, file: str) -> Settings:
        return Settings(self._package(file).get("xp.cfg"), str(self.folder / file))

    def _weights(self, file: str) -> dict[str, Tensor]:
        from torch import Tensor

        weights = self._package(file).get("best_state")
        if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
            raise TalimError(f"{self.folder / file} holds no weights by name under best_state; {EXPORT_ADVICE}")
        return dict(weights)

    def _package(self, file: str) -> Mapping[str, Any]:
        return self._packages[file]

    @cached_property
    def _packages(self) -> dict[str, Mapping[str, Any]]:
        return {file: _read_package(self.folder / file) for file in (LM_FILE, CODEC_FILE)}


def _read_package(path: Path) -> Mapping[str, Any]:
    """A pickled dict of tensors and texts, mapped into memory; TalimError for anything else in it."""
    if not path.is_file():
        raise TalimError(f"{path.parent} lacks {path.name}, the codec of the model; copy it into the folder")
    package = read_pickled(path, "read without running code in it", EXPORT_ADVICE)
    if not isinstance(package, Mapping):
        raise TalimError(f"{path} holds a {type(package).__name__}; {EXPORT_ADVICE}")
    return package
