"""Peak memory of the commands that read or write sound, by its length, and how their time grows: a page of the docs.

    python -m benchmarks.memory_and_time --folder WORK --minutes 1,10,60 --page docs/reports/memory-and-time.md

Each figure is of one child process, as the operating system counts it: resident memory at its peak, wall time, and CPU
time of all its threads. Figures are added to WORK/measured.jsonl as they are taken; what is there is not measured
again. The sound is a melody with a drone, made by the program, 44.1 kHz stereo; models are nano-musicgen.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soundfile

from talim.atomic_io import append_jsonl, read_jsonl, write_jsonl, write_text

RATE_HZ = 44_100
BOUND_BYTES = 1_500_000_000
COMMANDS = (
    *("prepare FLAC", "prepare M4A", "evaluate RUN", "evaluate FOLDERS", "modes", "copies", "generate"),
    "generate from random codes",
)
HAND_WRITTEN = "## Known limits"  # a section that is kept when the page is written anew
GROWING = ("prepare", "report", "ratings")  # by the number of recordings, trials and listeners
Row = dict[str, Any]


def melody_blocks(minutes: float, seed: int) -> Iterator[np.ndarray]:
    """Held and gliding notes of a scale over a drone, [T, 2] float32, a second at a time; never twice the same."""
    rng = np.random.default_rng(seed)
    time_s = np.arange(RATE_HZ) / RATE_HZ
    phase, cents = 0.0, 0.0
    for _ in range(round(60 * minutes)):
        target = float(rng.choice([-500, 0, 200, 400, 500, 700, 900, 1100, 1200])) + rng.normal(scale=8)
        glide = cents + (target - cents) * np.clip(time_s / rng.uniform(0.05, 0.6), 0, 1)
        turns = phase + np.cumsum(220 * 2 ** (glide / 1200)) / RATE_HZ
        phase, cents = turns[-1] % 1, target
        voice = sum(np.sin(2 * np.pi * k * turns) / k for k in range(1, 6))
        drone = np.sin(2 * np.pi * 110 * time_s) + 0.5 * np.sin(2 * np.pi * 165 * time_s)
        left = 0.15 * voice + 0.03 * drone + 0.005 * rng.normal(size=RATE_HZ)
        yield np.stack([left, 0.8 * left], axis=1).astype(np.float32)


def write_recording(path: Path, minutes: float, seed: int) -> Path:
    """A recording of `minutes`, as FLAC or, by its suffix, as AAC in M4A; one that is there is kept."""
    if path.is_file():
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_stem(f"{path.stem}-part")
    write = _write_flac if path.suffix == ".flac" else _write_m4a
    write(part, melody_blocks(minutes, seed))
    part.rename(path)
    return path


def _write_flac(path: Path, blocks: Iterator[np.ndarray]) -> None:
    with soundfile.SoundFile(path, "w", RATE_HZ, 2, subtype="PCM_16") as file:
        for block in blocks:
            file.write(block)


def _write_m4a(path: Path, blocks: Iterator[np.ndarray]) -> None:
    import av

    with av.open(str(path), "w", format="mp4") as output:
        stream = output.add_stream("aac", rate=RATE_HZ, layout="stereo")
        fifo = av.AudioFifo()
        for block in blocks:
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(block.T), format="fltp", layout="stereo")
            frame.sample_rate = RATE_HZ
            fifo.write(frame)
            while piece := fifo.read(1024):
                output.mux(stream.encode(piece))
        output.mux(stream.encode(fifo.read(0, partial=True)))
        output.mux(stream.encode(None))


# Linux counts the memory of whoever starts a process as that process's peak, so a small interpreter starts it.
_MEASURE = """
import json, os, subprocess, sys
child = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL)
_, status, usage = os.wait4(child.pid, 0)
print(json.dumps([os.waitstatus_to_exitcode(status), usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""


def talim(*arguments: object, allowed: Sequence[int] = (0,), program: Sequence[str] = ("-m", "talim")) -> Row:
    """Run a talim command; its wall and CPU seconds and the peak of its resident memory in bytes."""
    command = [sys.executable, *program, *map(str, arguments)]
    began = time.perf_counter()
    measured = subprocess.run([sys.executable, "-S", "-c", _MEASURE, *command], capture_output=True, text=True)
    wall_seconds = time.perf_counter() - began
    exit_code, cpu_seconds, peak = json.loads(measured.stdout)
    if exit_code not in allowed:
        raise RuntimeError(f"{' '.join(command)} ended with {exit_code}: {measured.stderr[-2000:]}")
    peak_bytes = peak * (1 if sys.platform == "darwin" else 1024)
    return {"wall_seconds": wall_seconds, "cpu_seconds": cpu_seconds, "peak_bytes": peak_bytes}


def _fresh(folder: Path) -> Path:
    shutil.rmtree(folder, ignore_errors=True)
    return folder


def _prepare(folder: Path, minutes: float, suffix: str) -> Row:
    write_recording(folder / f"one{suffix}" / f"long{suffix}", minutes, 1)
    return talim("prepare", folder / f"one{suffix}", "--out", _fresh(folder / f"corpus{suffix}"))


def _evaluate_run(folder: Path, minutes: float) -> Row:
    """A run of two steps on four recordings of a quarter of the length each."""
    run = folder / "run"
    if not (run / "adapter").is_dir():
        for number in range(4):
            write_recording(folder / "quarters" / f"{number}.flac", minutes / 4, 10 + number)
        talim("prepare", folder / "quarters", "--out", folder / "corpus-quarters")
        sizes = [f"training.{name}" for name in ("batch_size=2", "warmup_steps=1", "eval_every=2")]
        settings = [part for size in sizes for part in ("--set", size)]
        corpus = ["--corpus", folder / "corpus-quarters", "--design", "linear@post:1%", "--base", "nano-musicgen"]
        talim("train", *corpus, "--steps", 2, *settings, "--out", run)
    shutil.rmtree(run / "metrics_cache", ignore_errors=True)
    return talim("evaluate", run, "--num-prompts", 1, "--seconds", 5)


def _evaluate_folders(folder: Path, minutes: float) -> Row:
    """Two files in each folder, each of half the length."""
    for number, role in enumerate(("real", "real", "generated", "generated")):
        write_recording(folder / role / f"{number}.flac", minutes / 2, 20 + number)
    return talim("evaluate", "--real", folder / "real", "--generated", folder / "generated")


def _modes(folder: Path, minutes: float) -> Row:
    return talim("modes", write_recording(folder / "one.flac" / "long.flac", minutes, 1), "--tradition", "hindustani")


def _copies(folder: Path, minutes: float) -> Row:
    """A clip of 30 s, and two training recordings of half the length."""
    clip = write_recording(folder / "clip.flac", 0.5, 30)
    for number in range(2):
        write_recording(folder / "training" / f"{number}.flac", minutes / 2, 40 + number)
    return talim("copies", clip, folder / "training", "--out", _fresh(folder / "copies"), allowed=(0, 1))


def _generate(folder: Path, minutes: float, program: Sequence[str] = ("-m", "talim")) -> Row:
    out = folder / "piece.flac"
    out.unlink(missing_ok=True)
    prompt = ("--base", "nano-musicgen", "--prompt", "slow flute over a drone")
    return talim("generate", *prompt, "--seconds", 60 * minutes, "--out", out, program=program)


# The command with random codes in place of the model's: decoding and writing alone.
_RANDOM_CODES = """
import numpy
from talim.backbones.musicgen.backbone import MusicGen
from talim.cli.main import main
def parts(self, prompts, seconds, seeds, *_, **__):
    frames = round(seconds[0] * self.frame_rate_hz)
    rng = numpy.random.default_rng(seeds[0])
    for first in range(0, frames, 100):
        count = min(100, frames - first)
        yield 0, rng.integers(0, 1024, (self.codebooks, count), dtype=numpy.int16), first + count == frames
MusicGen.generate_parts = parts
main()
"""


def _generate_from_random_codes(folder: Path, minutes: float) -> Row:
    return _generate(folder, minutes, ("-c", _RANDOM_CODES))


BY_LENGTH: Mapping[str, Callable[[Path, float], Row]] = {
    "prepare FLAC": lambda folder, minutes: _prepare(folder, minutes, ".flac"),
    "prepare M4A": lambda folder, minutes: _prepare(folder, minutes, ".m4a"),
    "evaluate RUN": _evaluate_run,
    "evaluate FOLDERS": _evaluate_folders,
    "modes": _modes,
    "copies": _copies,
    "generate": _generate,
    "generate from random codes": _generate_from_random_codes,
}


def _prepare_many(folder: Path, count: int) -> Row:
    """`count` recordings of 20 s."""
    for number in range(count):
        write_recording(folder / "recordings" / f"{number:04d}.flac", 1 / 3, 1000 + number)
    return talim("prepare", folder / "recordings", "--out", _fresh(folder / "corpus"))


def _report_many(folder: Path, count: int) -> Row:
    """The page of a study with `count` simulated trials."""
    from research.validation.simulated_studies import SimulatedStudy, grid, rows

    designs = grid(("linear", "conv", "transformer"), ("post", "all"), (0.5, 2.5))
    found = rows(SimulatedStudy(designs, seeds=max(1, -(-count // (2 * len(designs))))), 0)[:count]
    folder.mkdir(parents=True, exist_ok=True)
    write_jsonl(folder / "results.jsonl", found)
    return talim("report", folder)


def _ratings_many(folder: Path, count: int) -> Row:
    """Answers of `count` simulated listeners, as another site's export."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "protocol.yaml", _PROTOCOL)
    write_jsonl(folder / "votes.jsonl", list(_votes(count)))
    return talim("ratings", folder, "--merge", folder / "votes.jsonl")


_PROTOCOL = """name: simulated
conditions:
  - {name: linear, source: runs/linear}
  - {name: conv, source: runs/conv}
  - {name: untrained, source: runs/linear, take: base}
reference: untrained
aspects: [{name: overall}]
trials: {per_listener: 12, repeats: 0, attention: 0, minimum_seconds: 0}
"""


def _votes(listeners: int) -> Iterator[Row]:
    names, strengths = ("linear", "conv", "untrained"), (0.8, 0.3, 0.0)
    for listener in range(listeners):
        rng = np.random.default_rng(listener)
        own = np.array(strengths) + 0.5 * rng.normal(size=3)
        for position in range(12):
            first, second = rng.choice(3, 2, replace=False)
            answer = int((rng.logistic() + own[first] - own[second] > np.array([-1.8, -0.5, 0.5, 1.8])).sum()) - 2
            yield {
                **{"test": "0" * 16, "site": "simulated", "listener": f"{listener}", "group": "expert"},
                **{"familiarity": 3, "language": "en", "position": position, "kind": "normal"},
                **{"item": f"item-{position % 4:02d}", "aspect": "overall", "answer": answer, "at": 0.0},
                **{"first": names[first], "second": names[second], "listened_seconds": 5.0},
            }


BY_NUMBER: Mapping[str, tuple[Callable[[Path, int], Row], int, str]] = {
    "prepare": (_prepare_many, 20, "recordings of 20 s"),
    "report": (_report_many, 24, "trials"),
    "ratings": (_ratings_many, 20, "listeners"),
}


def measure(folder: Path, minutes: Sequence[float], commands: Sequence[str], scale: float = 1.0) -> list[Row]:
    """Take the figures that are not yet in FOLDER/measured.jsonl; all that are there.

    `scale` multiplies the numbers of recordings, trials and listeners of the second table.
    """
    table = folder / "measured.jsonl"
    found = list(read_jsonl(table)) if table.is_file() else []
    done = {(row["table"], row["command"], row["size"]) for row in found}
    jobs: list[tuple[str, str, float]] = [
        ("length", name, m) for m in minutes for name in BY_LENGTH if name in commands
    ]
    jobs += [
        ("number", name, count)
        for name, (_, base, _unit) in BY_NUMBER.items()
        if f"{name} N" in commands
        for count in (max(2, round(scale * base)), 10 * max(2, round(scale * base)))
    ]
    for kind, name, size in jobs:
        if (kind, name, size) in done:
            continue
        place = folder / f"{kind}-{size:g}" / ("" if kind == "length" else name)
        place.mkdir(parents=True, exist_ok=True)
        taken = BY_LENGTH[name](place, size) if kind == "length" else BY_NUMBER[name][0](place, int(size))
        row = {"table": kind, "command": name, "size": size, **taken}
        print(row, flush=True)
        append_jsonl(table, row)
        found.append(row)
    return found


def page(rows: Sequence[Row], command: str) -> str:
    """The report as Markdown."""
    length = {(row["command"], row["size"]): row for row in rows if row["table"] == "length"}
    sizes = sorted({size for _, size in length})
    lines = [
        "# Memory and time",
        "",
        "Memory must not follow the length of the sound: the aim is at most "
        f"{BOUND_BYTES / 1e9:.1f} GB for any length. What was measured, and only that, is below. "
        "The figures are of whole processes, as the operating "
        "system counts them: resident memory at its peak, and CPU time of all threads.",
        "",
        "```bash",
        command,
        "```",
        "",
        "The sound is a melody over a drone, 44.1 kHz stereo, made by the program; models are `nano-musicgen`. "
        "`prepare` and `modes` read one file of the length; `evaluate RUN` works on a corpus of the length in four "
        "recordings, with one prompt of 5 s; `evaluate FOLDERS` is `--real` and `--generated`, each of the length in "
        "two files; `copies` looks for a clip of 30 s in two recordings of half the length; `generate` makes one "
        "piece of the length by continuation, the whole way: sampling, and decoding and writing what is there of it; "
        "with random codes in place of the model's, it decodes and writes only.",
        "",
        "## Peak memory and CPU time by the length of the sound",
        "",
        "| command | " + " | ".join(f"{size:g} min" for size in sizes) + " | within 1.5 GB |",
        "|---|" + "---|" * (len(sizes) + 1),
    ]
    for name in COMMANDS:
        measured = [length.get((name, size)) for size in sizes]
        cells = [f"{r['peak_bytes'] / 1e6:.0f} MB, {r['cpu_seconds']:.0f} s" if r else "not measured" for r in measured]
        within = _within_bound(measured)
        lines.append(f"| `{name}` | " + " | ".join(cells) + f" | {within} |")
    lines += ["", "## Time by the number of things", ""]
    lines += [
        "| command | n | CPU time at n | at 10 n | ratio | wall time at n | at 10 n |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, (_, _base, unit) in BY_NUMBER.items():
        pair = sorted((row for row in rows if (row["table"], row["command"]) == ("number", name)), key=_size)
        if len(pair) >= 2:
            few, many = pair[0], pair[-1]
            cpu = f"{few['cpu_seconds']:.1f} s | {many['cpu_seconds']:.1f} s"
            ratio = many["cpu_seconds"] / few["cpu_seconds"]
            wall = f"{few['wall_seconds']:.1f} s | {many['wall_seconds']:.1f} s"
            lines.append(f"| `{name}` | {few['size']:g} {unit} | {cpu} | {ratio:.1f} | {wall} |")
    lines += ["", "A ratio of at most 10 is time that grows no faster than the number of things.", ""]
    return "\n".join(lines)


def _hand_written(path: Path) -> str:
    """The section of an earlier page that no figure is in."""
    earlier = path.read_text(encoding="utf-8") if path.is_file() else ""
    at = earlier.find(HAND_WRITTEN)
    return f"\n{earlier[at:]}" if at >= 0 else ""


def _within_bound(measured: Sequence[Row | None]) -> str:
    """Whether the figures keep the bound; lengths without a figure count for nothing, and are told."""
    taken = [row for row in measured if row]
    if any(row["peak_bytes"] > BOUND_BYTES for row in taken):
        return "**no**"
    return "yes" if len(taken) == len(measured) else "as far as measured" if taken else "not measured"


def _size(row: Row) -> float:
    return row["size"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure what is missing, and write the page, whose section of known limits is kept."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--folder", type=Path, required=True, help="for sound, corpora and measured.jsonl")
    parser.add_argument("--minutes", default="1,10,60", help="lengths of the sound")
    parser.add_argument("--only", help=f"commands to measure, of {', '.join(COMMANDS)}, and 'prepare N', ...")
    parser.add_argument("--scale", type=float, default=1.0, help="of the numbers in the second table")
    parser.add_argument("--page", type=Path, help="Markdown file to write")
    options = parser.parse_args(arguments)
    every = [*COMMANDS, *(f"{name} N" for name in GROWING)]
    commands = options.only.split(",") if options.only else every
    if unknown := [name for name in commands if name not in every]:
        parser.error(f"unknown: {', '.join(unknown)}; choose of {', '.join(every)}")
    minutes = [float(text) for text in options.minutes.split(",")]
    rows = measure(options.folder, minutes, commands, options.scale)
    if options.page:
        command = (
            f"python -m benchmarks.memory_and_time --folder WORK --minutes {options.minutes} --page {options.page}"
        )
        write_text(options.page, page(rows, command) + _hand_written(options.page))


if __name__ == "__main__":
    main()
