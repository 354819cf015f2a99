"""The files in which MusicGens were released: safetensors, .bin whole and in shards, half precision, audiocraft's."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from fixtures import released_musicgen
from safetensors.torch import load_file, save_file

from stand_in_hub.server import read_folder as read_folder

AUDIOCRAFT_FILES = {"state_dict.bin": b"audiocraft" * 900, "compression_state_dict.bin": b"codec" * 900}


def write_safetensors(folder: Path, channels: int = 1) -> Path:
    """As musicgen-small (mono, fp32) and musicgen-stereo-small (fp16) were released, with a card."""
    released_musicgen.write(folder, channels)
    (folder / "README.md").write_text("---\nlicense: cc-by-nc-4.0\ntags:\n- musicgen\n---\nrandom\n", encoding="utf-8")
    if channels == 2:
        weights = {name: tensor.half() for name, tensor in load_file(folder / "model.safetensors").items()}
        save_file(weights, folder / "model.safetensors", {"format": "pt"})
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        (folder / "config.json").write_text(json.dumps(config | {"torch_dtype": "float16"}), encoding="utf-8")
    return folder


def write_repository(folder: Path) -> Path:
    """A small MusicGen in the layout of musicgen-small, with all that lies in its repository."""
    write_safetensors(folder)
    for name, data in AUDIOCRAFT_FILES.items():
        (folder / name).write_bytes(data)
    return folder


def as_pickle(folder: Path, shards: int = 1, keep_safetensors: bool = False) -> Path:
    """The folder's weights as pytorch_model.bin, in shards with an index if there are several."""
    weights = load_file(folder / "model.safetensors")
    names = sorted(weights)
    parts = [names[index::shards] for index in range(shards)]
    files = (
        [f"pytorch_model-{n + 1:05}-of-{shards:05}.bin" for n in range(shards)] if shards > 1 else ["pytorch_model.bin"]
    )
    for file, part in zip(files, parts, strict=True):
        torch.save({name: weights[name] for name in part}, folder / file)
    if shards > 1:
        where = {name: file for file, part in zip(files, parts, strict=True) for name in part}
        size = sum(tensor.nbytes for tensor in weights.values())
        index = {"metadata": {"total_size": size}, "weight_map": where}
        (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index), encoding="utf-8")
    if not keep_safetensors:
        (folder / "model.safetensors").unlink()
    return folder
