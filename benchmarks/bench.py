"""What each design costs beside the others: decoding and training steps, in one run, as ratios with their spread.

Run it:  python benchmarks/bench.py                             (the base that ships with the package, 2.5 % each)
         python benchmarks/bench.py --shape small --budget 40M  (MusicGen-small's shape, random weights)
Decoding is `generate` with guidance, adapters in the base's precision, against the bare base; a training step is
forward and backward, against PEFT's LoRA of the same size. All designs take turns in every round, so that a slow
moment of the machine hits them alike; a ratio is of one round, and its median and range over the rounds are shown.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import (
    EncodecConfig,
    MusicgenConfig,
    MusicgenDecoderConfig,
    MusicgenForConditionalGeneration,
    T5Config,
)

from talim.adapters import injection
from talim.backbones import precision, registry
from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.nano.musicgen import ByteTokenizer

PROMPT = "slow flute over a drone"
DESIGNS = ("linear@all", "conv@all", "transformer@all", "conv@deep", "transformer@deep", "lora@all")


def of_shape(size: str) -> MusicGen:
    """A MusicGen of a released size with random weights, small codec and text encoder: only its decoder is timed."""
    shape = registry.SHAPES[size]
    dtype, reason = precision.choose_precision("auto", "cpu")
    text = T5Config(vocab_size=384, d_model=768, d_kv=64, d_ff=256, num_layers=1, num_heads=4)
    codec = EncodecConfig(
        sampling_rate=32000, codebook_size=2048, hidden_size=8, num_filters=4, upsampling_ratios=[8, 5, 4, 4]
    )
    decoder = MusicgenDecoderConfig(
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        ffn_dim=shape.feed_forward,
    )
    config = MusicgenConfig(text_encoder=text, audio_encoder=codec, decoder=decoder)
    model: Any = MusicgenForConditionalGeneration(config)
    model.decoder.to(dtype)
    model.enc_to_dec_proj.to(dtype)
    return MusicGen(model, ByteTokenizer(), name=f"{size} (random)", licence="none", precision_reason=reason)


def adapted(base: MusicGen, design: str) -> MusicGen:
    """A copy of the base with an adapter whose weights are random, so that nothing can be skipped."""
    backbone = copy.deepcopy(base)
    model = injection.attach(backbone.model, design, backbone.sites())
    with torch.no_grad():
        for weight in injection.trainable_parameters(model):
            weight.normal_(std=0.01)
    return backbone


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def rounds(works: dict[str, Callable[[], object]], count: int) -> dict[str, list[float]]:
    """Times of each work, all in turn, after one round that is thrown away."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for index in range(count + 1):
        for name, work in works.items():
            taken = seconds(work)
            if index:
                times[name].append(taken)
    return times


def show(title: str, times: dict[str, list[float]], against: str) -> None:
    """A table of medians, and of ratios round by round against one of the works."""
    print(f"\n{title}")
    for name, taken in times.items():
        ratios = [mine / theirs for mine, theirs in zip(taken, times[against], strict=True)]
        spread = f"{statistics.median(ratios):5.2f}   ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  {name:24} {1000 * statistics.median(taken):9.1f} ms   {spread}")


def main() -> None:
    """Measure and print; changes nothing on disk."""
    parser = argparse.ArgumentParser(description="What each design costs per step")
    parser.add_argument("--base", default="nano-musicgen")
    parser.add_argument("--shape", choices=sorted(registry.SHAPES), help="a released size, random weights")
    parser.add_argument("--budget", default="2.5%")
    parser.add_argument("--design", action="append", help=f"KIND@SITE, repeatable; else {', '.join(DESIGNS)}")
    parser.add_argument("--frames", type=int, default=50, help="decoded at a time")
    parser.add_argument("--seconds", type=float, default=5.0, help="of music in a training clip")
    parser.add_argument("--rounds", type=int, default=7)
    asked = parser.parse_args()

    base: Any = of_shape(asked.shape) if asked.shape else load(asked.base)
    designs = [f"{design}:{asked.budget}" for design in asked.design or DESIGNS]
    print(f"{base.name}, {base.precision_reason}, {torch.get_num_threads()} threads")
    decoding: dict[str, Callable[[], object]] = {}
    training: dict[str, Callable[[], object]] = {}
    for design in ["no adapter", *designs]:
        ready = base if design == "no adapter" else adapted(base, design)
        decoding[design] = decoder_of(ready, asked.frames)
        if design != "no adapter":
            training[design] = step_of(ready, asked.seconds)
    show(f"decoding {asked.frames} frames with guidance", rounds(decoding, asked.rounds), "no adapter")
    lora = next((design for design in designs if design.startswith("lora")), designs[0])
    show(f"training step, one clip of {asked.seconds:g} s", rounds(training, asked.rounds), lora)


def decoder_of(backbone: MusicGen, frames: int) -> Callable[[], object]:
    """Decode so many frames; adapters in the base's precision."""

    def decode() -> None:
        for parameter in injection.trainable_parameters(backbone.model):
            parameter.data = parameter.data.to(backbone.dtype)
        backbone.generate_tokens([PROMPT], frames / backbone.frame_rate_hz, seed=0)

    return decode


def step_of(backbone: MusicGen, clip_seconds: float) -> Callable[[], object]:
    """Forward and backward over one clip; adapters in float32."""
    frames = round(clip_seconds * backbone.frame_rate_hz)
    tokens = np.random.default_rng(0).integers(0, 64, size=(backbone.codebooks, frames)).astype(np.int16)
    batch = backbone.collate([(tokens, backbone.encode_text([PROMPT])[0])], [False])

    def step() -> None:
        for parameter in injection.trainable_parameters(backbone.model):
            parameter.data = parameter.data.float()
        backbone.enable_training()
        backbone.loss(batch).mean.backward()
        backbone.model.zero_grad()

    return step


if __name__ == "__main__":
    main()
