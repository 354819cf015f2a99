"""Encodes the decoder's training music as codec tokens in packed files.

    python -m research.pretraining.nano_musicgen.pack_tokens --codec training/codec/codec --out training/tokens

writes files of 64 clips of 30 s (ten bits per code, 7.5 kB per clip) with their captions; existing files are not
written again. Several processes divide the work by `--stride` and `--offset`. A clip depends on its number alone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from research.pretraining.command_line import parse_config
from research.pretraining.nano_musicgen import broad_corpus
from research.pretraining.western_style import perform
from talim.backbones.nano.codec import NanoCodec

SECONDS = 30.0
FRAMES = 1500
CODEBOOKS = 4
BITS = 10
CLIPS_PER_FILE = 64
WESTERN_FRACTION = 0.5  # of the clips in the files; the fraction in a batch is the training's setting
FIRST_SEED = 10_000_000  # apart from the codec's pieces (1 and 2 million) and the held-out ones (below 100,000)


@dataclass(frozen=True)
class Config:
    """Settings of the encoding.

    first: number of the first clip
    stride, offset: number of processes that divide the work, and which of them this is
    stop_after_seconds: time after which no further file is begun
    """

    codec: Path = Path("training/codec/codec")
    out: Path = Path("training/tokens")
    first: int = 0
    clips: int = 6000
    stride: int = 1
    offset: int = 0
    stop_after_seconds: float = 1e9


@dataclass(frozen=True)
class Shard:
    """Codes [N, K, T] int16 of N clips, their captions, and their beat and bar in seconds [N, 2], 0 if unknown."""

    codes: np.ndarray
    captions: list[str]
    metre: np.ndarray


def pack(codes: np.ndarray) -> np.ndarray:
    """Codes below 1024 as uint8 [size * 10 / 8], ten bits each; their number has to be a multiple of 4."""
    flat = codes.astype(np.uint16).reshape(-1, 4)
    word = sum(flat[:, n].astype(np.uint64) << np.uint64(BITS * n) for n in range(4))
    return np.ascontiguousarray(word).view(np.uint8).reshape(-1, 8)[:, :5].ravel()


def unpack(packed: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The inverse of `pack`: int16 of `shape`."""
    wide = np.zeros((packed.size // 5, 8), np.uint8)
    wide[:, :5] = packed.reshape(-1, 5)
    word = wide.view(np.uint64)[:, 0]
    parts = [(word >> np.uint64(BITS * n)) & np.uint64(1023) for n in range(4)]
    return np.stack(parts, 1).astype(np.int16).reshape(shape)


def perform_clip(number: int) -> tuple[np.ndarray, str, tuple[float, float]]:
    """Samples float32 [T], caption, and beat and bar in seconds (0 if unknown) of clip `number`."""
    if np.random.default_rng([number, 1]).random() < WESTERN_FRACTION:
        piece = perform(FIRST_SEED + number, "western", SECONDS)
        beat = 60 / float(str(piece.facts["tempo_bpm"]))
        return piece.samples, piece.caption, (beat, beat * int(str(piece.facts["beats_per_bar"])))
    broad = broad_corpus.render_piece(FIRST_SEED + number, SECONDS)
    return broad.samples, broad.caption, (0.0, 0.0)


def write(file: Path, shard: Shard) -> None:
    """Write a shard atomically."""
    part = file.with_suffix(".part.npz")
    shape = np.array(shard.codes.shape)
    np.savez(part, packed=pack(shard.codes), shape=shape, captions=np.array(shard.captions), metre=shard.metre)
    part.replace(file)


def read(file: Path) -> Shard:
    """Read what `write` wrote."""
    with np.load(file) as stored:
        shape = tuple(int(n) for n in stored["shape"])
        return Shard(unpack(stored["packed"], shape), [str(c) for c in stored["captions"]], stored["metre"])


def encode_clips(codec: Any, first: int) -> Shard:
    """The encoded clips `first` to `first + CLIPS_PER_FILE - 1`."""
    codes, captions, metre = [], [], []
    for number in range(first, first + CLIPS_PER_FILE):
        samples, caption, beat_and_bar = perform_clip(number)
        clip_codes = codec.encode(torch.from_numpy(samples)[None, None]).audio_codes[0, 0]
        codes.append(clip_codes[:, :FRAMES].to(torch.int16).numpy())
        captions.append(caption)
        metre.append(beat_and_bar)
    return Shard(np.stack(codes), captions, np.array(metre, np.float32))


def main() -> None:
    """Encode and write."""
    config = parse_config(Config, __doc__)
    torch.set_num_threads(1)
    began = time.time()
    codec: Any = NanoCodec.from_pretrained(config.codec, dtype=torch.float32).eval()
    config.out.mkdir(parents=True, exist_ok=True)
    starts = range(config.first, config.first + config.clips, CLIPS_PER_FILE)
    for first in list(starts)[config.offset :: config.stride]:
        file = config.out / f"tokens-{first:08d}.npz"
        if time.time() - began > config.stop_after_seconds:
            break
        if not file.exists():
            write(file, encode_clips(codec, first))


if __name__ == "__main__":
    main()
