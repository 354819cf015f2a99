"""Decoding, training, sampling, energy and agreement with the CPU on one GPU, in under eight minutes.

    python -m benchmarks.gpu                              (writes docs/reports/gpu.md and gpu.json)
    python -m benchmarks.gpu --sections decode,train --page results/gpu.md
    python -m benchmarks.gpu --sections plan              (no GPU needed: adds predictions to what gpu.json holds)
    python -m benchmarks.gpu --device cpu --small --page self-test.md    (every section on tiny shapes)

agree    codec tokens of nano-musicgen on the GPU that differ from the CPU's (greedy, float32), for every kind of
         adapter, and tokens of a piece that differ when others stand beside it
decode   a step of MusicGen-small's and -medium's decoder (random weights, guidance) through talim, captured as one
         CUDA graph, in turn with transformers' generate(), with and without adapters; the share of the limit that
         reading the weights sets at the bandwidth measured beside it; joules a second of music
train    a whole training step of each kind (forward, backward, gradient clipping, AdamW), its peak memory and joules,
         against PEFT's LoRA of the same number of parameters
mustango a sampling step of the released U-Net's shape with guidance, and training steps
codec    tokens that nano's codec makes of a sound, as talim encodes and with TF32, that differ from the CPU's
plan     `talim plan`'s step time and tensor memory for the rows of train and mustango

The sections come in the order of their value. Each is a process of its own with a share of the time, which ends it;
what the sections before it left over, it has too. Both files are written after every row, so whatever ends the script
leaves what was measured. `control` is the same work measured a second time, divided by the first: what a ratio of 1
looks like on this machine. A row that fails says why, and the status is then 1. Without a GPU the status is 2.
"""

from __future__ import annotations

import argparse
import gc
import os
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch

from benchmarks import decoding, gpu_page, mustango_sampling
from benchmarks.bench import PROMPT, adapted
from research.validation.random_musicgen import random_musicgen
from talim.adapters import injection
from talim.atomic_io import read_json, write_json, write_text
from talim.audio import Audio
from talim.backbones import precision, registry
from talim.backbones.load import load
from talim.backbones.musicgen import backbone as musicgen
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.mustango.batch import beat_chord_tokens, pad_states
from talim.backbones.mustango.unet import SamplingMemory
from talim.beats_chords import BeatsAndChords
from talim.design.expression import Design
from talim.planning import hardware, trace_cache
from talim.planning.training_step import StepConfig, SyntheticTrainingStep
from talim.progress import PlainProgress
from talim.synthesis.performer import perform
from talim.training.resource_usage import EnergyCounter, device_name

PAGE = Path("docs/reports/gpu.md")
SECONDS = {"agree": 45, "decode": 165, "train": 115, "mustango": 60, "codec": 25, "plan": 50}  # 460 in all
SPARE_SECONDS = 8.0  # before a section's end, in which its process stops by itself
NONE = decoding.NONE
KINDS = ("linear", "conv", "transformer", "lora")  # LoRA is PEFT's
DESIGNS = tuple(f"{kind}@all:2.5%" for kind in KINDS)
LORA = DESIGNS[-1]
WARM_UP_STEPS = 4
Row = dict[str, Any]


@dataclass(frozen=True)
class Sizes:
    """What is measured: shapes, batches, and how often."""

    shapes: tuple[str, ...]
    batches: tuple[int, ...]
    rounds: int
    steps: int  # of decoding through talim
    reference_steps: int  # of generate()
    clips: int
    clip_seconds: float
    mustango: str
    mustango_frames: int
    agree_seconds: float
    energy_seconds: float  # at least, as NVML's counter moves some ten times a second
    bandwidth_bytes: int
    designs: tuple[str, ...] = DESIGNS


FULL = Sizes(("small", "medium"), (1, 8, 32), 3, 200, 40, 8, 10.0, "mustango", 256, 2.0, 2.0, 2**30)
SMALL = Sizes(("nano",), (1, 2), 1, 8, 8, 1, 0.4, "nano-mustango", 8, 0.2, 0.0, 2**20, ("linear@all:1%", "lora@all:1%"))


@dataclass(frozen=True)
class Machine:
    """The device, and the moment (of `time.monotonic`) from which on no row begins."""

    device: str
    deadline: float

    @property
    def on_gpu(self) -> bool:
        return self.device.startswith("cuda")

    @property
    def dtype(self) -> torch.dtype:
        """bf16 where the device has instructions for it."""
        return torch.bfloat16 if precision.has_bf16(torch.device(self.device))[0] else torch.float32

    @property
    def precision(self) -> str:
        return precision_name(self.dtype)

    def synchronize(self) -> None:
        """Wait until the device is through with what it was given."""
        if self.on_gpu:
            torch.cuda.synchronize()

    def seconds_of(self, work: Callable[[], object]) -> float:
        """Wall seconds of a call."""
        self.synchronize()
        began = time.perf_counter()
        work()
        self.synchronize()
        return time.perf_counter() - began

    def joules_of(self, work: Callable[[], object], at_least_seconds: float) -> tuple[float | None, int]:
        """Joules of the whole GPU during repeated calls, and their number; None where no counter is read."""
        counter, calls, end = EnergyCounter(torch.device(self.device)), 0, time.perf_counter() + at_least_seconds
        while not calls or time.perf_counter() < end:
            self.seconds_of(work)
            calls += 1
        return counter.joules(), calls

    def peak_bytes(self, work: Callable[[], object]) -> int | None:
        """Peak of the tensors on the GPU during a call."""
        if not self.on_gpu:
            return None
        torch.cuda.reset_peak_memory_stats()
        work()
        return torch.cuda.max_memory_allocated()


def precision_name(dtype: torch.dtype) -> str:
    """bf16 or fp32."""
    return "bf16" if dtype == torch.bfloat16 else "fp32"


def measured(rows: Sequence[tuple[Row, Callable[[], Row]]], machine: Machine) -> Iterator[Row]:
    """The rows with what their calls found: or why they found nothing, or that the time did not suffice."""
    longest = 0.0
    for facts, measure in rows:
        began = time.monotonic()
        if began + longest >= machine.deadline:
            yield facts | {"skipped": "no time left"}
            continue
        try:
            row = facts | measure()
        except Exception as error:  # a row must not cost the others
            reason = str(error).strip().splitlines() or [""]
            row = facts | {"failed": f"{type(error).__name__}: {reason[0][:200]}"}
        longest = max(longest, time.monotonic() - began)
        gc.collect()
        if machine.on_gpu:
            torch.cuda.empty_cache()
        yield row


def on_device(base: Any, device: str) -> Any:
    """The same base, moved."""
    base.model.to(device)
    return base


def agreement(sizes: Sizes, machine: Machine) -> Iterator[Row]:
    """Tokens of nano that are not those of the CPU; then those that depend on what stands beside a piece."""

    def against_cpu(design: str) -> Row:
        torch.manual_seed(0)
        base: Any = load("nano-musicgen", "fp32", "cpu")
        base = base if design == NONE else adapted(base, design)
        greedy = partial(base.generate_tokens, [PROMPT], sizes.agree_seconds, 0, temperature=0.0)
        expected = greedy()
        on_device(base, machine.device)
        found = greedy()
        check_decoder(base, machine)
        return {"tokens": expected.size, "different": int((found != expected).sum())}

    def against_alone(name: str) -> Row:
        base: Any = load("nano-musicgen", name, machine.device)
        alone = [base.generate_tokens([PROMPT], sizes.agree_seconds, seed)[0] for seed in (5, 6, 7)]
        together = base.generate_tokens([PROMPT] * 3, sizes.agree_seconds, 5)
        check_decoder(base, machine)
        return {"tokens": together.size, "different": int((together != np.stack(alone)).sum())}

    rows: list[tuple[Row, Callable[[], Row]]] = [
        ({"what": "greedy, against the CPU", "design": design}, partial(against_cpu, design))
        for design in (NONE, *sizes.designs)
    ]
    rows += [
        ({"what": f"sampled, three at once against alone, {name}", "design": NONE}, partial(against_alone, name))
        for name in dict.fromkeys(("fp32", machine.precision))
    ]
    yield from measured(rows, machine)


def check_decoder(base: Any, machine: Machine) -> None:
    """RuntimeError where transformers has decoded in talim's place, or no graph was captured on a GPU."""
    kept = base._kept_decoder
    if kept is None or (machine.on_gpu and kept[1].captured is None):
        raise RuntimeError("talim's decoder was not used" if kept is None else "no CUDA graph was captured")


def musicgen_of(shape: str, dtype: torch.dtype, device: str) -> MusicGen:
    """nano as it ships; other shapes with random weights."""
    if shape == "nano":
        base: Any = load("nano-musicgen", precision_name(dtype), device)
        return base
    return random_musicgen(registry.SHAPES[shape], dtype, device)


def decode(sizes: Sizes, machine: Machine) -> Iterator[Row]:
    """Rows by value: every batch in the usual precision, then float32 and adapters for a piece alone."""
    usual = machine.dtype
    bases: dict[Any, MusicGen] = {}

    def base_of(shape: str, dtype: torch.dtype) -> MusicGen:
        if (shape, dtype) not in bases:
            bases.clear()  # one at a time
            bases[shape, dtype] = musicgen_of(shape, dtype, machine.device)
        return bases[shape, dtype]

    def measure(shape: str, design: str, batch: int, dtype: torch.dtype) -> Row:
        return decoding_row(base_of(shape, dtype), design, batch, sizes, machine)

    cases = [(shape, NONE, batch, usual) for shape in sizes.shapes for batch in sizes.batches]
    for shape in sizes.shapes:
        cases += [(shape, NONE, 1, torch.float32)] * (usual != torch.float32)
        cases += [(shape, design, 1, usual) for design in sizes.designs]
    rows: list[tuple[Row, Callable[[], Row]]] = []
    for case in cases:
        facts = dict(zip(("shape", "design", "batch"), case, strict=False))
        rows.append((facts | {"precision": precision_name(case[3])}, partial(measure, *case)))
    yield from measured(rows, machine)


def decoding_row(base: MusicGen, design: str, batch: int, sizes: Sizes, machine: Machine) -> Row:
    """Milliseconds a step in turn: generate(), talim, talim again, and with an adapter the base alone."""
    variant = base if design == NONE else adapted(base, design)
    injection.cast_adapters(variant.model, variant.dtype)  # as adapters are loaded for generation
    seconds = sizes.steps / base.frame_rate_hz

    def talim(model: MusicGen, report: Callable[[int, int], None] | None = None) -> object:
        return model.generate_tokens([PROMPT] * batch, seconds, seed=0, progress=report)

    calls: dict[str, Callable[..., object]] = {
        "generate": partial(by_generate, variant, batch, sizes.reference_steps),
        "talim": partial(talim, variant),
        "again": partial(talim, variant),
    }
    if design != NONE:
        calls["base"] = partial(talim, base)
    calls["talim"]()  # the step is captured
    check_decoder(variant, machine)
    peak = machine.peak_bytes(calls["talim"])
    if design != NONE:
        calls["base"]()
    taken: dict[str, list[float]] = {name: [] for name in calls}
    bandwidths = []
    for _ in range(sizes.rounds):
        bandwidths.append(bandwidth(sizes.bandwidth_bytes, machine))
        for name, call in calls.items():
            taken[name].append(1000 * step_seconds(call, machine))
    limit = 1000 * decoding.weight_bytes(base) / statistics.median(bandwidths)
    row: Row = {"ms": taken["talim"], "generate_ms": taken["generate"], "peak_bytes": peak}
    row |= {"ratio": quotients(taken["generate"], taken["talim"]), "control": quotients(taken["again"], taken["talim"])}
    row["times_real_time"] = 1000 * batch / base.frame_rate_hz / statistics.median(taken["talim"])
    row |= {"bytes_per_second": bandwidths, "limit_ms": limit}
    row["share_of_limit"] = limit / statistics.median(taken["talim"])
    if design != NONE:
        row["over_base"] = quotients(taken["talim"], taken["base"])
    joules, pieces = machine.joules_of(calls["talim"], sizes.energy_seconds)
    return row | {"joules_per_second": None if joules is None else joules / (pieces * batch * seconds)}


def by_generate(base: MusicGen, batch: int, steps: int, report: Callable[[int, int], None]) -> object:
    """transformers' generate(), with guidance."""
    seconds = steps / base.frame_rate_hz
    windows = sampling.split_into_windows(seconds, base.frame_rate_hz, base.window_seconds)
    conditions = base._conditions([PROMPT] * batch, None, True)
    options = sampling.SamplingOptions(seconds, 0)
    return sampling.generate_codes(base.model, conditions, batch, windows, options, base.delays, report)


def step_seconds(call: Callable[[Callable[[int, int], None]], object], machine: Machine) -> float:
    """Seconds of a step: those after the first few, until the device is through with the last one."""
    count, began = 0, 0.0

    def report(*_: int) -> None:
        nonlocal count, began
        count += 1
        if count == WARM_UP_STEPS:
            machine.synchronize()
            began = time.perf_counter()

    call(report)
    machine.synchronize()
    return (time.perf_counter() - began) / (count - WARM_UP_STEPS)


def bandwidth(size: int, machine: Machine) -> float:
    """Bytes that the device reads and writes in a second, copying `size` bytes."""
    source = torch.ones(size // 4, device=machine.device)
    target = torch.empty_like(source)
    return 2 * size / min(machine.seconds_of(lambda: target.copy_(source)) for _ in range(4))


def quotients(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Ratios within each round."""
    return [one / other for one, other in zip(above, below, strict=True)]


def train(bases: Sequence[str], sizes: Sizes, machine: Machine) -> Iterator[Row]:
    """Rows of each base, LoRA first and again last, each with its ratio to the first."""
    lora = next((design for design in sizes.designs if design.startswith("lora")), sizes.designs[0])
    reference: dict[str, list[float]] = {}

    def measure(base: str, design: str) -> Row:
        parsed = Design.parse(design)
        config = StepConfig(base, parsed, sizes.clip_seconds, sizes.clips, machine.precision)
        row = training_row(config, sizes, machine)
        first = reference.setdefault(base, row["step_seconds"])
        return row | {"ratio": statistics.median(first) / statistics.median(row["step_seconds"])}

    facts = {"precision": machine.precision, "clips": sizes.clips}
    others = [design for design in sizes.designs if design != lora]
    rows = [
        ({"base": base, "design": design, "clip_seconds": sizes.clip_seconds, **facts}, partial(measure, base, design))
        for base in bases
        for design in (lora, *others, lora)
    ]
    yield from measured(rows, machine)


def training_row(config: StepConfig, sizes: Sizes, machine: Machine) -> Row:
    """Seconds of steps with random weights, peak bytes, and joules a step."""
    step = SyntheticTrainingStep(config)

    def random_tensor(tensor: torch.Tensor) -> torch.Tensor:
        values = torch.empty_strided(tensor.shape, tensor.stride(), dtype=tensor.dtype, device=machine.device)
        return values.normal_(0, 0.02) if values.is_floating_point() else values.zero_()

    step.fill(random_tensor)
    step.take_step()
    peak = machine.peak_bytes(step.take_step)
    seconds = [machine.seconds_of(step.take_step) for _ in range(2 * sizes.rounds + 1)]
    joules, calls = machine.joules_of(step.take_step, sizes.energy_seconds)
    return {
        "parameters": step.trained_parameters,
        "step_seconds": seconds,
        "peak_bytes": peak,
        "joules": None if joules is None else joules / calls,
    }


def mustango(sizes: Sizes, machine: Machine) -> Iterator[Row]:
    """A step of sampling with and without what is kept between steps; then training steps."""

    def sampling_step(pieces: int) -> Row:
        model, shape = unet_of(sizes, machine)
        width = model.unet.config.context_width[0]
        states = [np.zeros((1, width), np.float32)] * pieces + [np.ones((12, width), np.float32)] * pieces
        music = mustango_sampling.MUSIC["text, beats, chords"]
        tokens = beat_chord_tokens([BeatsAndChords()] * pieces + [music] * pieces)
        given = [part.to(machine.device) for part in (*pad_states(states), *tokens)]
        latents = torch.randn(2 * pieces, *shape, device=machine.device)
        levels = torch.full((2 * pieces,), 500, device=machine.device)
        memory = SamplingMemory()
        plain, kept = partial(model, latents, levels, *given), partial(model, latents, levels, *given, memory)
        calls = {"plain": plain, "kept": kept, "again": kept}
        with torch.no_grad():
            for call in calls.values():
                call()
            taken = {name: [] for name in calls}
            for _ in range(2 * sizes.rounds + 1):
                for name, call in calls.items():
                    taken[name].append(machine.seconds_of(call))
            joules, steps = machine.joules_of(calls["kept"], sizes.energy_seconds)
        row: Row = {
            "ms": [1000 * seconds for seconds in taken["kept"]],
            "ratio": quotients(taken["plain"], taken["kept"]),
        }
        row["control"] = quotients(taken["again"], taken["kept"])
        return row | {"joules": None if joules is None else joules / steps}

    facts = {"what": "sampling step", "precision": machine.precision}
    facts |= {"base": sizes.mustango, "frames": sizes.mustango_frames}
    yield from measured([({**facts, "pieces": n}, partial(sampling_step, n)) for n in sizes.batches[:2]], machine)
    yield from train([sizes.mustango], sizes, machine)


def unet_of(sizes: Sizes, machine: Machine) -> tuple[Any, tuple[int, int, int]]:
    """Mustango's model, the released shape with random weights, and the shape of its latents."""
    if sizes.mustango == "nano-mustango":
        base: Any = load(sizes.mustango, "fp32", machine.device)
        return base.model.eval(), (base.mel_vae.channels, sizes.mustango_frames, base.mel_vae.bands)
    model = mustango_sampling.released_model(machine.dtype).to(machine.device)
    return model, (8, sizes.mustango_frames, mustango_sampling.BANDS)


def codec_tokens(sizes: Sizes, machine: Machine) -> Iterator[Row]:
    """Tokens of nano's codec that differ from the CPU's: as talim encodes, and with TF32."""
    pieces = [perform(seed, "makam", 5 * sizes.agree_seconds) for seed in range(4)]
    sounds = [Audio(np.asarray(piece.samples, np.float32)[None], piece.rate_hz) for piece in pieces]
    codecs = {device: load("nano-musicgen", "fp32", device) for device in ("cpu", machine.device)}

    def tokens(device: str) -> np.ndarray:
        return np.concatenate([codecs[device].encode(sound) for sound in sounds], axis=1)

    def compare(context: Callable[[], AbstractContextManager[Any]]) -> Row:
        with context():
            found = tokens(machine.device)
        expected = tokens("cpu")
        return {"tokens": found.size, "different": int((found != expected).sum())}

    settings = {"as talim encodes": nullcontext, "with TF32": tf32}
    yield from measured([({"what": name}, partial(compare, context)) for name, context in settings.items()], machine)


@contextmanager
def tf32() -> Iterator[None]:
    """Encode with TF32, which talim forbids."""
    operations: tuple[Any, ...] = (torch.backends.cudnn.conv, torch.backends.cuda.matmul)  # pyright: ignore[reportAttributeAccessIssue]
    before = [operation.fp32_precision for operation in operations]
    for operation in operations:
        operation.fp32_precision = "tf32"
    try:
        with mock.patch.object(musicgen, "full_float32", nullcontext):
            yield
    finally:
        for operation, value in zip(operations, before, strict=True):
            operation.fp32_precision = value


def predictions(rows: Sequence[Row], gpu: str | None, machine: Machine) -> Iterator[Row]:
    """`talim plan`'s tensor bytes and, for a GPU of its table, seconds of a step, for every training row."""
    traces = trace_cache.TraceCache(trace_cache.default_cache_folder(), PlainProgress())
    profile = hardware.gpu_profile(gpu) if gpu else None

    def predict(facts: Row) -> Row:
        config = StepConfig(*(facts[name] for name in ("base", "design", "clip_seconds", "clips", "precision")))
        trace = traces.trace(config)
        return {"planned_bytes": trace.peak_bytes, "planned_seconds": profile.seconds(trace) if profile else None}

    keys = ("base", "design", "clip_seconds", "clips", "precision")
    facts = {tuple(row[key] for key in keys): {key: row[key] for key in keys} for row in rows if "design" in row}
    yield from measured([(each, partial(predict, each)) for each in facts.values()], machine)


def table_name(device: str) -> str | None:
    """The GPU of `talim plan`'s table that a device calls itself by, or None: "NVIDIA H200" is h200."""
    words = re.findall(r"[a-z0-9]+", device.lower())
    matching = [name for name in hardware.gpu_table() if set(name.split("-")) <= set(words)]
    return max(matching, key=len, default=None)  # "rtx-4080-super" rather than "rtx-4080"


def run_section(section: str, sizes: Sizes, machine: Machine, page: Path, gpu: str | None = None) -> bool:
    """Measure a section, writing both files after each row; whether nothing failed."""
    results: Row = read_json(page.with_suffix(".json")) if page.with_suffix(".json").is_file() else {}
    if section != "plan":
        results["device"] = device_name(torch.device(machine.device))
        results["on_gpu"] = machine.on_gpu
        results["versions"] = {name: version(name) for name in ("torch", "transformers", "peft", "diffusers")}
        results["rounds"] = sizes.rounds
        results["energy"] = EnergyCounter(torch.device(machine.device)).note
    bases = ["nano-musicgen" if shape == "nano" else f"musicgen-{shape}" for shape in sizes.shapes]
    trained = [*results.get("train", []), *results.get("mustango", [])]
    sections: Mapping[str, Callable[[], Iterator[Row]]] = {
        "agree": lambda: agreement(sizes, machine),
        "decode": lambda: decode(sizes, machine),
        "train": lambda: train(bases, sizes, machine),
        "mustango": lambda: mustango(sizes, machine),
        "codec": lambda: codec_tokens(sizes, machine),
        "plan": lambda: predictions(trained, gpu or table_name(results.get("device", "")), machine),
    }
    kept: list[Row] = []
    for row in sections[section]():
        kept.append(row)
        print(section, {key: value for key, value in row.items() if value is not None}, flush=True)
        results[section] = kept
        write_json(page.with_suffix(".json"), results)
        write_text(page, gpu_page.markdown(results))
    return not any("failed" in row for row in kept)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the sections one after the other; the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--sections", default=",".join(SECONDS), help=f"comma-separated, of {', '.join(SECONDS)}")
    parser.add_argument("--device", default="cuda", help="cuda or cpu")
    parser.add_argument("--small", action="store_true", help="every section on tiny shapes, as a self-test")
    parser.add_argument("--page", type=Path, default=PAGE, help="the page; gpu.json is written beside it")
    parser.add_argument("--gpu", help="row of `talim plan`'s table; default: by the device's name")
    parser.add_argument("--until", type=float, help=argparse.SUPPRESS)  # of a section's own process, by time.time()
    given = parser.parse_args(arguments)
    sections = given.sections.split(",")
    if unknown := sorted(set(sections) - set(SECONDS)):
        parser.error(f"--sections {', '.join(unknown)}: expected some of {', '.join(SECONDS)}")
    if sections != ["plan"] and given.device.startswith("cuda") and not torch.cuda.is_available():
        parser.error(
            f"torch {torch.__version__} finds no CUDA device, and nothing was written; "
            "`--device cpu --small --page self-test.md` runs every section on tiny shapes"
        )
    if (given.small or given.device == "cpu") and given.page.resolve() == PAGE.resolve():
        parser.error(f"{PAGE} is for figures of a GPU: give another --page for a self-test")
    if sections == ["plan"] and not given.page.with_suffix(".json").is_file():
        parser.error(f"--sections plan adds to {given.page.with_suffix('.json')}, which is not there: measure first")
    if given.until is not None:
        machine = Machine(given.device, time.monotonic() + given.until - time.time() - SPARE_SECONDS)
        sizes = SMALL if given.small else FULL
        return 0 if run_section(sections[0], sizes, machine, given.page, given.gpu) else 1
    return run_all(sections, [*(sys.argv[1:] if arguments is None else arguments)])


def run_all(sections: Sequence[str], arguments: Sequence[str]) -> int:
    """Each section in a process of its own, which is ended when its time is over; the exit status."""
    status, until = 0, time.time()
    environment = os.environ | {"HF_HUB_OFFLINE": "1"}
    for section in sections:
        until += SECONDS[section]
        command = [sys.executable, "-m", "benchmarks.gpu", *arguments, "--sections", section, "--until", str(until)]
        try:
            code = subprocess.run(command, env=environment, timeout=max(1.0, until - time.time())).returncode
        except subprocess.TimeoutExpired:
            code = 1
            print(f"{section}: ended after its time; what it had measured is kept", file=sys.stderr)
        status = max(status, int(code != 0))
    return status


if __name__ == "__main__":
    sys.exit(main())
