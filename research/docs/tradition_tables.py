"""Tables of the built-in traditions for docs/reference/traditions.md, between its catalogue marks.

python -m research.docs.tradition_tables [--out docs/reference/traditions.md]
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from research.docs import markdown
from talim.atomic_io import write_text
from talim.errors import TalimError, UsageError
from talim.traditions.schema import Cycle, Mode, OrnamentDefinition
from talim.traditions.tradition import Tradition, load_all_builtin

PAGE = Path("docs/reference/traditions.md")
BEGIN, END = "<!-- catalogue: begin -->", "<!-- catalogue: end -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    return "\n".join(markdown.table(head, rows))


def numbers(values: Sequence[float]) -> str:
    """Rounded numbers, separated by spaces."""
    return " ".join(f"{value:.0f}" for value in values)


def mode_row(mode: Mode, spell: Callable[[Sequence[float]], str]) -> list[str]:
    """Name, degrees, those in theory if they differ, strong notes, ascent and descent, contour."""
    performed, theory = spell(mode.degrees_cents), spell(mode.theory_cents)
    different = theory if theory != performed else ""
    movement = f"{spell(mode.ascent_cents)}, {spell(mode.descent_cents)}"
    return [mode.name, performed, different, spell(mode.strong_cents), movement, mode.contour]


def cycle_row(cycle: Cycle) -> list[str]:
    """Name, beats, sections, claps, waves, strokes."""
    strokes = " ".join(stroke.syllable for stroke in cycle.strokes)
    return [
        cycle.name,
        f"{cycle.beats:g}",
        numbers(cycle.sections),
        numbers(cycle.claps),
        numbers(cycle.waves),
        strokes,
    ]


def ornament_row(ornament: OrnamentDefinition) -> list[str]:
    """Name, shape, and the bounds of its length, extent and rate."""
    bounds = (ornament.seconds, ornament.extent_cents, ornament.rate_hz)
    return [ornament.name, ornament.shape, *("" if not high else f"{low:g}-{high:g}" for low, high in bounds)]


def catalogue(traditions: Sequence[Tradition]) -> str:
    """Every mode, cycle and ornament of `traditions` in Markdown tables."""
    parts: list[str] = []
    for tradition in traditions:
        with_strokes = sum(bool(cycle.strokes) for cycle in tradition.cycles)
        sources = "\n".join(f"- {source}" for source in tradition.facts.get("sources", ()))
        parts += [
            f"### {tradition.name}",
            f"{len(tradition.modes)} modes ({tradition.mode_word}), {len(tradition.cycles)} cycles "
            f"({tradition.cycle_word}), {with_strokes} of them with strokes, "
            f"{len(tradition.ornaments)} ornaments. Sources:",
            sources,
            table(
                (
                    tradition.mode_word,
                    "as performed",
                    "theory, if different",
                    "emphasised",
                    "ascent, descent",
                    "contour",
                ),
                (mode_row(mode, tradition.notation.spell) for mode in tradition.modes),
            ),
            table(
                (tradition.cycle_word, "beats", "sections", "claps", "waves", "strokes"),
                map(cycle_row, tradition.cycles),
            ),
            table(("ornament", "shape", "seconds", "cents", "Hz"), map(ornament_row, tradition.ornaments)),
        ]
    return "\n\n".join(parts)


def replace_catalogue(text: str) -> str:
    """`text` with a new catalogue between its two marks; TalimError if they are missing."""
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not (begin and end):
        raise TalimError(f"no catalogue marks: expected {BEGIN} and {END} on lines of their own")
    return f"{before}{BEGIN}\n\n{catalogue(load_all_builtin())}\n\n{END}{after}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Replace the catalogue in the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=PAGE, help="the page, which holds the two marks")
    page = parser.parse_args(arguments).out
    if not page.is_file():
        raise UsageError(f"--out {page}: no such file; expected a page with {BEGIN} and {END}")
    write_text(page, replace_catalogue(page.read_text("utf-8")))


if __name__ == "__main__":
    try:
        main()
    except TalimError as error:
        sys.exit(str(error))
