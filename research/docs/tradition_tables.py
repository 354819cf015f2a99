"""The list of what is shipped, as docs/traditions.md shows it: `python -m research.docs.tradition_tables FILE`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from talim.atomic_io import write_text
from talim.errors import TalimError, UsageError
from talim.traditions.schema import Cycle, Mode, OrnamentDefinition
from talim.traditions.tradition import Tradition, load_all_builtin

BEGIN, END = "<!-- catalogue: begin -->", "<!-- catalogue: end -->"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    return "\n".join(lines)


def numbers(values: Sequence[float]) -> str:
    """Whole numbers with spaces between."""
    return " ".join(f"{value:.0f}" for value in values)


def mode_row(mode: Mode, spell: Callable[[Sequence[float]], str]) -> list[str]:
    """Name, degrees, those of theory where they are spelled otherwise, strong notes, movement, contour."""
    played, theory = spell(mode.degrees_cents), spell(mode.theory_cents)
    written = theory if theory != played else ""
    movement = f"{spell(mode.ascent_cents)}, {spell(mode.descent_cents)}"
    return [mode.name, played, written, spell(mode.strong_cents), movement, mode.contour]


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
    return [
        ornament.name,
        ornament.shape,
        *("" if not most else f"{least:g}-{most:g}" for least, most in bounds),
    ]


def catalogue(traditions: Sequence[Tradition]) -> str:
    """Every mode, cycle and ornament of `traditions` in Markdown tables."""
    parts: list[str] = []
    for tradition in traditions:
        struck = sum(bool(cycle.strokes) for cycle in tradition.cycles)
        sources = "\n".join(f"- {source}" for source in tradition.facts.get("sources", ()))
        parts += [
            f"### {tradition.name}",
            f"{len(tradition.modes)} modes ({tradition.mode_word}), {len(tradition.cycles)} cycles "
            f"({tradition.cycle_word}), {struck} of them with strokes, {len(tradition.ornaments)} ornaments. Sources:",
            sources,
            table(
                (tradition.mode_word, "as played", "theory, if other", "leant on", "up, down", "contour"),
                (mode_row(mode, tradition.notation.spell) for mode in tradition.modes),
            ),
            table(
                (tradition.cycle_word, "beats", "sections", "claps", "waves", "strokes"),
                map(cycle_row, tradition.cycles),
            ),
            table(("ornament", "shape", "seconds", "cents", "Hz"), map(ornament_row, tradition.ornaments)),
        ]
    return "\n\n".join(parts)


def renew_catalogue(text: str) -> str:
    """`text` with what stands between the two catalogue marks made anew; TalimError where it lacks them."""
    before, mark, rest = text.partition(BEGIN)
    _, other, after = rest.partition(END)
    if not (mark and other):
        raise TalimError(f"no place for the catalogue: write {BEGIN} and {END} on lines of their own")
    return f"{before}{BEGIN}\n\n{catalogue(load_all_builtin())}\n\n{END}{after}"


def main(arguments: Sequence[str]) -> None:
    """Renew the catalogue in the file that is named."""
    if len(arguments) != 1 or not Path(arguments[0]).is_file():
        raise UsageError(
            "name the page to renew: python -m research.docs.tradition_tables docs/traditions.md"
        )
    page = Path(arguments[0])
    write_text(page, renew_catalogue(page.read_text("utf-8")))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except TalimError as error:
        sys.exit(str(error))
