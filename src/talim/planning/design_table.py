"""The list of designs for people: a line for each, grouped by budget."""

from __future__ import annotations

import io
import shutil
from collections.abc import Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

DESIGN_TABLE_COLUMNS = (
    100  # what everything fits in; on a narrower terminal what follows from the parameters is left out
)
DESIGN_TABLE_MIN_COLUMNS = 80
NUMBERS = ("parameters", "share", "width", "FLOP", "file", "memory")
OPTIONAL_COLUMNS = ("share", "file")
IMPOSSIBLE = "impossible: "


def render_designs(found: dict[str, Any]) -> str:
    """What `stages.designs.designs` found, as text for this terminal, 80 to 100 columns wide."""
    columns = min(
        max(shutil.get_terminal_size((DESIGN_TABLE_COLUMNS, 0)).columns, DESIGN_TABLE_MIN_COLUMNS),
        DESIGN_TABLE_COLUMNS,
    )
    said = io.StringIO()
    console = Console(file=said, width=columns, highlight=False, markup=False)
    console.print(_design_header_lines(found))
    console.print(_design_table(found["designs"], OPTIONAL_COLUMNS if columns < DESIGN_TABLE_COLUMNS else ()))
    impossible = [each["remark"] for each in found["designs"] if each["parameters"] is None]
    if impossible:
        console.print("\nImpossible, and why:")
    for remark in impossible:
        console.print(f"- {remark.removeprefix(IMPOSSIBLE)}")
    return "\n".join(line.rstrip() for line in said.getvalue().splitlines())


def _design_header_lines(found: dict[str, Any]) -> str:
    heard = f"{format_si(found['flops_per_second'])}FLOP for a second of music, forward"
    return (
        f"{found['base']}: {found['parameters']:,} parameters in its {found['part']}, {heard}.\n"
        f"FLOP: what a design adds to that. memory: what a training clip of {found['clip_seconds']:g} s keeps in "
        "float32, without gradient checkpointing; weights and optimiser come on top.\n"
    )


def _design_table(designs: list[dict[str, Any]], without: Sequence[str]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=0, show_edge=False)
    table.add_column("design", no_wrap=True)
    shown = [heading for heading in NUMBERS if heading not in without]
    for heading in shown:
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("remark")  # the one that may break, wherever it must
    group = None
    for each in designs:
        size = _size(each)
        if group is not None and size != group:
            table.add_row()
        if size and size != group:
            table.add_row(f"{size} of the base" if size.endswith("%") else size)
        group = size
        name = each["expression"].removesuffix(f":{size}") if size else each["expression"]
        numbers = _numbers(each)
        table.add_row(_stacked(name), *(numbers.get(heading, "") for heading in shown), _note(each))
    return table


def _stacked(text: str) -> str:
    """A mixture's parts below each other."""
    return text.replace("+", "+\n")


def _size(each: dict[str, Any]) -> str:
    """What a design of one part was sized by; nothing for a mixture, and for what takes no size."""
    return "" if "+" in each["kind"] else each["expression"].partition(":")[2]


def _numbers(each: dict[str, Any]) -> dict[str, str]:
    if each["parameters"] is None:
        return {}
    return {
        "parameters": f"{each['parameters']:,}",
        "share": f"{100 * each['share']:.2f}%",
        "width": _stacked("+".join(_format_range(span) for span in each["widths"])),
        "FLOP": format_si(each["flops_per_second"]).strip(),
        "file": f"{format_si(each['file_bytes'])}B",
        "memory": f"{format_si(each['activation_bytes'])}B",
    }


def _note(each: dict[str, Any]) -> str:
    if each["parameters"] is None:
        return "impossible, see below"
    return each["remark"].replace("nearest possible:", "nearest:")


def _format_range(span: list[int] | None) -> str:
    if span is None:
        return "-"
    return str(span[0]) if span[0] == span[1] else f"{span[0]}..{span[1]}"


def format_si(number: float) -> str:
    """Three digits and a letter: "85.3 M"."""
    for letter, size in {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}.items():
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g} "
