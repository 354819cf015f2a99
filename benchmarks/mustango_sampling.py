"""Speed of Mustango's sampling: what is kept between steps, batches, and samplers, all in one run.

    python -m benchmarks.mustango_sampling                    (nano-mustango)
    python -m benchmarks.mustango_sampling --shape released   (the released U-Net's shape, random weights)

A step is one call of the U-Net with guidance, for `pieces` at once; its ratio is the time of the model's plain forward,
as in training, to that of the call with a `SamplingMemory`. A piece is a whole `generate_tokens`; its ratio is the time
of calls one at a time with 100 steps of `ddpm`, through the plain forward, to that of the setting, for each piece. The
variants alternate within each round and ratios are taken within a round: their median, and the lowest and highest.
Processor time of all threads stands beside wall time. Weights of equal shape share their memory in the released shape,
which would else take 5.7 GB, and clips are short (--frames).
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any
from unittest import mock

import torch
from transformers import T5Config

from talim.backbones import precision
from talim.backbones.load import load
from talim.backbones.mustango import backbone as mustango
from talim.backbones.mustango.batch import beat_chord_tokens, pad_states
from talim.backbones.mustango.model import ModelDims, MustangoModel
from talim.backbones.mustango.unet import SamplingMemory
from talim.backbones.mustango.unet_config import UNetConfig
from talim.beats_chords import BeatsAndChords

PROMPT = "a slow waltz for flute and drums in G major"
WORDS, WIDTH, BANDS = 12, 1024, 16  # of the released shape
MUSIC = {"text": BeatsAndChords(), "text, beats, chords": BeatsAndChords.parse("120 bpm 3/4", "Gm@0 Eb/G@2 F7@5", 10.0)}
RELEASED: dict[str, Any] = {
    "in_channels": 8,
    "out_channels": 8,
    "block_out_channels": [320, 640, 1280, 1280],
    "attention_head_dim": [5, 10, 20, 20],
    "layers_per_block": 2,
    "cross_attention_dim": WIDTH,
    "down_block_types": [*["CrossAttnDownBlock2DMusic"] * 3, "DownBlock2D"],
    "mid_block_type": "UNetMidBlock2DCrossAttnMusic",
    "up_block_types": ["UpBlock2D", *["CrossAttnUpBlock2DMusic"] * 3],
    "norm_num_groups": 32,
    "use_linear_projection": True,
}
BEFORE = (1, 100, "ddpm")  # pieces at once, steps, sampler
SAMPLED = ((1, 100, "ddpm"), (1, 25, "dpm++"), (8, 25, "dpm++"))  # pieces at once, steps, sampler: the default first
FACTS = ("what", "shape", "pieces", "frames", "conditions", "steps", "sampler", "precision")
Times = dict[str, list[tuple[float, float]]]  # wall and processor seconds


def released_model(dtype: torch.dtype) -> MustangoModel:
    """The released U-Net's shape; weights of equal shape are one random tensor."""
    text = T5Config(vocab_size=8, d_model=WIDTH, d_kv=4, d_ff=4, num_layers=1, num_heads=1)
    with torch.device("meta"):
        model = MustangoModel(UNetConfig.of(RELEASED), text, ModelDims(*[WIDTH] * 5)).requires_grad_(False)
    source, shared = torch.Generator().manual_seed(0), {}
    for module in model.modules():
        for name, weight in list(module.named_parameters(recurse=False)):
            kind = (tuple(weight.shape), isinstance(module, torch.nn.GroupNorm | torch.nn.LayerNorm))
            if kind not in shared:
                drawn = torch.randn(weight.shape, generator=source) / max(1, weight[0].numel()) ** 0.5
                shared[kind] = (1 + 0.1 * drawn if kind[1] else drawn).to(dtype)
            setattr(module, name, torch.nn.Parameter(shared[kind], requires_grad=False))
    return model.eval()


def alternating(calls: dict[str, Callable[[], object]], rounds: int) -> Times:
    """Seconds of each call per round, after one that is not counted."""
    times: Times = {name: [] for name in calls}
    for index in range(rounds + 1):
        for name, call in calls.items():
            wall, processor = time.perf_counter(), time.process_time()
            call()
            if index:
                times[name].append((time.perf_counter() - wall, time.process_time() - processor))
    return times


def row_of(times: Times, name: str, reference: str, per: float = 1.0, **facts: Any) -> dict[str, Any]:
    """How many times as fast as `reference`; `per`: reference's units of work for one of this call's."""
    pairs = list(zip(times[reference], times[name], strict=True))
    wall, processor = ([per * slow[part] / fast[part] for slow, fast in pairs] for part in (0, 1))
    taken = statistics.median(one[0] for one in times[name])
    spread = {"ratio": statistics.median(wall), "low": min(wall), "high": max(wall)}
    return facts | spread | {"processor_ratio": statistics.median(processor), "milliseconds": 1000 * taken}


def step_rows(model: MustangoModel, shape: tuple[int, int, int], facts: dict[str, Any], rounds: int) -> Iterator[Any]:
    """One step, with and without beats and chords; `facts` has `pieces`."""
    pieces = facts["pieces"]
    width = model.unet.config.context_width[0]
    states = [torch.randn(1, width).numpy()] * pieces + [torch.randn(WORDS, width).numpy()] * pieces
    latents = torch.randn(2 * pieces, *shape)
    levels = torch.full((2 * pieces,), 500)
    for conditions, music in MUSIC.items():
        given = [*pad_states(states), *beat_chord_tokens([BeatsAndChords()] * pieces + [music] * pieces)]
        memory = SamplingMemory()
        with torch.no_grad():
            calls: dict[str, Callable[[], object]] = {
                "plain": lambda given=given: model(latents, levels, *given),
                "kept": lambda given=given, memory=memory: model(latents, levels, *given, memory),
            }
            times = alternating(calls, rounds)
        yield row_of(times, "kept", "plain", what="step", conditions=conditions, **facts)


def piece_rows(base: Any, seconds: float, rounds: int) -> Iterator[Any]:
    """Whole pieces, alone and eight at once, by two samplers."""

    def make(count: int, steps: int, sampler: str) -> None:
        base.generate_tokens([PROMPT] * count, seconds, seed=0, sampling_steps=steps, sampler=sampler)

    def before() -> None:
        with mock.patch.object(mustango, "SamplingMemory", return_value=None):
            make(*SAMPLED[0])

    calls: dict[str, Callable[[], object]] = {"before": before}
    for count, steps, sampler in SAMPLED:
        calls[f"{count} x {sampler} {steps}"] = partial(make, count, steps, sampler)
    times = alternating(calls, rounds)
    for count, steps, sampler in SAMPLED:
        facts = {"what": "piece", "shape": "nano", "pieces": count, "steps": steps, "sampler": sampler}
        facts |= {"frames": base._frames(seconds), "precision": str(base.dtype).split(".")[1]}
        yield row_of(times, f"{count} x {sampler} {steps}", "before", count, **facts)


def rows(options: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """All rows of a shape."""
    if options.shape == "released":
        dtype, _ = precision.choose_precision(options.precision, "cpu")
        model, frames = released_model(dtype), options.frames
        for pieces in options.pieces or (1,):
            facts = {"shape": "released", "pieces": pieces, "frames": frames, "precision": str(dtype).split(".")[1]}
            yield from step_rows(model, (8, frames, BANDS), facts, options.rounds)
        return
    base: Any = load("nano-mustango", precision=options.precision)
    base.model.eval()
    frames = base._frames(options.seconds)
    for pieces in options.pieces or (1, 8):
        facts = {"shape": "nano", "pieces": pieces, "frames": frames, "precision": str(base.dtype).split(".")[1]}
        shape = (base.mel_vae.channels, frames, base.mel_vae.bands)
        yield from step_rows(base.model, shape, facts, options.rounds)
    yield from piece_rows(base, options.seconds, options.rounds)


def main(arguments: list[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--shape", choices=("nano", "released"), default="nano")
    parser.add_argument("--precision", choices=("auto", "fp32", "bf16"), default="fp32")
    parser.add_argument("--frames", type=int, default=32, help="latent frames of the released shape, 25 a second")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of nano's pieces")
    parser.add_argument("--pieces", type=int, action="append", help="at once, for a step; repeatable")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true", help="one JSON document instead of lines")
    options = parser.parse_args(arguments)
    found = []
    for row in rows(options):
        found.append(row)
        if not options.json:
            spread = f"{row['ratio']:5.2f} times ({row['low']:.2f} to {row['high']:.2f})"
            told = ", ".join(f"{v}" for k, v in row.items() if k in FACTS)
            print(f"{told}: {spread}, processor {row['processor_ratio']:.2f}, {row['milliseconds']:.1f} ms", flush=True)
    if options.json:
        print(json.dumps({"threads": torch.get_num_threads(), "rows": found}, indent=1))


if __name__ == "__main__":
    main()
