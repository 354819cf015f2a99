"""The released checkpoint: a folder of configurations and weight files, read without unpickling anything.

config.json or configs/main_config.json      configs/music_diffusion_model_config.json
configs/vae_config.json                      configs/stft_config.json
ldm/pytorch_model_ldm.bin                    vae/pytorch_model_vae.bin
beats/microsoft-deberta-v3-large.pt          chords/flan-t5-large.bin   (only where music is predicted)
tokenizer/                                   (optional; otherwise found by the text encoder's name)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from talim.atomic_io import read_json
from talim.backbones.mustango import weight_names
from talim.errors import TalimError

HUB_FILES = ("config.json", "README.md", "configs/*", "ldm/*", "vae/*", "stft/*", "tokenizer/*")
PREDICTOR_FILES = ("beats/*", "chords/*", "beats-tokenizer/*", "chords-tokenizer/*")
BEATS, CHORDS = "beats/microsoft-deberta-v3-large.pt", "chords/flan-t5-large.bin"
LDM, VAE, STFT = "ldm/pytorch_model_ldm.bin", "vae/pytorch_model_vae.bin", "stft/pytorch_model_stft.bin"
UNET_CONFIG = "configs/music_diffusion_model_config.json"
VAE_CONFIG, STFT_CONFIG = "configs/vae_config.json", "configs/stft_config.json"
MAIN_CONFIGS = ("configs/main_config.json", "config.json")
ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class CheckpointFiles:
    """A folder in the released layout."""

    folder: Path

    @property
    def main(self) -> dict[str, Any]:
        """Names the text encoder, among things that nobody reads."""
        for name in MAIN_CONFIGS:
            if (self.folder / name).is_file():
                return read_json(self.folder / name)
        raise TalimError(
            f"{self.folder}: neither {' nor '.join(MAIN_CONFIGS)}; expected a Mustango checkpoint"
        )

    def config(self, name: str) -> dict[str, Any]:
        """One of the other configurations."""
        return read_json(self.folder / name)

    def unet_config(self) -> dict[str, Any]:
        """The U-Net's configuration."""
        return self.config(self.main.get("unet_model_config_path") or UNET_CONFIG)

    def weights(self, name: str) -> dict[str, Tensor]:
        """A weight file's tensors; converted to safetensors the first time, and read from there afterwards."""
        source = self.folder / name
        converted = source.with_suffix(".safetensors")
        if not source.is_file() and not converted.is_file():
            raise TalimError(f"{self.folder} lacks {name}; is the download complete?")
        if converted.is_file() and (not source.is_file() or _stamp(source) == _stored_stamp(converted)):
            return _read_safetensors(converted)
        tensors = _read_pickled(source)
        if name in (LDM, VAE):
            _convert(tensors, converted, _stamp(source))
        return tensors


def fetch_checkpoint(place: str, local: bool, predictors: bool = False) -> Path:
    """The folder of a checkpoint, downloaded where `place` is a Hub id; predictors only when asked for."""
    if local:
        return Path(place)
    from huggingface_hub import snapshot_download

    wanted: list[str] = [*HUB_FILES, *(PREDICTOR_FILES if predictors else ())]
    return Path(snapshot_download(place, allow_patterns=wanted))


def _read_pickled(path: Path) -> dict[str, Tensor]:
    """A state dict; anything in the file but tensors is refused, unread."""
    try:
        try:
            found = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        except RuntimeError:  # files of torch before 1.6 cannot be mapped
            found = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        cause = " ".join(str(error).split())[:120]
        raise TalimError(
            f"{path} cannot be read as plain weights ({cause}); a file with code in it is refused, a broken "
            "one needs another download"
        ) from error
    if not isinstance(found, Mapping) or not all(isinstance(value, Tensor) for value in found.values()):
        raise TalimError(f"{path} holds no plain weights; expected tensors by name")
    return dict(found)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        return {name: _aligned(tensor) for name, tensor in load_file(path).items()}
    except Exception as error:
        raise TalimError(f"{path} cannot be read ({error}); delete it, it is then made again") from error


def _aligned(tensor: Tensor) -> Tensor:
    """Where a CPU's sums begin depends on where a matrix lies; here it lies as in the file that was unpickled."""
    return tensor if tensor.data_ptr() % ALIGNMENT == 0 else tensor.clone()


def _stamp(source: Path) -> str:
    status = source.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _stored_stamp(converted: Path) -> str:
    from safetensors import safe_open

    try:
        with safe_open(converted, "pt") as file:
            return (file.metadata() or {}).get("converted_from", "")
    except Exception:  # torn or of another format: converted again
        return ""


def _convert(tensors: Mapping[str, Tensor], path: Path, stamp: str) -> None:
    """Write what is read once more, without the tables that nobody reads; a folder we may not write stays."""
    from safetensors.torch import save_file

    kept: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name not in weight_names.UNUSED_KEYS:
            # aliases share memory, which safetensors refuses; they are dropped, as they are on reading
            alias = name in weight_names.ALIASES and weight_names.ALIASES[name] in tensors
            if not alias:
                kept[name] = tensor.contiguous()
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(kept, partial, metadata={"converted_from": stamp})
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
