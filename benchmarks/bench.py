"""Decoding and training speed of the adapter kinds, all in one run, as ratios with their range.

    python -m benchmarks.bench                             (nano-musicgen, 2.5 % each)
    python -m benchmarks.bench --shape small --budget 40M  (MusicGen-small's shape, random weights)

Decoding is `generate` with guidance, adapters in the base's precision, relative to the bare base; a training step is
forward and backward, relative to PEFT's LoRA of the same size. The designs alternate within each round, so that a
slow moment of the machine affects all of them; ratios are taken within a round, and their median and range shown.
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

from research.validation.random_musicgen import random_musicgen
from talim.adapters import injection
from talim.backbones import precision, registry
from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen

PROMPT = "slow flute over a drone"
DESIGNS = ("linear@all", "conv@all", "transformer@all", "conv@deep", "transformer@deep", "lora@all")


def load_shape(size: str, device: str = "cpu") -> MusicGen:
    """A MusicGen of a released size with random weights in the device's usual precision."""
    dtype, reason = precision.choose_precision("auto", device)
    return random_musicgen(registry.SHAPES[size], dtype, device, reason)


def adapted(base: MusicGen, design: str) -> MusicGen:
    """A copy of the base with an adapter of random weights (a new adapter would be the identity)."""
    backbone = copy.deepcopy(base)
    model = injection.attach(backbone.model, design, backbone.sites())
    with torch.no_grad():
        for weight in injection.trainable_parameters(model):
            weight.normal_(std=0.01)
    return backbone


def alternating_times(calls: dict[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Wall seconds of each call per round, after one warm-up round."""
    times: dict[str, list[float]] = {name: [] for name in calls}
    for index in range(rounds + 1):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            if index:
                times[name].append(time.perf_counter() - began)
    return times


def print_table(title: str, times: dict[str, list[float]], baseline: str) -> None:
    """Median milliseconds, and the ratio to the baseline within each round as median and range."""
    print(f"\n{title}")
    for name, taken in times.items():
        ratios = [seconds / reference for seconds, reference in zip(taken, times[baseline], strict=True)]
        spread = f"{statistics.median(ratios):5.2f}   ({min(ratios):.2f} to {max(ratios):.2f})"
        print(f"  {name:24} {1000 * statistics.median(taken):9.1f} ms   {spread}")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of decoding and training by design")
    parser.add_argument("--base", default="nano-musicgen")
    parser.add_argument("--shape", choices=sorted(registry.SHAPES), help="a released size with random weights")
    parser.add_argument("--budget", default="2.5%")
    parser.add_argument("--design", action="append", help=f"KIND@SITE, repeatable; default: {', '.join(DESIGNS)}")
    parser.add_argument("--frames", type=int, default=50, help="codec frames to decode")
    parser.add_argument("--seconds", type=float, default=5.0, help="length of the training clip")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()

    base: Any = load_shape(options.shape) if options.shape else load(options.base)
    designs = [f"{design}:{options.budget}" for design in options.design or DESIGNS]
    print(f"{base.name}, {base.precision_reason}, {torch.get_num_threads()} threads")
    decoding: dict[str, Callable[[], object]] = {}
    training: dict[str, Callable[[], object]] = {}
    for design in ["no adapter", *designs]:
        backbone = base if design == "no adapter" else adapted(base, design)
        decoding[design] = decoder_of(backbone, options.frames)
        if design != "no adapter":
            training[design] = step_of(backbone, options.seconds)
    print_table(
        f"decoding {options.frames} frames with guidance", alternating_times(decoding, options.rounds), "no adapter"
    )
    lora = next((design for design in designs if design.startswith("lora")), designs[0])
    print_table(f"training step, one clip of {options.seconds:g} s", alternating_times(training, options.rounds), lora)


def decoder_of(backbone: MusicGen, frames: int, batch: int = 1) -> Callable[[], object]:
    """A call that decodes `frames` frames of `batch` pieces, adapters in the base's precision."""

    def decode() -> None:
        for parameter in injection.trainable_parameters(backbone.model):
            parameter.data = parameter.data.to(backbone.dtype)
        backbone.generate_tokens([PROMPT] * batch, frames / backbone.frame_rate_hz, seed=0)

    return decode


def step_of(backbone: MusicGen, clip_seconds: float) -> Callable[[], object]:
    """A call that does forward and backward over one clip, adapters in float32."""
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
