"""The plan for people: a line a design, how it stands to the whole model, and what would make it fit."""

from __future__ import annotations

import io
import math
import shutil
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from talim.planning.design_table import format_si
from talim.planning.plan import FULL_FINETUNE
from talim.progress import format_duration

PLAN_TABLE_COLUMNS = 110
PLAN_TABLE_MIN_COLUMNS = 90
GB, KWH_JOULES = 1e9, 3.6e6


def render_plan(found: dict[str, Any]) -> str:
    """What `stages.plan.plan` found, as text for this terminal."""
    columns = min(
        max(shutil.get_terminal_size((PLAN_TABLE_COLUMNS, 0)).columns, PLAN_TABLE_MIN_COLUMNS),
        PLAN_TABLE_COLUMNS,
    )
    said = io.StringIO()
    console = Console(file=said, width=columns, highlight=False, markup=False)
    console.print(_plan_header_lines(found))
    console.print(_plan_table(found))
    for line in _footer_lines(found):
        console.print(line)
    return "\n".join(line.rstrip() for line in said.getvalue().splitlines())


def _plan_header_lines(found: dict[str, Any]) -> str:
    again = ", checkpointed" if found["checkpointing"] else ""
    return (
        f"{found['base']} on {found['machine']} ({found['machine_said']}).\n"
        f"{found['clips']:,} clips of {found['seconds']:g} s, {found['epochs']:g} epochs, batch {found['batch']}: "
        f"{found['steps']:,} steps; base in {found['precision']}{again}.\n"
        f"At most {found['limit_bytes'] / GB:.1f} GB may be taken.\n"
    )


def _plan_table(found: dict[str, Any]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1), show_edge=False)
    table.add_column("design", no_wrap=True)
    rows = found["designs"]
    shown = {"memory": True, "step": True, "total": True, "file": True}
    shown["energy"] = any(each["energy_joules"] is not None for each in rows)
    shown["money"] = any(each["money"] is not None for each in rows)
    headings = [name for name, wanted in shown.items() if wanted]
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for each in rows:
        numbers = {
            "memory": f"{each['memory_bytes'] / GB:.2f} GB{'' if each['fits'] else ' !'}",
            "step": _seconds(each["step_seconds"]),
            "total": format_duration(each["hours"] * 3600),
            "file": f"{format_si(each['file_bytes'])}B",
            "energy": _kwh(each["energy_joules"]),
            "money": "-" if each["money"] is None else f"{each['money']:.2f}",
        }
        table.add_row(each["expression"], *(numbers[heading] for heading in headings))
    return table


def _ratio_sentence(each: dict[str, Any]) -> str:
    """A design's ratios to the whole model, in a sentence; time is also what energy and money are proportional to."""
    ratios = each["ratios"]
    memory, time, file = (_share(ratios[name]) for name in ("memory", "time", "storage"))
    return (
        f"{each['expression']} takes {memory} of full@all's memory, {time} of its time, {file} of its file."
    )


def _footer_lines(found: dict[str, Any]) -> list[str]:
    lines = [_ratio_sentence(each) for each in found["designs"] if each["expression"] != FULL_FINETUNE]
    for each in found["designs"]:
        if each["fits"]:
            continue
        remedy = each["remedy"]
        if remedy is None:
            lines.append(f"! {each['expression']} does not fit, and nothing that was tried makes it fit.")
            continue
        lines.append(
            f"! {each['expression']} does not fit. It would with {remedy['words']}: "
            f"{remedy['memory_bytes'] / GB:.2f} GB, {_seconds(remedy['step_seconds'])} a step."
        )
    lines += [f"  {each['expression']}: {each['remark']}" for each in found["designs"] if each["remark"]]
    return ["", *lines, "Looks at held-out clips and the encoding of the corpus are not in the times."]


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.3g} s"


def _kwh(joules: float | None) -> str:
    return "-" if joules is None else f"{joules / KWH_JOULES:.3g} kWh"


def _share(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.3g} %"
