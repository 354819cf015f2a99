"""Writes the shipped checkpoint from codec, text encoder and the weights of `train_packed_decoder`, in bf16.

python -m research.pretraining.nano_musicgen.assemble --codec training/codec/codec --text training/text
    --weights training/packed/weights.safetensors --out training/nano-musicgen
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file

from research.pretraining import nano_models, text_encoder
from research.pretraining.command_line import parse_config
from research.pretraining.nano_musicgen import plain_decoder
from talim.backbones.nano.codec import NanoCodec


@dataclass(frozen=True)
class Config:
    """Folders of codec and text encoder, the decoder's weights, and the checkpoint's folder."""

    codec: Path = Path("training/codec/codec")
    text: Path = Path("training/text")
    weights: Path = Path("training/packed/weights.safetensors")
    out: Path = Path("training/nano-musicgen")


def assemble(codec: Any, text: Path, weights: Path, **shape: int) -> Any:
    """The MusicgenForConditionalGeneration in float32; `shape` is given to `nano_models.nano_config`."""
    model: Any = nano_models.build_nano_musicgen(0, codec, **shape)
    model.config.audio_encoder._name_or_path = ""  # the codec's folder on the machine that trained it
    text_encoder.restore(model.text_encoder, text)
    state = {name: weight.float() for name, weight in load_file(weights).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    absent = [n for n in missing if n.startswith(plain_decoder.PREFIXES) and "embed_positions" not in n]
    if unexpected or absent:
        raise ValueError(f"{weights}: unexpected weights {unexpected}, missing weights {absent}")
    return model


def main() -> None:
    """Assemble and save."""
    config = parse_config(Config, __doc__)
    codec: Any = NanoCodec.from_pretrained(config.codec, dtype=torch.float32)
    assemble(codec, config.text, config.weights).to(torch.bfloat16).save_pretrained(config.out)


if __name__ == "__main__":
    main()
