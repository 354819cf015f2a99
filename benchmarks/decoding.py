"""Speed of MusicGen's decoding against transformers' generate(), step for step, in one run.

    python -m benchmarks.decoding [--shapes nano,small] [--batches 1,8,16] [--precisions auto,int8]
        [--designs conv@all:2.5%,lora@post:r8,control] [--start FRAMES] [--json] [--page PAGE]

Each round times the steps of one call of generate() for one piece, which is how pieces were made before, and then of
each design and batch. A ratio is (pieces x milliseconds a step of generate()) / milliseconds a step here, within a
round; the table shows its median and range. generate() runs in the base's usual precision (`--reference fp32`: as on a
CPU without bf16) and with the same adapter. `overhead` is milliseconds a step over those of the base alone in the same
round. The design `control` is the base against itself: its ratio must be 1.0 within its range, and no difference
smaller than that range was measured. `calls` are operations of torch a step, which no load of the machine changes.
The limit is the time that reading the weights of a step takes at the bandwidth measured in the same round. Guidance
is on (two rows for a piece); with `--start` all pieces go on from so many frames of random codes; weights of `small`
are random. `--loss` measures what int8 does to the loss on performed pieces that no training used.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from benchmarks.bench import PROMPT, adapted
from research.pretraining.western_style import perform
from research.validation.random_musicgen import random_musicgen
from talim.adapters import injection
from talim.audio import Audio
from talim.backbones import precision, registry
from talim.backbones.load import load
from talim.backbones.musicgen import decoding, sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.delay_pattern import apply_delay_pattern, cross_entropy

NONE = "none"
KINDS = ("linear", "conv", "transformer", "lora")
CONTROL = "control"
DESIGNS = (NONE, CONTROL, *(f"{kind}@{site}:2.5%" for kind in KINDS for site in ("all", "post")))
STEPS = {"nano": 60, "small": 12}
WARM_UP_STEPS = 3
BANDWIDTH_BYTES = 512 * 2**20
COUNTED_STEPS = 8 + 2 * WARM_UP_STEPS
HELD_OUT_SEEDS = 700  # of performances; training begins at a million
Row = dict[str, Any]


def step_seconds(call: Callable[[Callable[[int, int], None]], object]) -> float:
    """Median seconds between two reports of progress, which come once a step."""
    times: list[float] = []
    call(lambda *_: times.append(time.perf_counter()))
    return statistics.median(np.diff(times[WARM_UP_STEPS:]))


def random_codes(base: MusicGen, frames: int) -> np.ndarray:
    """What pieces go on from, int16 [K, frames]."""
    return np.random.default_rng(0).integers(0, base.special_token, (base.codebooks, frames)).astype(np.int16)


def by_transformers(base: MusicGen, steps: int, start: int = 0) -> float:
    """Seconds a step of generate() for one piece that goes on from `start` frames."""
    seconds = steps / base.frame_rate_hz
    windows = sampling.split_into_windows(seconds, base.frame_rate_hz, base.window_seconds, start)
    options = sampling.SamplingOptions(seconds, 0)
    conditions = base._conditions([PROMPT], None, True)
    codes = torch.from_numpy(random_codes(base, start).astype(np.int64))[None]
    return step_seconds(
        lambda report: sampling.generate_codes(base.model, conditions, 1, windows, options, base.delays, report, codes)
    )


def by_talim(base: MusicGen, steps: int, batch: int, start: int = 0) -> float:
    """Seconds a step for `batch` pieces."""
    seconds, codes = steps / base.frame_rate_hz, [random_codes(base, start)] * batch
    return step_seconds(
        lambda report: base.generate_tokens([PROMPT] * batch, seconds, seed=0, progress=report, start=codes)
    )


class CallCounter(TorchDispatchMode):
    """Counts the operations of torch."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls += 1
        return func(*args, **(kwargs or {}))


def calls_per_step(base: MusicGen, batch: int) -> float:
    """Operations of torch in a step for `batch` pieces; mean of eight, the period of the convolution's gates."""
    counts: list[int] = []
    with CallCounter() as counter:
        seconds = COUNTED_STEPS / base.frame_rate_hz
        base.generate_tokens([PROMPT] * batch, seconds, seed=0, progress=lambda *_: counts.append(counter.calls))
    return (counts[WARM_UP_STEPS + 8] - counts[WARM_UP_STEPS]) / 8


def bandwidth() -> float:
    """Bytes that the machine reads in a second, with all its threads."""
    values = torch.ones(BANDWIDTH_BYTES // 4)
    best = 1e9
    for _ in range(3):
        began = time.perf_counter()
        values.sum()
        best = min(best, time.perf_counter() - began)
    return BANDWIDTH_BYTES / best


def weight_bytes(base: MusicGen) -> int:
    """Bytes of the weights that a step reads: layers and heads, without the text's keys and values."""
    decoder = base.model.decoder
    values = sum(w.numel() for w in decoder.lm_heads.parameters())
    for name, weight in decoder.model.decoder.layers.named_parameters():
        if not any(part in name for part in ("encoder_attn.k_proj", "encoder_attn.v_proj")):
            values += weight.numel()
    return values * (1 if base.int8 else base.dtype.itemsize)


def measure(
    shape: str,
    designs: Sequence[str],
    batches: Sequence[int],
    precisions: Sequence[str],
    rounds: int,
    reference_precision: str = "auto",
    start: int = 0,
) -> Iterator[Row]:
    """Rows of one shape; each variant is measured in turn with generate(), `start` frames into the pieces."""
    steps = STEPS.get(shape, min(STEPS.values()))
    bases = {name: base_of(shape, "fp32" if name in ("fp32", precision.INT8) else "auto") for name in precisions}
    usual = base_of(shape, reference_precision)
    for design in designs:
        has_adapter = design not in (NONE, CONTROL)
        before = adapted(usual, design) if has_adapter else usual
        for name, base in bases.items():
            variant = adapted(base, design) if has_adapter else base
            variant.int8 = base.int8 = name == precision.INT8
            injection.cast_adapters(variant.model, variant.dtype)  # as adapters are loaded for generation
            reference: list[float] = []
            bandwidths: list[float] = []
            taken: dict[int, list[float]] = {batch: [] for batch in batches}
            alone: dict[int, list[float]] = {batch: [] for batch in batches}
            for number in range(rounds):
                if design != CONTROL:
                    reference.append(by_transformers(before, min(steps, 20), start))
                bandwidths.append(bandwidth())
                for batch in batches:  # in turn, and each as often first, as the machine's speed drifts
                    pair = [(variant, taken), (base, alone)][: 1 if design == NONE else 2]
                    for measured, kept in pair[:: -1 if number % 2 else 1]:
                        kept[batch].append(by_talim(measured, steps, batch, start))
            limit = 1000 * weight_bytes(variant) / statistics.median(bandwidths)
            for batch in batches:
                others = alone[batch] if design == CONTROL else [batch * one for one in reference]
                ratios = [other / many for other, many in zip(others, taken[batch], strict=True)]
                row: Row = {"shape": shape, "batch": batch, "precision": precision_name(variant), "design": design}
                row["start"] = start
                row |= {"ratio": statistics.median(ratios), "low": min(ratios), "high": max(ratios)}
                milliseconds = 1000 * statistics.median(taken[batch])
                row |= {"ms_per_step": milliseconds, "calls_per_step": calls_per_step(variant, batch)}
                row["times_real_time"] = 1000 * batch / base.frame_rate_hz / milliseconds
                row |= {"bandwidth_limit_ms": limit, "share_of_limit": limit / milliseconds}
                if design != CONTROL:
                    row["generate_ms"] = 1000 * statistics.median(reference)
                if has_adapter:
                    over = [a / b - 1 for a, b in zip(taken[batch], alone[batch], strict=True)]
                    row |= {"overhead": statistics.median(over), "least": min(over), "most": max(over)}
                yield row


def base_of(shape: str, name: str) -> MusicGen:
    """A base in a precision, on the CPU."""
    if shape == "nano":
        base: Any = load("nano-musicgen", precision=name, device="cpu")
        return base
    dtype, reason = precision.choose_precision(name, "cpu")
    return random_musicgen(registry.SHAPES[shape], dtype, "cpu", reason)


def precision_name(base: MusicGen) -> str:
    """fp32, bf16 or int8."""
    if base.int8:
        return precision.INT8
    return "bf16" if base.dtype == torch.bfloat16 else "fp32"


def int8_loss(pieces: int, seconds: float) -> Row:
    """Held-out loss of nano-musicgen in nats, of performances that no training used, in fp32 and with int8 weights."""
    base = load("nano-musicgen", precision="fp32", device="cpu")
    assert isinstance(base, MusicGen)
    losses: dict[bool, list[float]] = {False: [], True: []}
    for number in range(pieces):
        piece = perform(HELD_OUT_SEEDS + number, "western", seconds)
        tokens = base.encode(Audio(piece.samples[None], piece.rate_hz)).astype(np.int64)
        for int8, kept in losses.items():
            kept.append(teacher_forced_loss(base, torch.from_numpy(tokens)[None], piece.caption, int8))
    difference = [a - b for a, b in zip(losses[True], losses[False], strict=True)]
    spread = statistics.stdev(difference) / len(difference) ** 0.5 if len(difference) > 1 else 0.0
    return {
        "fp32_nats": statistics.mean(losses[False]),
        "int8_nats": statistics.mean(losses[True]),
        "difference_nats": statistics.mean(difference),
        "standard_error": spread,
        "pieces": pieces,
    }


@torch.inference_mode()
def teacher_forced_loss(base: MusicGen, tokens: torch.Tensor, caption: str, int8: bool) -> float:
    """Mean negative log likelihood in nats of tokens int64 [1, K, T], step by step."""
    with sampling.inference_mode(base.model):
        decoder = decoding.Decoder(base.model, int8=int8)
        steps = apply_delay_pattern(tokens, base.special_token, base.delays)[..., :-1]
        (conditions,) = base._piece_conditions([caption], None, False)
        decoder.allocate(1, steps.shape[-1], False, conditions["text"].shape[1])
        empty = torch.zeros(base.codebooks, 0, dtype=torch.long)
        decoder.begin([decoding.Beginning(0, empty, conditions["text"], conditions["text_mask"])])
        logits = torch.stack([decoder.step(steps[..., step]) for step in range(steps.shape[-1])], dim=2)
    mask = torch.ones(1, tokens.shape[-1], dtype=torch.bool)
    return float(cross_entropy(logits, tokens, mask, base.delays).parts.mean())


def table(rows: Sequence[Row]) -> str:
    """Rows as Markdown."""
    names = ("shape", "pieces", "precision", "design", "times generate()", "ms a step", "times real time")
    names += ("share of the limit", "over the base", "calls")
    lines = [f"| {' | '.join(names)} |", "|" + "---|" * len(names)]
    for row in rows:
        over = f"{row['overhead']:+.0%} ({row['least']:+.0%} to {row['most']:+.0%})" if "overhead" in row else ""
        lines.append(
            f"| {row['shape']} | {row['batch']} | {row['precision']} | {row['design']} | {row['ratio']:.1f} "
            f"({row['low']:.1f} to {row['high']:.1f}) | {row['ms_per_step']:.2f} | {row['times_real_time']:.2f} | "
            f"{row['share_of_limit']:.0%} | {over} | {row['calls_per_step']:.0f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="Speed of decoding against transformers' generate()")
    parser.add_argument("--shapes", default="nano,small")
    parser.add_argument("--batches", default="1,8,16")
    parser.add_argument("--precisions", default="auto,int8", help="of auto, fp32, bf16, int8")
    parser.add_argument("--designs", default=",".join(DESIGNS))
    parser.add_argument("--reference", default="auto", help="precision of generate(): auto or fp32")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--start", type=int, default=0, metavar="FRAMES", help="that pieces go on from")
    parser.add_argument("--loss", type=int, default=0, metavar="PIECES", help="also measure the loss with int8")
    parser.add_argument("--json", action="store_true", help='print {"rows": [...]} only')
    parser.add_argument("--page", type=Path, help="write the table as Markdown")
    given = parser.parse_args()
    rows: list[Row] = []
    batches = [int(batch) for batch in given.batches.split(",")]
    for shape in given.shapes.split(","):
        designs, precisions = given.designs.split(","), given.precisions.split(",")
        for row in measure(shape, designs, batches, precisions, given.rounds, given.reference, given.start):
            rows.append(row)
            print(json.dumps(row), file=sys.stderr, flush=True)
    result: dict[str, Any] = {"rows": rows, "threads": torch.get_num_threads()}
    if given.loss:
        result["int8_loss"] = int8_loss(given.loss, 10.0)
    print(json.dumps(result) if given.json else table(rows))
    if given.page:
        given.page.write_text(table(rows) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
