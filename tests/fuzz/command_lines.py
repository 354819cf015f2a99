"""Draws command lines of `talim`: every command and option, with values that are good, wrong or hostile; and runs them.

`python tests/fuzz/command_lines.py --count 2000 --seed 0 --folder EMPTY` makes the files that the lines name, runs
each line in a forked child and prints a count of exit statuses and every line that ended otherwise than it may.
"""

from __future__ import annotations

import argparse
import importlib
import json
import os
import random
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ALLOWED = (0, 1, 2, 130)
SECONDS_BEFORE_CTRL_C, SECONDS_AFTER_CTRL_C = 10.0, 60.0
MEMORY_BYTES = 24 << 30
PRELOADED = (
    *("talim.cli", "talim.evaluation.evaluate", "talim.evaluation.copy_report", "talim.evaluation.recognize_mode"),
    *("talim.poc.pipeline", "talim.experiments.runner", "talim.planning.plan", "talim.listening.ratings_report"),
    *("talim.adapters.inspect", "talim.backbones.load", "talim.briefs.report", "talim.poc.report_section"),
)
HOSTILE = (
    *("", " ", "-", "--", "=", "x" * 300, "ş" * 200, "a/" * 200, "\udcff", "\x1b[31m\x1b]0;t\x07", "\x9b", "a\nb"),
    *(
        "../..",
        "~",
        "~nobody",
        "/dev/null",
        "/dev/zero",
        "/proc/self/environ",
        "/",
        "\\\\server\\x",
        "C:\\x",
        "file:///x",
    ),
    *(
        "!!python/object:x",
        "&a [*a]",
        "{" * 2000,
        "[" * 5000,
        "*",
        "$(id)",
        "`id`",
        "%s%n",
        "'",
        '"',
        "{}",
        "[]",
        "null",
    ),
    *("録音\u3000フォルダ", "راگ", "e\u0301", "true", "0x10", "1_000", "9" * 400, "١٢", "a=b=c", "=1", "@", ":", "+"),
)
NUMBERS = ("0", "1", "2", "-1", "0.5", "1e-320", "nan", "inf", "-inf", "1e308", "9e29", "2147483648", "9" * 30, "1e400")
FOLDERS = ("FOLDER", "CORPUS", "RUN", "RUN/adapter", "BASE", "TAKES", "POC", "TEST", "STUDY")
FILES = ("FILE", "TAKES/take-0.wav", "BROKEN.yaml", "ALIASES.yaml", "DEEP.yaml", "DEEP.json", "BINARY", "FIFO")
PATHS = (*FOLDERS, *FILES, "MISSING", "MISSING/x", "FILE/x", "LOOP", "SECRET")
BASES = ("BASE", "nano-musicgen", "nano-mustango", "musicgen-small", "facebook/musicgen-small", "somebody/model")
DESIGNS = (
    "linear@all:10%",
    "conv@deep:1k",
    "lora@all:r2",
    "full@post",
    "linear@al:1%",
    "conv@all",
    "ia3@all",
    "x",
    "@:",
)
SETTINGS = (
    *("training.steps=2", "training.batch_size=2", "training.batch_size=0", "training.stepz=2", "training.steps=1e9"),
    *("base=&a [*a]", "base=" + "[" * 3000, "training=3", "corpus=", "seed=-1", "training.crop_seconds=nan", "a.b.c=1"),
    *("training.learning_rate=1e30", "design=x", "training.precision=fp8", "training.eval_every=2026-13-45"),
)
# Values that often make a line work, by the name of its parameter; hostile ones are drawn besides.
GOOD: dict[str, Sequence[str]] = {
    "source": ("TAKES", "FOLDER", "MISSING"),
    "folder": FOLDERS,
    "run": ("RUN", "POC", "FOLDER", "MISSING"),
    "base": BASES,
    "adapter": ("RUN/adapter", "FOLDER", "MISSING"),
    "corpus": ("CORPUS", "FOLDER", "MISSING"),
    "design": DESIGNS,
    "settings": SETTINGS,
    "device": ("cpu", "auto", "cuda", "cuda:9", "tpu", "mps", "CPU"),
    "seconds": ("1", "0.5", "2"),
    "steps": ("2", "1"),
    "prompt": ("slow glide", "静かな朝", "rāga"),
    "beats": ("92 bpm 3/4", "1@0.5 2@1.0", "0 bpm", "1e9 bpm", "nan bpm"),
    "chords": ("Gm@0 Eb/G@2.5", "H@0", "C@nan"),
    "tradition": ("hindustani", "makam", "FOLDER"),
    "tonic": ("146.8", "261.6"),
    "format": ("folder", "otmm", "symbtr", "huggingface", "mirdata:x", "symbtr:x"),
    "hours": ("0.001", "0.01"),
    "gates": ("GATES.yaml", "BROKEN.yaml"),
    "file": (*FILES, "STUDY.yaml", "BRIEF.yaml"),
    "study": ("STUDY.yaml", "BROKEN.yaml", "MISSING"),
    "config": ("RUN/recipe.yaml", "small-gpu", "ALIASES.yaml", "DEEP.yaml", "MISSING"),
    "claims": ("BROKEN.yaml", "ALIASES.yaml", "MISSING"),
    "gpu": ("rtx-3060", "l4", "nonsense"),
    "protocol": ("default", "paper", "x"),
    "use": ("any", "commercial", "x"),
    "goal": ("jingle", "learning", "x"),
    "budget": ("1k", "2.5%", "40M", "9" * 30, "-1", "0"),
    "continue_": ("extend", "hybrid", "x"),
    "database": ("sqlite:///votes.db", "sqlite:////proc/x", "postgresql://x", "x"),
    "url": ("https://example.org", "http://[::1", "http://a b", "http://h:abc"),
    "host": ("127.0.0.1", "999.1.1.1", "nowhere.invalid"),
    "ray": ("local", "nowhere:1"),
    "sampler": ("ddpm", "ddim", "x"),
    "precision": ("fp32", "bf16", "fp8"),
    "split_by": ("auto", "performer", "x"),
    "max_": ("memory=6GB", "parameters=2M", "memory=", "x=1"),
    "minimize": ("parameters", "x"),
}


@dataclass(frozen=True)
class Outcome:
    """How a line ended: its exit status (negative: killed by that signal), what it said, its seconds."""

    arguments: list[str]
    status: int
    said: str
    seconds: float
    interrupted: bool

    @property
    def fault(self) -> str:
        """What is wrong with this end; empty for a line that ended as it may."""
        if self.status not in ALLOWED:
            return f"exit status {self.status} after {self.seconds:.0f} s"
        return next((words for words in ("Traceback (most recent", "bug in talim") if words in self.said), "")


def command_lines(seed: int, count: int) -> Iterator[list[str]]:
    """`count` lines of arguments, the same ones for the same seed; OUT-n names are new in each."""
    import typer

    from talim.cli import app

    rng = random.Random(seed)
    commands = list(_leaves(typer.main.get_command(app), []))
    for number in range(count):
        words, parameters = rng.choice(commands)
        yield [*_draw_line(rng, words, parameters, number)]


def _leaves(command: Any, words: list[str]) -> Iterator[tuple[list[str], list[Any]]]:
    if not hasattr(command, "commands"):
        yield words, [p for p in command.params if p.name != "help"]
        return
    for name, inner in command.commands.items():
        yield from _leaves(inner, [*words, name])


def _draw_line(rng: random.Random, words: list[str], parameters: list[Any], number: int) -> Iterator[str]:
    yield from words
    for parameter in parameters:
        is_option = parameter.param_type_name == "option"
        if not rng.random() < (0.96 if parameter.required else 0.2 if is_option else 0.7):
            continue
        for _ in range(rng.choice((1, 1, 2)) if getattr(parameter, "multiple", False) else 1):
            if is_option:
                yield rng.choice(parameter.opts)
            if not getattr(parameter, "is_flag", False):
                yield _draw_value(rng, parameter, number)
    if words[-1] in ("serve", "review"):
        yield "--no-serve"
    if rng.random() < 0.05:
        yield rng.choice(("--help", "--nonsense", "--json", "extra", *HOSTILE))


def _draw_value(rng: random.Random, parameter: Any, number: int) -> str:
    kind, name = str(parameter.bare_type).lower(), parameter.name
    if rng.random() < 0.12:
        return rng.choice((*HOSTILE, *NUMBERS))
    if name in ("out", "to", "cache"):
        return rng.choice((f"OUT-{number}", f"OUT-{number}", f"OUT-{number}.flac", f"OUT-{number}.json", *PATHS))
    if name in GOOD and rng.random() < 0.8:
        return rng.choice(GOOD[name])
    if "int" in kind or "float" in kind:
        return rng.choice(("1", "2", *NUMBERS))
    return rng.choice((*PATHS, "x"))


def make_files(folder: Path) -> None:
    """The files and folders that the lines name: a tiny base, a corpus, a finished run, and broken things."""
    sys.path.insert(0, str(Path(__file__).parents[1]))
    from conftest import QUICK, RATE_HZ, save_tiny_base, write_recordings

    from talim import recipe as recipes
    from talim.corpus.prepare import prepare
    from talim.training.train import train

    write_recordings(folder / "TAKES", count=4, seconds=4.0)
    save_tiny_base(folder / "BASE")
    prepare(folder / "TAKES", folder / "CORPUS", clip_seconds=2.0, sample_rate=RATE_HZ, held_out_fraction=0.34, seed=1)
    quick = QUICK | {"training.steps": 2, "training.warmup_steps": 1}
    where = os.getcwd()
    os.chdir(folder)
    try:
        train(recipes.load((), {"base": "BASE", "corpus": "CORPUS", **quick}), "RUN")
    finally:
        os.chdir(where)
    for name in ("FOLDER", "TEST", "STUDY", "POC", "SECRET"):
        (folder / name).mkdir()
    (folder / "TEST" / "protocol.yaml").write_text("name: &a [*a]\n")
    (folder / "STUDY" / "results.jsonl").write_text('{"id": 1}\n[]\n3\n')
    (folder / "POC" / "stages.json").write_text(json.dumps({"chosen": {"run": "../RUN", "design": "x"}, "stages": 3}))
    (folder / "FILE").write_text("words\n")
    (folder / "BINARY").write_bytes(bytes(range(256)) * 50)
    (folder / "BROKEN.yaml").write_text("a: [")
    (folder / "ALIASES.yaml").write_text("a: &a [x, x]\nname: [" + ", ".join(["*a"] * 9) + "]\n")
    (folder / "DEEP.yaml").write_text("[" * 20_000)
    (folder / "DEEP.json").write_text("[" * 100_000)
    (folder / "GATES.yaml").write_text("quality: {min_loss_reduction_nats: nan}\n")
    (folder / "STUDY.yaml").write_text("name: s\ngrids: [{designs: [x]}]\n")
    (folder / "BRIEF.yaml").write_text("title: ジングル\nseconds: -1\n")
    (folder / "LOOP").symlink_to("LOOP")
    os.mkfifo(folder / "FIFO")


def run_lines(lines: Sequence[list[str]], folder: Path, parallel: int = 1) -> Iterator[Outcome]:
    """Run each line in a forked child in `folder`, `parallel` at a time; too long a line gets Ctrl-C."""
    for module in PRELOADED:  # once, for all children
        importlib.import_module(module)
    waiting, running = list(enumerate(lines)), {}
    while waiting or running:
        while waiting and len(running) < parallel:
            number, arguments = waiting.pop(0)
            said = folder / f".said-{number}"
            child = os.fork()
            if not child:
                _become(arguments, folder, said)
            running[child] = (arguments, said, time.monotonic(), [])
        time.sleep(0.01)
        for child, (arguments, said, began, signals) in list(running.items()):
            seconds = time.monotonic() - began
            ended, code = os.waitpid(child, os.WNOHANG)
            if ended:
                del running[child]
                text = said.read_text(errors="replace") if said.exists() else ""
                said.unlink(missing_ok=True)
                yield Outcome(arguments, os.waitstatus_to_exitcode(code), text, seconds, bool(signals))
            # as a user: again, where the first one met code of a library that does not pass it on
            elif seconds > SECONDS_BEFORE_CTRL_C + len(signals) * SECONDS_AFTER_CTRL_C / 3 and len(signals) < 3:
                signals.append(signal.SIGINT)
                os.kill(child, signal.SIGINT)
            elif seconds > SECONDS_BEFORE_CTRL_C + SECONDS_AFTER_CTRL_C:
                os.kill(child, signal.SIGKILL)


def _become(arguments: list[str], folder: Path, said: Path) -> None:
    """In the child: run the line with its output in a file, and end."""
    from talim.cli import main

    status = 70
    try:
        os.chdir(folder)
        os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), 2)
        os.dup2(os.open(os.devnull, os.O_RDWR), 0)
        os.dup2(0, 1)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        signal.signal(signal.SIGINT, signal.default_int_handler)
        main(arguments)
    except SystemExit as done:
        status = done.code if isinstance(done.code, int) else 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        with open(2, "w", closefd=False) as stderr:
            stderr.flush()
        os._exit(status)


def run_as_processes(lines: Sequence[list[str]], folder: Path) -> Iterator[Outcome]:
    """Run each line as a user would, as a process of its own."""
    for arguments in lines:
        began = time.monotonic()
        words = [os.fsencode(word) for word in arguments]
        process = subprocess.Popen(
            [sys.executable, "-m", "talim", *words],
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        try:
            _, said = process.communicate(timeout=3 * SECONDS_BEFORE_CTRL_C)
            interrupted = False
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            interrupted = True
            try:
                _, said = process.communicate(timeout=SECONDS_AFTER_CTRL_C)
            except subprocess.TimeoutExpired:
                process.kill()
                _, said = process.communicate()
        text = said.decode(errors="replace")
        yield Outcome(arguments, process.returncode, text, time.monotonic() - began, interrupted)


def main() -> None:
    """Print the counts and the faults of `--count` lines."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--parallel", type=int, default=1)
    arguments = parser.parse_args()
    if not (arguments.folder / "FIFO").exists():
        make_files(arguments.folder)
    counts: Counter[str] = Counter()
    slowest = 0.0
    lines = list(command_lines(arguments.seed, arguments.count))
    for outcome in run_lines(lines, arguments.folder, arguments.parallel):
        counts[f"{outcome.status}{' after Ctrl-C' * outcome.interrupted}"] += 1
        slowest = max(slowest, outcome.seconds)
        if counts.total() % 100 == 0:
            print(dict(counts), flush=True)
        if outcome.fault or outcome.interrupted:
            words = shlex.join(word[:80] for word in outcome.arguments).encode("ascii", "backslashreplace").decode()
            print(f"{outcome.fault or 'long'}: talim {words}\n    {outcome.said[-500:]}", flush=True)
    print(f"{dict(counts)}; the slowest took {slowest:.0f} s")


if __name__ == "__main__":
    main()
