"""Speed and memory of training and decoding on one GPU, beside what `talim plan` predicts.

    python -m benchmarks.gpu --sections train,decode,tf32 --minutes 8 --out gpu.json
    python -m benchmarks.gpu --sections plan --out gpu.json     (no GPU needed: adds the predictions to gpu.json)

train   a whole training step (forward, backward, gradient clipping, AdamW) of MusicGen-small and -medium with random
        weights, 8 clips of 10 s: milliseconds, and peak memory of the tensors (the CUDA context is not counted)
decode  generation with guidance, milliseconds per codec frame, alone and in a batch, with and without adapters in the
        base's precision; small codec and text encoder, so these are the decoder's figures
tf32    codec tokens that differ between the CPU and the device, with and without TF32
plan    `talim plan`'s step time and tensor memory for the rows of `train`

Every figure is the median of `--repeats` after a warm-up, with its range. Each section gets an equal part of the
minutes that are left; what does not fit is left out and named. Results are merged into `--out`, so that sections can
be run one by one. `--device cpu --shape nano --repeats 1` is a self-test.
"""

from __future__ import annotations

import argparse
import gc
import re
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench import adapted, decoder_of, load_shape
from talim.atomic_io import read_json, write_json
from talim.audio import Audio
from talim.backbones import load, precision
from talim.design.expression import Design
from talim.planning import hardware, trace_cache
from talim.planning.training_step import StepConfig, SyntheticTrainingStep
from talim.progress import PlainProgress
from talim.synthesis.performer import perform
from talim.training.resource_usage import device_name

SECTIONS = ("train", "decode", "tf32", "plan")
SHAPES = ("nano", "small", "medium")
DESIGNS = ("linear@all:2.5%", "conv@all:2.5%", "transformer@all:2.5%", "lora@all:2.5%")
NO_ADAPTER = "no adapter"
WARM_UP_STEPS = 2
TF32_CLIPS, TF32_SECONDS = 4, 10.0
Row = dict[str, Any]


@dataclass(frozen=True)
class Options:
    """What is measured: `designs`, `batches` (of decoding) and sizes of the training step's clips."""

    device: str
    shapes: Sequence[str]
    designs: Sequence[str]
    repeats: int
    frames: int
    batches: Sequence[int]
    clips: int
    clip_seconds: float

    @property
    def precision(self) -> str:
        """bf16 where the device has instructions for it."""
        return "bf16" if precision.has_bf16(torch.device(self.device))[0] else "fp32"


def timed(work: Callable[[], object], options: Options, deadline: float) -> list[float]:
    """Wall seconds of up to `repeats` calls, the first one whatever the deadline (of `time.monotonic`)."""
    taken: list[float] = []
    while len(taken) < options.repeats and (not taken or time.monotonic() < deadline):
        _synchronize(options.device)
        began = time.perf_counter()
        work()
        _synchronize(options.device)
        taken.append(time.perf_counter() - began)
    return taken


def _synchronize(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def _free(device: str) -> None:
    gc.collect()
    if device.startswith("cuda"):
        torch.cuda.empty_cache()


@contextmanager
def skip_if_out_of_memory(row: Row) -> Iterator[None]:
    """Note in `row` that the device's memory did not suffice, and go on."""
    try:
        yield
    except torch.OutOfMemoryError:
        row["skipped"] = "out of memory"


def measure_training(options: Options, deadline: float) -> Iterator[Row]:
    """A row for each shape (nano only where it is the only one) and design: seconds of the steps and peak bytes."""
    shapes = [shape for shape in options.shapes if shape != "nano"] or options.shapes
    for shape in shapes:
        for design in options.designs:
            row: Row = {"shape": shape, "design": design, "precision": options.precision}
            row |= {"clips": options.clips, "clip_seconds": options.clip_seconds}
            if time.monotonic() >= deadline:
                row["skipped"] = "no time left"
            else:
                with skip_if_out_of_memory(row):
                    row |= _training_row(_step_config(row), options, deadline)
            _free(options.device)
            yield row


def _step_config(row: Row) -> StepConfig:
    base = f"{row['shape']}-musicgen" if row["shape"] == "nano" else f"musicgen-{row['shape']}"
    return StepConfig(base, Design.parse(row["design"]), row["clip_seconds"], row["clips"], row["precision"])


def _training_row(config: StepConfig, options: Options, deadline: float) -> Row:
    step = SyntheticTrainingStep(config)

    def random_tensor(tensor: torch.Tensor) -> torch.Tensor:
        values = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=options.device)
        return values.normal_(0, 0.02) if values.is_floating_point() else values.zero_()

    step.fill(random_tensor)
    for _ in range(WARM_UP_STEPS):
        step.take_step()
    on_gpu = options.device.startswith("cuda")
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    seconds = timed(step.take_step, options, deadline)
    peak_bytes = torch.cuda.max_memory_allocated() if on_gpu else None
    return {"parameters": step.trained_parameters, "step_seconds": seconds, "peak_bytes": peak_bytes}


def measure_decoding(options: Options, deadline: float) -> Iterator[Row]:
    """A row for each shape, batch size and design, and one without an adapter: seconds for `frames` frames."""
    for shape in options.shapes:
        base: Any = None
        for batch in options.batches:
            for design in (NO_ADAPTER, *options.designs):
                row: Row = {"shape": shape, "design": design, "batch": batch, "frames": options.frames}
                if time.monotonic() >= deadline:
                    yield row | {"skipped": "no time left"}
                    continue
                with skip_if_out_of_memory(row):
                    base = base or _base_of(shape, options)
                    backbone = base if design == NO_ADAPTER else adapted(base, design)
                    decode = decoder_of(backbone, options.frames, batch)
                    decode()
                    row["seconds"] = timed(decode, options, deadline)
                    del backbone, decode
                _free(options.device)
                yield row
        del base
        _free(options.device)


def _base_of(shape: str, options: Options) -> Any:
    """nano as it ships; other shapes with random weights."""
    if shape == "nano":
        return load.load("nano-musicgen", options.precision, options.device)
    return load_shape(shape, options.device)


def measure_tf32(options: Options, deadline: float) -> Iterator[Row]:
    """Rows of codec tokens of nano that differ from the CPU's: as torch is set up, without TF32, with TF32."""
    sounds = [_performance(seed) for seed in range(TF32_CLIPS)]
    on_cpu = load.load("nano-musicgen", "fp32", "cpu")
    reference = np.concatenate([on_cpu.encode(sound) for sound in sounds], axis=1)
    on_device = load.load("nano-musicgen", "fp32", options.device)
    for name, allowed in (("default", None), ("TF32 off", False), ("TF32 on", True)):
        if time.monotonic() >= deadline:
            yield {"setting": name, "skipped": "no time left"}
            continue
        with tf32(allowed):
            tokens = np.concatenate([on_device.encode(sound) for sound in sounds], axis=1)
        yield {"setting": name, "tokens": tokens.size, "different": int((tokens != reference).sum())}


def _performance(seed: int) -> Audio:
    piece = perform(seed, "makam", TF32_SECONDS)
    return Audio(np.asarray(piece.samples, np.float32)[None], piece.rate_hz)


@contextmanager
def tf32(allowed: bool | None) -> Iterator[None]:
    """Allow or forbid TF32 in matrix products and convolutions; None leaves both as they are."""
    backends = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [backend.allow_tf32 for backend in backends]
    if allowed is not None:
        for backend in backends:
            backend.allow_tf32 = allowed
    try:
        yield
    finally:
        for backend, value in zip(backends, before, strict=True):
            backend.allow_tf32 = value


def predict(rows: Sequence[Row], gpu: str | None, deadline: float) -> Iterator[Row]:
    """The training rows with `talim plan`'s tensor bytes and, for a GPU of its table, the seconds of a step."""
    traces = trace_cache.TraceCache(trace_cache.default_cache_folder(), PlainProgress())
    profile = hardware.gpu_profile(gpu) if gpu else None
    for row in rows:
        if time.monotonic() < deadline:
            trace = traces.trace(_step_config(row))
            row = row | {"planned_bytes": trace.peak_bytes}
            row |= {"planned_seconds": profile.seconds(trace)} if profile else {}
        yield row


def table_name(device: str) -> str | None:
    """The GPU of `talim plan`'s table that a device calls itself by, or None: "NVIDIA H200" is h200."""
    words = re.findall(r"[a-z0-9]+", device.lower())
    matching = [name for name in hardware.gpu_table() if set(name.split("-")) <= set(words)]
    return max(matching, key=len, default=None)  # "rtx-4080-super" rather than "rtx-4080"


def spread(values: Sequence[float], scale: float = 1000.0) -> str:
    """Median and range, in milliseconds for seconds."""
    shown = [f"{scale * value:.3g}" for value in (statistics.median(values), min(values), max(values))]
    return f"{shown[0]} ({shown[1]} to {shown[2]})"


def gigabytes(count: float | None) -> str:
    """10^9 bytes with two decimals; "-" for None."""
    return "-" if count is None else f"{count / 1e9:.2f}"


def markdown(results: Row) -> str:
    """All sections that were measured, as tables."""
    lines = [f"{results['device']}, torch {results['torch']}, median of {results['repeats']} (range)"]
    tables: dict[str, tuple[Sequence[str], Callable[[Row], Sequence[str]]]] = {
        "train": (("shape", "design", "clips", "step ms", "planned ms", "peak GB", "planned GB"), _training_cells),
        "decode": (("shape", "design", "batch", "ms per frame", "times real time"), _decoding_cells),
        "tf32": (("setting", "tokens", "different from the CPU"), _tf32_cells),
    }
    for section, (head, cells) in tables.items():
        rows = results.get(section, [])
        if not rows:
            continue
        lines += ["", f"## {section}", "", f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
        for row in rows:
            shown = list(cells(row))
            if "skipped" in row:
                shown = [*shown[: len(head) - 1], row["skipped"]]
            lines.append(f"| {' | '.join(shown)} |")
    return "\n".join(lines) + "\n"


def _training_cells(row: Row) -> list[str]:
    planned = row.get("planned_seconds")
    return [
        row["shape"],
        f"`{row['design']}`",
        f"{row['clips']} x {row['clip_seconds']:g} s",
        spread(row["step_seconds"]) if "step_seconds" in row else "-",
        "-" if planned is None else f"{1000 * planned:.3g}",
        gigabytes(row.get("peak_bytes")),
        gigabytes(row.get("planned_bytes")),
    ]


def _decoding_cells(row: Row) -> list[str]:
    seconds = row.get("seconds")
    per_frame, speed = "-", "-"
    if seconds:
        per_frame = spread(seconds, 1000 / row["frames"])
        speed = f"{row['batch'] * row['frames'] / 50 / statistics.median(seconds):.2f}"
    return [row["shape"], f"`{row['design']}`", str(row["batch"]), per_frame, speed]


def _tf32_cells(row: Row) -> list[str]:
    if "tokens" not in row:
        return [row["setting"], "-", "-"]
    return [row["setting"], str(row["tokens"]), f"{row['different']} ({row['different'] / row['tokens']:.2%})"]


def run(sections: Sequence[str], options: Options, minutes: float, out: Path | None, gpu: str | None) -> Row:
    """Measure the sections, write `out` after each row, and return all results, those of earlier calls among them."""
    results: Row = read_json(out) if out is not None and out.is_file() else {}
    if set(sections) != {"plan"}:
        device = device_name(torch.device(options.device))
        results |= {"device": device, "torch": torch.__version__, "repeats": options.repeats}
    end = time.monotonic() + 60 * minutes
    for number, section in enumerate(sections):
        now = time.monotonic()
        deadline = now + (end - now) / (len(sections) - number)
        if section == "plan":
            named = gpu or table_name(results["device"])
            rows = predict(results.get("train", []), named, deadline)
        else:
            measure = {"train": measure_training, "decode": measure_decoding, "tf32": measure_tf32}[section]
            rows = measure(options, deadline)
        kept: list[Row] = []
        for row in rows:
            kept.append(row)
            print(section, {key: value for key, value in row.items() if value is not None}, flush=True)
            if out is not None and section != "plan":
                write_json(out, results | {section: kept})
        results["train" if section == "plan" else section] = kept
        if out is not None:
            write_json(out, results)
    return results


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sections", default=",".join(SECTIONS), help=f"comma-separated, of {', '.join(SECTIONS)}")
    parser.add_argument("--minutes", type=float, default=8.0, help="time limit for all sections together")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--shape", action="append", choices=SHAPES, help="repeatable; default: all")
    parser.add_argument("--design", action="append", help=f"repeatable; default: {', '.join(DESIGNS)}")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--frames", type=int, default=50, help="codec frames to decode (50 per second)")
    parser.add_argument("--batch", type=int, action="append", help="pieces decoded at once, repeatable; default: 1, 8")
    parser.add_argument("--clips", type=int, default=8, help="clips of a training step")
    parser.add_argument("--seconds", type=float, default=10.0, help="length of a training clip")
    parser.add_argument("--gpu", help="row of `talim plan`'s table; default: by the device's name")
    parser.add_argument("--out", type=Path, help="JSON file, to which sections are added")
    given = parser.parse_args(arguments)
    sections = [name for name in given.sections.split(",") if name]
    if unknown := sorted(set(sections) - set(SECTIONS)):
        parser.error(f"--sections {', '.join(unknown)}: expected some of {', '.join(SECTIONS)}")
    needs_device = set(sections) != {"plan"}
    if needs_device and given.device.startswith("cuda") and not torch.cuda.is_available():
        sys.exit(
            f"torch {torch.__version__} finds no CUDA device; `--device cpu --shape nano --repeats 1` is a self-test"
        )
    if not needs_device and not (given.out and given.out.is_file()):
        parser.error("--sections plan alone needs --out FILE with the training rows of an earlier run")
    options = Options(
        given.device,
        given.shape or SHAPES,
        given.design or DESIGNS,
        given.repeats,
        given.frames,
        given.batch or (1, 8),
        given.clips,
        given.seconds,
    )
    print(markdown(run(sections, options, given.minutes, given.out, given.gpu)))


if __name__ == "__main__":
    main()
