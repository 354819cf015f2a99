"""docs/metrics.md from the docstrings of the metrics: `python -m research.docs.metrics_page --out docs/metrics.md`."""

from __future__ import annotations

import argparse
import inspect
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType, ModuleType

from research.acceptance import tonality
from talim.atomic_io import write_text
from talim.metrics import (
    copy_detection,
    distribution_distances,
    diversity,
    intonation,
    melodic_ngrams,
    noise,
    ornaments,
    prompt_adherence,
    rhythm,
    signal_embeddings,
    structure,
)

MODULES = (
    intonation, ornaments, melodic_ngrams, rhythm, structure, diversity, prompt_adherence, tonality, noise, distribution_distances,
    signal_embeddings, copy_detection,
)  # fmt: skip
OPENING = """# The metrics, one by one

Made by `python -m research.docs.metrics_page --out docs/metrics.md` from the docstrings in `src/talim/metrics`: what a
metric is, its range and unit, which direction is better, and its source. What each one notices, measured on damaged
music: [metrics-sensitivity.md](metrics-sensitivity.md). How well melodies are followed:
[metrics-pitch.md](metrics-pitch.md).
How well copies are found: [metrics-originality.md](metrics-originality.md).

What it costs: to judge 20 clips of ten seconds took 21.7 s of CPU time on one core, 9.3 of them to hear each clip
alone, which `--jobs` shares out (`python benchmarks/judging.py --clips 20 --jobs 1`).
"""


def page() -> str:
    """The whole page, as Markdown."""
    lines = [OPENING]
    for module in MODULES:
        lines += [f"## {module.__name__.rsplit('.', 1)[-1]}", "", inspect.cleandoc(module.__doc__ or ""), ""]
        for name, function in public(module):
            described = inspect.cleandoc(function.__doc__ or "")
            lines += [f"### `{name}{signature(function)}`", "", described, ""]
    return "\n".join(lines).rstrip() + "\n"


def public(module: ModuleType) -> list[tuple[str, FunctionType]]:
    """The functions that a module itself defines for others, in the order of its source."""
    found = [
        (name, value)
        for name, value in vars(module).items()
        if isinstance(value, FunctionType)
        and value.__module__ == module.__name__
        and not name.startswith("_")
    ]
    return sorted(found, key=lambda pair: inspect.getsourcelines(pair[1])[1])


def signature(function: FunctionType) -> str:
    """The names of the arguments, in brackets; a star where the rest goes by name only."""
    names, starred = [], False
    for parameter in inspect.signature(function).parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not starred:
            names.append("*")
            starred = True
        names.append(parameter.name)
    return f"({', '.join(names)})"


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description="Write the reference of the metrics from their docstrings.")
    parser.add_argument("--out", type=Path, required=True, help="the page to write, Markdown")
    write_text(parser.parse_args(arguments).out, page())


if __name__ == "__main__":
    main()
