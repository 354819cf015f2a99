"""The results of `talim designs` and `talim plan` as tables for a terminal."""

from __future__ import annotations

import io
import math
import shlex
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from talim.backbones import registry
from talim.design import budget
from talim.html.formatting import GB, format_counted, format_memory, format_number, format_setting
from talim.planning.design_costs import FULL_FINETUNE, JOULES_PER_KWH, OTHER_DESIGN
from talim.planning.training_job import WHY_FULL_PASSES
from talim.progress import format_duration

DESIGN_TABLE_COLUMNS, DESIGN_TABLE_MIN_COLUMNS = 100, 80
OPTIONAL_DESIGN_COLUMNS = ("percent", "file")  # left out on a narrow terminal
PLAN_TABLE_COLUMNS, PLAN_TABLE_MIN_COLUMNS = 110, 90
MAX_COLUMNS = 2000
NEXT = "next: "
IMPOSSIBLE = "impossible: "
ENERGY_UNKNOWN = "Energy is not known, as the power of this machine is not: give it with --watts."


def render_designs(result: dict[str, Any]) -> str:
    """The result of `design_costs` as text, 80 to 100 columns wide."""
    return _render(_design_parts, result, DESIGN_TABLE_MIN_COLUMNS, DESIGN_TABLE_COLUMNS)


def render_plan(result: dict[str, Any]) -> str:
    """The result of `plan_designs` as text, 90 to 110 columns wide."""
    return _render(_plan_parts, result, PLAN_TABLE_MIN_COLUMNS, PLAN_TABLE_COLUMNS)


def _render(
    parts: Callable[[dict[str, Any], int], list[str | Table]], result: dict[str, Any], fewest: int, most: int
) -> str:
    columns = min(max(shutil.get_terminal_size((most, 0)).columns, fewest), most)
    output = io.StringIO()
    console = Console(file=output, width=MAX_COLUMNS, highlight=False, markup=False)
    for part in parts(result, columns):
        is_command = isinstance(part, str) and NEXT in part  # in one line, so that it can be copied
        console.print(part, width=max(columns, _uncut_width(part, console)), soft_wrap=is_command)
    return "\n".join(line.rstrip() for line in output.getvalue().splitlines())


def _uncut_width(part: str | Table, console: Console) -> int:
    """The width at which no cell of a table is cut off, if its columns do not wrap: designs are there to be typed."""
    if isinstance(part, str) or not all(column.no_wrap for column in part.columns):
        return 0
    return Measurement.get(console, console.options, part).maximum


def _named_base(result: dict[str, Any]) -> str:
    """The base's name, and its folder where it is one of the user's."""
    option = result["base_option"]
    return f"{result['base']} ({option})" if Path(option).is_absolute() else result["base"]


def _table(headings: Sequence[str], padding: tuple[int, int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding, show_edge=False)
    table.add_column("design", no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _design_parts(result: dict[str, Any], columns: int) -> list[str | Table]:
    header = (
        f"{_named_base(result)}: {result['parameters']:,} parameters in its {result['adapted_part']}, "
        f"{format_si(result['flops_per_audio_second'])}FLOP per second of audio, forward.\n"
        f"FLOP: what a design adds to that. memory: activations of a training clip of {result['crop_seconds']:g} s in "
        "float32, without gradient checkpointing; weights and optimiser state come on top.\n"
    )
    headings = ["parameters", "percent", "width", "FLOP", "file", "memory"]
    if columns < DESIGN_TABLE_COLUMNS:
        headings = [heading for heading in headings if heading not in OPTIONAL_DESIGN_COLUMNS]
    table = _table(headings, (0, 0))
    table.add_column("note")  # the only column that may wrap
    group = None
    for row in result["designs"]:
        size = "" if "+" in row["kind"] else row["design"].partition("@")[2].partition(":")[2]
        if group is not None and size != group:
            table.add_row()
        if size and size != group:
            table.add_row(f"{size} of the base" if size.endswith("%") else size)
        group = size
        name = row["design"].removesuffix(f":{size}") if size else row["design"]
        cells = _design_cells(row)
        table.add_row(_stacked(name), *(cells.get(heading, "") for heading in headings), _note(row))
    reasons = [row["note"].removeprefix(IMPOSSIBLE) for row in result["designs"] if row["parameters"] is None]
    footer = ["\nImpossible, and why:"] if reasons else []
    return [header, table, *footer, *(f"- {reason}" for reason in reasons), *_plan_hint(result)]


def _plan_hint(result: dict[str, Any]) -> list[str]:
    """How to learn what training one of the designs takes."""
    possible = [row["design"] for row in result["designs"] if row["parameters"] is not None]
    if not possible:
        return []
    design = next((each for each in possible if "@all" in each), possible[0])
    return [f"\n{NEXT}talim plan --base {shlex.quote(result['base_option'])} --design {shlex.quote(design)}"]


def _design_cells(row: dict[str, Any]) -> dict[str, str]:
    if row["parameters"] is None:
        return {}
    return {
        "parameters": f"{row['parameters']:,}",
        "percent": f"{100 * row['parameter_fraction']:.2f}%",
        "width": _stacked("+".join(_format_range(span) for span in row["widths"])),
        "FLOP": format_si(row["flops_per_audio_second"]).strip(),
        "file": f"{format_si(row['file_bytes'])}B",
        "memory": f"{format_si(row['activation_bytes'])}B",
    }


def _note(row: dict[str, Any]) -> str:
    note = row["note"].replace("nearest possible:", "nearest:")
    return "impossible, see below" if row["parameters"] is None else note


def _stacked(text: str) -> str:
    """The parts of a combined design on lines of their own."""
    return text.replace("+", "+\n")


def _format_range(span: list[int] | None) -> str:
    if span is None:
        return "-"
    return str(span[0]) if span[0] == span[1] else f"{span[0]}..{span[1]}"


def _plan_parts(result: dict[str, Any], _: int) -> list[str | Table]:
    checkpointed = ", gradient checkpointing" if result["gradient_checkpointing"] else ""
    header = (
        f"{_named_base(result)} on {result['hardware']} ({result['hardware_note']}).\n"
        f"{format_counted(result['steps'], 'step')} of {format_counted(result['batch_size'], 'clip')} of "
        f"{result['crop_seconds']:g} s"
        f"{_whose_training(result)}; base in {result['precision']} (numbers of "
        f"{'16' if result['precision'] == 'bf16' else '32'} bits){checkpointed}.\n"
        f"{_passes_line(result)}"
        f"Memory limit: {result['memory_limit_bytes'] / GB:.1f} GB.\n"
    )
    rows = result["designs"]
    headings = ["memory", "step", "total", "file"]
    headings += ["energy"] * any(row["energy_joules"] is not None for row in rows)
    headings += ["money"] * any(row["money"] is not None for row in rows)
    table = _table(headings, (0, 1))
    for row in rows:
        cells = {
            "memory": f"{format_memory(row['memory_bytes'])}{'' if row['fits'] else ' !'}",
            "step": _format_seconds(row["step_seconds"]),
            "total": format_duration(row["hours"] * 3600),
            "file": f"{format_si(row['file_bytes'])}B",
            "energy": format_kwh(row["energy_joules"]),
            "money": "-" if row["money"] is None else f"{row['money']:.2f}",
        }
        table.add_row(row["design"], *(cells[heading] for heading in headings))
    return [header, table, *_plan_footer(result)]


def _passes_line(result: dict[str, Any]) -> str:
    """How often the steps hear the music that there is; empty where none was named."""
    music = result.get("music")
    return f"That is {passes_text(music['passes'], music['hours'] * 3600)}.\n" if music else ""


def passes_text(passes: float, music_seconds: float) -> str:
    """How often a training hears its music: "3.3 passes over 2 h 0 min of training music"."""
    shown = format_number(passes, 1)
    return f"{shown} pass{'' if shown == '1' else 'es'} over {format_duration(music_seconds)} of training music"


def _full_training_line(result: dict[str, Any]) -> list[str]:
    """Steps and time of a full training on the music that was named."""
    if not (music := result.get("music")):
        return []
    times = (f"{row['design']} {format_duration(row['full_hours'] * 3600)}" for row in _asked_designs(result))
    return [f"{WHY_FULL_PASSES} are {format_counted(music['full_steps'], 'step')}: {', '.join(times)}."]


def _whose_training(result: dict[str, Any]) -> str:
    usual = {name: result[name] for name in result["default_training"]} == result["default_training"]
    return ", as talim train and talim poc do where nothing else is asked for" if usual else ""


def _plan_footer(result: dict[str, Any]) -> list[str]:
    lines, rows = [""], result["designs"]
    for row in rows:
        if row["design"] != str(FULL_FINETUNE):
            memory, time, file = (_format_ratio(row["ratios"][name]) for name in ("memory", "time", "storage"))
            lines.append(f"{row['design']}: {memory} of full@all's memory, {time} of its time, {file} of its file.")
    lines += _full_training_line(result)
    asked = _asked_designs(result)
    lines += [_misfit(row, row in asked) for row in rows if not row["fits"]]
    lines += [f"  {row['design']}: {row['note']}{_meaning(row['note'])}" for row in rows if row["note"]]
    if rows and all(row["energy_joules"] is None for row in rows):
        lines.append(ENERGY_UNKNOWN)
    lines.append("Validation and the encoding of the corpus are not included in the times.")
    return [*lines, _next_line(result)]


def _meaning(note: str) -> str:
    """What follows from a note on the size of a design; empty where it says so itself."""
    if budget.WIDER in note:
        return " (it trains, but has more inner units than the layer has outputs; a smaller size may do the same)"
    return " (it trains, but the rank beyond the matrix's adds nothing)" if budget.RANK_ABOVE in note else ""


def _asked_designs(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows but that of full@all, which is in every plan to be compared with; that one where it is alone."""
    return [row for row in result["designs"] if row["design"] != str(FULL_FINETUNE)] or result["designs"]


def _misfit(row: dict[str, Any], asked: bool) -> str:
    """What would make a design fit, where it was asked for."""
    suggestion = row["suggestion"]
    if not asked:
        return f"! {row['design']}, with which the others are compared, does not fit."
    if suggestion is None:
        return f"! {row['design']} does not fit, and no change that was tried makes it fit."
    other = OTHER_DESIGN if suggestion["design"] != row["design"] else ""
    return (
        f"! {row['design']} does not fit. It would with {suggestion['options']} (of talim train: "
        f"{suggestion['settings']}){other}: {format_memory(suggestion['memory_bytes'])}, "
        f"{_format_seconds(suggestion['step_seconds'])} a step."
    )


def _next_line(result: dict[str, Any]) -> str:
    """The training of the first design that fits, else with the change that makes it fit; with names to replace."""
    asked = {name: result[name] for name in ("batch_size", "crop_seconds", "gradient_checkpointing")}
    usual = result["default_training"]
    rows = _asked_designs(result)
    fitting = [(row, asked | {"design": row["design"]}) for row in rows if row["fits"]]
    options = fitting or [(row, row["suggestion"]) for row in rows if row["suggestion"]]
    if not options:
        smaller = "" if registry.is_miniature(result["base"]) else "a smaller base, or "  # none is smaller than these
        return f"{NEXT}plan {smaller}a larger machine (--gpu)"
    row, chosen = options[0]
    other = OTHER_DESIGN if chosen["design"] != row["design"] else ""
    same_music = asked["batch_size"] * asked["crop_seconds"] / (chosen["batch_size"] * chosen["crop_seconds"])
    chosen = chosen | {"steps": math.ceil(result["steps"] * same_music)}
    options = {
        "batch_size": f"--set training.batch_size={chosen['batch_size']}",
        "crop_seconds": f"--set training.crop_seconds={format_setting(chosen['crop_seconds'])}",
        "steps": f"--steps {chosen['steps']}",
    }
    settings = [text for name, text in options.items() if chosen[name] != usual[name]]
    settings += ["--set training.gradient_checkpointing=true"] * chosen["gradient_checkpointing"]
    if result["asked_precision"]:
        settings.append(f"--set training.precision={result['asked_precision']}")
    made = " (my-corpus is made by: talim prepare my-recordings --out my-corpus)"
    corpus, made = (shlex.quote(result["corpus"]), "") if result.get("corpus") else ("my-corpus", made)
    return (
        f"{NEXT}talim train --base {shlex.quote(result['base_option'])} --design {shlex.quote(chosen['design'])} "
        f"{''.join(f'{text} ' for text in settings)}"
        f"--corpus {corpus} --out my-run{made}{other}"
    )


def format_si(number: float) -> str:
    """Three significant digits and an SI prefix: "85.3 M"."""
    for letter, size in {"T": 1e12, "G": 1e9, "M": 1e6, "k": 1e3}.items():
        if number >= 0.9995 * size:
            return f"{number / size:.3g} {letter}"
    return f"{number:.3g} "


def training_needs(row: dict[str, Any]) -> str:
    """Memory, time and energy of a training that was predicted: "1.20 GB of memory, 12 min of training steps"."""
    energy = f", {format_kwh(row['energy_joules'])}" if row["energy_joules"] is not None else ""
    needed, hours = f"{format_memory(row['memory_bytes'])} of memory", format_duration(row["hours"] * 3600)
    return f"{needed}, {hours} of training steps{energy}"


def format_kwh(joules: float | None) -> str:
    """Joules in kWh; "-" where they are unknown."""
    return "-" if joules is None else f"{joules / JOULES_PER_KWH:.3g} kWh"


def _format_seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.3g} s"


def _format_ratio(value: float | None) -> str:
    return "-" if value is None or not math.isfinite(value) else f"{100 * value:.3g} %"
