"""Which files of a repository or folder belong to a base model, by their names alone."""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import Literal

from talim.atomic_io import parse_json
from talim.backbones.registry import UNET_CONFIG

Layout = Literal["transformers", "mustango", "audiocraft", ""]
CONFIG = "config.json"
AUDIOCRAFT_FILES = ("state_dict.bin", "compression_state_dict.bin")
MUSTANGO_WEIGHTS = ("ldm/pytorch_model_ldm.bin", "vae/pytorch_model_vae.bin", "stft/pytorch_model_stft.bin")
MUSTANGO_CONVERTED = MUSTANGO_WEIGHTS[:2]  # those of which reading leaves a copy in safetensors
PREDICTOR_WEIGHTS = ("beats/microsoft-deberta-v3-large.pt", "chords/flan-t5-large.bin")
MUSTANGO_FOLDERS = ("configs", "tokenizer")
PREDICTOR_FOLDERS = ("beats-tokenizer", "chords-tokenizer")
MODEL_TYPES = ("musicgen", "musicgen_melody", "talim-nano-mustango")  # those of config.json that are told apart later
WEIGHT_SUFFIXES = (".safetensors", ".bin", ".pt", ".pth", ".ckpt", ".msgpack", ".h5", ".onnx", ".gguf")
DESCRIPTION_SUFFIXES = (".json", ".md", ".txt", ".model")
# in the order in which transformers looks for them
SHARDS = {"model.safetensors": r"model-\d+-of-\d+\.safetensors", "pytorch_model.bin": r"pytorch_model-\d+-of-\d+\.bin"}


def layout(names: Collection[str]) -> Layout:
    """The kind of checkpoint that files of these names are; empty for none."""
    if UNET_CONFIG in names or any(name.startswith("ldm/") for name in names):
        return "mustango"
    if CONFIG in names:
        return "transformers"
    return "audiocraft" if AUDIOCRAFT_FILES[0] in names else ""


def needed_files(names: Collection[str], predictors: bool = False) -> list[str]:
    """Those of a repository's files that loading the base reads: no second format, no weights of other programs.

    `predictors` adds Mustango's networks for beats and chords.
    """
    kind = layout(names)
    if kind == "mustango":
        folders = (*MUSTANGO_FOLDERS, *(PREDICTOR_FOLDERS if predictors else ()))
        weights = (*MUSTANGO_WEIGHTS, *(PREDICTOR_WEIGHTS if predictors else ()))
        converted = {name: str(Path(name).with_suffix(".safetensors")) for name in weights}
        chosen = {converted[name] if converted[name] in names and name not in names else name for name in weights}
        chosen |= {name for name in names if name.split("/")[0] in folders and not name.endswith(WEIGHT_SUFFIXES)}
    else:
        chosen = set(AUDIOCRAFT_FILES) if kind == "audiocraft" else set(weight_files(names))
    return sorted(name for name in names if name in chosen or _describes(name))


def weight_files(names: Collection[str]) -> list[str]:
    """The weights of a transformers checkpoint in one format: safetensors before .bin, whole before shards."""
    for whole, shards in SHARDS.items():
        if whole in names:
            return [whole]
        if f"{whole}.index.json" in names:
            suffix = Path(whole).suffix
            numbered = [name for name in names if re.fullmatch(shards, name)]
            # shards of other names: all of this format but the checkpoint that audiocraft reads
            rest = [n for n in names if n.endswith(suffix) and "/" not in n and n not in AUDIOCRAFT_FILES]
            return sorted(numbered or rest)
    return []


def lacks_weights(names: Collection[str]) -> bool:
    """Whether a folder of these files has no weights that its layout needs; shards are counted by their names."""
    kind = layout(names)
    if kind == "transformers":
        files = weight_files(names)
        counts = [re.search(r"-of-(\d+)\.", name) for name in files]
        return not files or any(count is not None and int(count[1]) != len(files) for count in counts)
    needed = {"mustango": MUSTANGO_CONVERTED, "audiocraft": AUDIOCRAFT_FILES[:1]}.get(kind, ())
    return not kind or any(not {name, str(Path(name).with_suffix(".safetensors"))} & set(names) for name in needed)


def lacks_tokenizer(names: Collection[str]) -> bool:
    """Whether a transformers checkpoint of these files has none of those that describe a tokenizer."""
    known = any("/" not in name and (name.startswith("tokenizer") or name.endswith(".model")) for name in names)
    return layout(names) == "transformers" and not known


def explains(name: str) -> bool:
    """The model card and the licence, which loading does not read."""
    return "/" not in name and (name.lower().endswith(".md") or name.upper().startswith("LICEN"))


def _describes(name: str) -> bool:
    """A small file at the top: configurations, tokenizers, the card and the licence."""
    return "/" not in name and (name.endswith(DESCRIPTION_SUFFIXES) or name.upper().startswith("LICEN"))


def foreign_model_type(folder: Path) -> str:
    """The model type that config.json names, where talim has no such base; else empty."""
    try:
        values = parse_json((folder / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # reported when the model is loaded
        return ""
    kind = values.get("model_type") if isinstance(values, dict) else None
    return kind if isinstance(kind, str) and kind not in MODEL_TYPES else ""
