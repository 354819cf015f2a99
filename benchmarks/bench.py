"""What an adapter costs: a training step against a forward pass, and decoding with it against without.

Run it:  python benchmarks/bench.py                       (the base that ships with the package)
         python benchmarks/bench.py --base facebook/musicgen-small --design linear@all:2.5%
Each figure is the median of several runs after one that is thrown away; ratios are what to compare.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch

from talim.adapters import expression, tuner
from talim.backbones.load import load

PROMPT = "slow flute over a drone"


def median_seconds(work: Callable[[], object], repeats: int) -> float:
    """Median wall time of `work` over `repeats` calls, after one to warm up."""
    times = []
    for _ in range(repeats + 1):
        began = time.perf_counter()
        work()
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    return statistics.median(times[1:])


def main() -> None:
    """Measure and print; changes nothing on disk."""
    parser = argparse.ArgumentParser(description="What an adapter costs per step")
    parser.add_argument("--base", default="nano-musicgen")
    parser.add_argument("--design", default="linear@all:2.5%")
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument("--repeats", type=int, default=5)
    asked = parser.parse_args()

    backbone = load(asked.base)
    frames = round(asked.seconds * backbone.frame_rate_hz)
    draws = np.random.default_rng(0)
    tokens = draws.integers(0, 64, size=(asked.batch, backbone.codebooks, frames)).astype(np.int16)
    states = backbone.describe([PROMPT] * asked.batch)
    batch = backbone.collate(list(zip(tokens, states, strict=True)), [False] * asked.batch)

    def forward() -> None:
        with torch.no_grad():
            backbone.loss(batch)

    def decode() -> None:
        backbone.generate([PROMPT], asked.seconds, seed=0)

    forward_alone = median_seconds(forward, asked.repeats)
    decode_alone = median_seconds(decode, asked.repeats)
    adapted = tuner.attach(backbone.model, expression.parse(asked.design), backbone.sites())

    def step() -> None:
        backbone.loss(batch).mean.backward()
        adapted.zero_grad()

    decode_adapted = median_seconds(decode, asked.repeats)
    backbone.enable_training(False)
    train_step = median_seconds(step, asked.repeats)

    trained = sum(parameter.numel() for parameter in tuner.trainable_parameters(adapted))
    per_frame_ms, step_ratio, decode_ratio = (
        1000 * decode_alone / frames,
        train_step / forward_alone,
        decode_adapted / decode_alone,
    )
    print(f"{backbone.name}, {asked.design} ({trained} parameters), {backbone.device}")
    print(f"precision: {backbone.precision_reason}")
    print(f"forward pass of the base   {forward_alone:8.3f} s   {asked.batch} clips of {asked.seconds:g} s")
    print(f"training step, adapted     {train_step:8.3f} s   {step_ratio:.2f} times the forward pass")
    print(f"decoding, base alone       {decode_alone:8.3f} s   {per_frame_ms:.1f} ms a frame")
    print(f"decoding, adapted          {decode_adapted:8.3f} s   {decode_ratio:.2f} times the base")


if __name__ == "__main__":
    main()
