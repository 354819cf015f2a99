"""Files of the released checkpoint, read without executing pickled code.

config.json or configs/main_config.json      configs/music_diffusion_model_config.json
configs/vae_config.json                      configs/stft_config.json
ldm/pytorch_model_ldm.bin                    vae/pytorch_model_vae.bin
beats/microsoft-deberta-v3-large.pt          chords/flan-t5-large.bin   (only for prediction)
tokenizer/                                   (optional; else found by the text encoder's name)
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from talim.atomic_io import read_json
from talim.backbones.checkpoint_layout import MUSTANGO_WEIGHTS, PREDICTOR_WEIGHTS
from talim.backbones.mustango import weight_names
from talim.backbones.pickled_weights import read_pickled
from talim.backbones.registry import UNET_CONFIG
from talim.errors import TalimError

BEATS, CHORDS = PREDICTOR_WEIGHTS
LDM, VAE, STFT = MUSTANGO_WEIGHTS
VAE_CONFIG, STFT_CONFIG = "configs/vae_config.json", "configs/stft_config.json"
MAIN_CONFIGS = ("configs/main_config.json", "config.json")
ALIGNMENT = 64  # bytes


@dataclass(frozen=True)
class CheckpointFiles:
    """A checkpoint folder in the released layout."""

    folder: Path

    @property
    def main(self) -> dict[str, Any]:
        """The main configuration, which names the text encoder."""
        for name in MAIN_CONFIGS:
            if (self.folder / name).is_file():
                return read_json(self.folder / name)
        raise TalimError(f"{self.folder}: neither {' nor '.join(MAIN_CONFIGS)}; expected a Mustango checkpoint")

    def config(self, name: str) -> dict[str, Any]:
        return read_json(self.folder / name)

    def unet_config(self) -> dict[str, Any]:
        return self.config(self.main.get("unet_model_config_path") or UNET_CONFIG)

    def weights(self, name: str) -> dict[str, Tensor]:
        """Tensors of a weight file, which is converted to safetensors the first time."""
        source = self.folder / name
        converted = source.with_suffix(".safetensors")
        if not source.is_file() and not converted.is_file():
            raise TalimError(f"{self.folder} lacks {name}; is the download complete?")
        if converted.is_file() and (not source.is_file() or _stamp(source) == _stored_stamp(converted)):
            return _read_safetensors(converted)
        tensors = _read_state_dict(source)
        if name in (LDM, VAE):
            _convert(tensors, converted, _stamp(source))
        return tensors


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """A state dict; TalimError for a file with anything but tensors."""
    weights = read_pickled(
        path, "read as plain weights", "files with code are rejected, damaged ones need another download"
    )
    if not isinstance(weights, Mapping) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise TalimError(f"{path} holds no plain weights; expected tensors by name")
    return dict(weights)


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors.torch import load_file

    try:
        tensors = load_file(path)
    except Exception as error:
        raise TalimError(f"{path} cannot be read ({error}); delete it to have it made again") from error
    # at aligned addresses, as CPU sums depend on memory alignment
    return {name: value if value.data_ptr() % ALIGNMENT == 0 else value.clone() for name, value in tensors.items()}


def _stamp(source: Path) -> str:
    status = source.stat()
    return f"{status.st_size}-{status.st_mtime_ns}"


def _stored_stamp(converted: Path) -> str:
    from safetensors import safe_open

    try:
        with safe_open(converted, "pt") as file:
            return (file.metadata() or {}).get("converted_from", "")
    except Exception:  # damaged or of another format: converted again
        return ""


def _convert(tensors: Mapping[str, Tensor], path: Path, stamp: str) -> None:
    """Write the used weights as safetensors; nothing happens if the folder is not writable."""
    from safetensors.torch import save_file

    # aliases share memory, which safetensors rejects; they are dropped on reading, too
    unused = {*weight_names.UNUSED_KEYS, *(alias for alias, name in weight_names.ALIASES.items() if name in tensors)}
    used = {name: tensor.contiguous() for name, tensor in tensors.items() if name not in unused}
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        save_file(used, partial, metadata={"converted_from": stamp})
        os.replace(partial, path)
    except OSError:
        partial.unlink(missing_ok=True)
