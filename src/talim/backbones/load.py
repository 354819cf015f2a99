"""Find a base model by name, folder or Hub id, check it, and put it behind the Protocol."""

from __future__ import annotations

import json
import os
import socket
import urllib.parse
import urllib.request
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch

from talim.backbones import catalogue
from talim.backbones.precision import choose
from talim.errors import TalimError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from talim.backbones.backbone import Backbone

NANO_FOLDER = Path(__file__).parent / "nano" / "weights"  # one folder for each of the family
NANO_CODEC, NANO_MUSTANGO = "talim-nano-codec", "talim-nano-mustango"
REBUILT = ("embed_positions.weights",)  # stored in released files, computed anew by transformers
FP32_PARTS = ("audio_encoder", "text_encoder")


@dataclass(frozen=True)
class Source:
    """Where a base model's files are: a folder (`local`) or a Hub id, and what it is called in public."""

    place: str
    name: str
    local: bool
    known: catalogue.Known | None


def load(
    name_or_folder: str | Path = catalogue.NANO, precision: str = "auto", device: str = "auto"
) -> Backbone:
    """A base model by short name, Hub id or local folder, frozen and ready.

    Raises TalimError where there is no such model, it is refused (melody), or its files do not fit.
    """
    from talim.backbones.musicgen import MusicGen

    source = locate(str(name_or_folder))
    place = torch.device(pick_device(device))
    dtype, reason = choose(precision, place)
    check_reachable(source)
    if family_of(source) == "mustango":
        with teaching(source), quiet():
            return _mustango(source, place, dtype, reason)
    with teaching(source), quiet():
        nano = register_nano(source)
        config = read_config(source)
        _check_codec(source, config)
        model = _read_weights(source, config, dtype)
        tokenizer = _read_tokenizer(source, config)
    return MusicGen(
        model.to(place),
        tokenizer,
        name=source.name,
        licence=licence_of(source),
        miniature=nano or config.audio_encoder.model_type == NANO_CODEC,
        precision_reason=reason,
    )


def _mustango(source: Source, device: torch.device, dtype: torch.dtype, reason: str) -> Backbone:
    said = {"name": source.name, "licence": licence_of(source), "reason": reason}
    if source.local and is_nano_mustango(source):
        from talim.backbones.nano import mustango

        return mustango.load(Path(source.place), device, dtype, **said)
    from talim.backbones.mustango.opening import load_mustango

    return load_mustango(source.place, source.local, device, dtype, **said)


def is_nano_mustango(source: Source) -> bool:
    """Whether a folder holds a nano-mustango."""
    try:
        config = json.loads((Path(source.place) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever reads it in earnest says what is wrong
        return False
    return isinstance(config, dict) and config.get("model_type") == NANO_MUSTANGO


def family_named(name: str) -> str:
    """The family of a base by its name, before it is loaded; TalimError as `load` has it."""
    source = locate(name)
    check_reachable(source)
    return family_of(source)


def family_of(source: Source) -> str:
    """ "mustango" or "musicgen", by what is known of the name or by what lies in the folder."""
    if source.known is not None:
        return source.known.family
    if source.local:
        is_mustango = (Path(source.place) / "ldm").is_dir() or is_nano_mustango(source)
        return "mustango" if is_mustango else "musicgen"
    with teaching(source):
        from huggingface_hub import hf_hub_download

        config = json.loads(Path(hf_hub_download(source.place, "config.json")).read_text(encoding="utf-8"))
    return "mustango" if "unet_model_config_path" in config else "musicgen"


def locate(name: str) -> Source:
    """Which files a name means; TalimError, with names that are near, where it means none."""
    known = catalogue.find(name)
    if known is not None and known.refused:
        raise TalimError(f"base {name!r} is not supported: {known.refused}")
    if known is not None and not known.hub:
        folder = NANO_FOLDER / known.name
        if not (folder / "config.json").is_file():
            raise TalimError(f"{name} is missing from this installation ({folder}); install talim again")
        return Source(str(folder), known.name, True, known)
    folder = Path(name).expanduser()
    if known is None and ((folder / "config.json").is_file() or (folder / "ldm").is_dir()):
        return Source(str(folder), folder.resolve().name, True, None)
    if folder.is_dir() and known is None:
        raise TalimError(
            f"base {name!r} is a folder without config.json; expected a MusicGen or Mustango checkpoint"
        )
    if known is not None:
        return Source(known.hub, known.hub, False, known)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return Source(name, name, False, None)
    raise TalimError(f"base {name!r} is no known model and no folder; {_advice(name)}")


def pick_device(requested: str) -> str:
    """ "auto" is the GPU where there is one."""
    if requested == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if requested.startswith("cuda") and not torch.cuda.is_available():
        raise TalimError(f"device {requested!r} was asked for, but torch sees no GPU here; use cpu or auto")
    return requested


def licence_of(source: Source) -> str:
    """The licence of a known model, or what a local folder's model card states, or "unknown"."""
    if source.known is not None:
        return source.known.licence
    try:
        lines = (Path(source.place) / "README.md").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return "unknown"
    for line in lines[1:60] if lines and lines[0].strip() == "---" else []:
        key, _, value = line.partition(":")
        if key.strip() in {"license", "licence"} and value.strip():
            return value.strip().strip("'\"")
        if line.strip() == "---":
            break
    return "unknown"


@contextmanager
def teaching(source: Source) -> Iterator[None]:
    """Turn whatever a library throws while reading a model into one line that says what to type."""
    try:
        yield
    except TalimError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
        if source.local:
            raise TalimError(f"base {source.name!r} at {source.place} cannot be read: {cause}") from error
        raise TalimError(
            f"base {source.name!r} could not be fetched from the Hugging Face Hub ({cause}); "
            f"{_advice(source.name)}"
        ) from error


def check_reachable(source: Source) -> None:
    """TalimError at once, not after half a minute of retries, where a Hub model cannot be had."""
    if source.local or cached(source.place) or urllib.request.getproxies():
        return
    from huggingface_hub import constants

    host = urllib.parse.urlparse(os.environ.get("HF_ENDPOINT", constants.ENDPOINT)).hostname or ""
    try:
        with socket.create_connection((host, 443), timeout=5):
            return
    except OSError:
        raise TalimError(
            f"base {source.name!r} is not on this machine, and {host} cannot be reached; "
            f"{_advice(source.name)}"
        ) from None


def cached(hub_id: str) -> bool:
    """Whether an earlier download of a Hub model is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)


def _advice(name: str) -> str:
    near = catalogue.near(name)
    hint = f"did you mean {' or '.join(near)}? " if near and catalogue.find(name) is None else ""
    known = catalogue.find(name)
    hub = known.hub if known is not None and known.hub else "facebook/musicgen-small"
    return (
        f"{hint}use nano-musicgen (ships with talim), a Hub id such as {hub}, "
        f"or a folder made with: hf download {hub} --local-dir {hub.rsplit('/', 1)[-1]}"
    )


def register_nano(source: Source) -> bool:
    """Make transformers know the miniature codec where the checkpoint needs it."""
    if not source.local:
        return False
    text = (Path(source.place) / "config.json").read_text(encoding="utf-8")
    if json.loads(text).get("audio_encoder", {}).get("model_type") != NANO_CODEC:
        return False
    from talim.backbones.nano import models

    models.register()
    return True


def read_config(source: Source) -> Any:
    """transformers' configuration of a MusicGen; TalimError for another model."""
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(source.place)
    if config.model_type == "musicgen_melody":
        raise TalimError(f"base {source.name!r} is not supported: {catalogue.MELODY}")
    if config.model_type != "musicgen":
        raise TalimError(f"base {source.name!r} is a {config.model_type} model; expected MusicGen")
    return config


def _read_weights(source: Source, config: Any, dtype: torch.dtype) -> Any:
    from transformers import MusicgenForConditionalGeneration

    class Mixed(MusicgenForConditionalGeneration):
        # a codec in bf16 is audibly worse, and text states must not depend on the decoder's precision
        _keep_in_fp32_modules_strict: ClassVar = list(FP32_PARTS)

        def post_init(self) -> None:
            super().post_init()
            # T5 lets every stray key with "decoder" in it pass, and here that is most of the model
            self._keys_to_ignore_on_load_unexpected = set()

    loaded: Any = Mixed.from_pretrained(source.place, config=config, dtype=dtype, output_loading_info=True)
    model, report = loaded
    unexpected = [key for key in report["unexpected_keys"] if not key.endswith(REBUILT)]
    for what, keys in (("lacks", report["missing_keys"]), ("has unknown", unexpected)):
        if keys:
            some = ", ".join(sorted(keys)[:3])
            raise TalimError(
                f"base {source.name!r} {what} {len(keys)} weights ({some} ...); is the download complete?"
            )
    for part in FP32_PARTS:
        getattr(model, part).float()  # buffers too
    return model


def _read_tokenizer(source: Source, config: Any) -> Any:
    if config.audio_encoder.model_type == NANO_CODEC:
        from talim.backbones.nano.models import ByteTokenizer

        return ByteTokenizer()
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(source.place)


def _check_codec(source: Source, config: Any) -> None:
    """The decoder's codebooks must be the codec's, once per channel."""
    per_channel, codec = config.decoder.num_codebooks // config.decoder.audio_channels, config.audio_encoder
    offered = getattr(codec, "num_quantizers", per_channel)
    if offered < per_channel:
        raise TalimError(
            f"base {source.name!r} expects {per_channel} codebooks a channel, but its codec has {offered}"
        )


@contextmanager
def quiet() -> Iterator[None]:
    """Silence transformers' warnings and bars while a model is read; what matters in them is checked."""
    from transformers.utils import logging

    level, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        if bars:
            logging.enable_progress_bar()
