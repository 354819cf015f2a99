"""The results of `talim designs` and `talim plan` as tables for a terminal."""

from __future__ import annotations

import io
import math
import shlex
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from talim.backbones import registry
from talim.design import budget
from talim.html.formatting import GB, format_memory, format_number, format_setting
from talim.html.languages import ENGLISH, counted_in, duration_in, languages, words
from talim.html.phrases import translate
from talim.planning.design_costs import FULL_FINETUNE, JOULES_PER_KWH
from talim.planning.training_job import FULL_PASSES, WHY_FULL_PASSES
from talim.progress import format_duration

DESIGN_TABLE_COLUMNS, DESIGN_TABLE_MIN_COLUMNS = 100, 80
OPTIONAL_DESIGN_COLUMNS = ("percent", "file")  # left out on a narrow terminal
PLAN_TABLE_COLUMNS, PLAN_TABLE_MIN_COLUMNS = 110, 90
MAX_COLUMNS = 2000
IMPOSSIBLE = "impossible: "
# what a plan has as an English text: where the rates of its machine are from, and notes on the sizes of designs
PHRASES = ("this_cpu", "published", "measured", "threads", "thread", "bf16", "no_bf16")
PHRASES += ("both_notes", "nearest", "rank_above", "wider")


def render_designs(result: dict[str, Any]) -> str:
    """The result of `design_costs` as text, 80 to 100 columns wide."""
    return _render(_design_parts, result, DESIGN_TABLE_MIN_COLUMNS, DESIGN_TABLE_COLUMNS)


def render_plan(result: dict[str, Any], language: str = ENGLISH) -> str:
    """The result of `plan_designs` as text in a language, 90 to 110 columns wide."""
    return _render(partial(_plan_parts, PlanTeller(language)), result, PLAN_TABLE_MIN_COLUMNS, PLAN_TABLE_COLUMNS)


def _render(
    parts: Callable[[dict[str, Any], int], list[str | Table]], result: dict[str, Any], fewest: int, most: int
) -> str:
    columns = min(max(shutil.get_terminal_size((most, 0)).columns, fewest), most)
    output = io.StringIO()
    commands = tuple(words(language)["plan_next"] for language in languages())
    console = Console(file=output, width=MAX_COLUMNS, highlight=False, markup=False)
    for part in parts(result, columns):
        is_command = isinstance(part, str) and part.lstrip().startswith(commands)  # in one line, to be copied
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


def _table(headings: Sequence[str], padding: tuple[int, int], first: str = "design") -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=padding, show_edge=False)
    table.add_column(first, no_wrap=True)
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
    options = f"--base {shlex.quote(result['base_option'])} --design {shlex.quote(design)}"
    return [f"\n{words(ENGLISH)['plan_next']}talim plan {options}"]


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


@dataclass(frozen=True)
class PlanTeller:
    """Tells a plan in a language."""

    language: str

    def __call__(self, key: str, **values: Any) -> str:
        """A sentence of the catalogue."""
        return words(self.language)[f"plan_{key}"].format(**values)

    def count(self, value: int, noun: str) -> str:
        return counted_in(self.language, value, noun)

    def time(self, hours: float) -> str:
        return format_duration(hours * 3600) if self.language == ENGLISH else duration_in(self.language, hours * 3600)

    def phrase(self, text: str) -> str:
        """An English text of `PHRASES`; another one as it is."""
        english, other = (words(each) for each in (ENGLISH, self.language))
        return translate(text, {english[f"plan_{key}"]: other[f"plan_{key}"] for key in PHRASES})


def _plan_parts(tell: PlanTeller, result: dict[str, Any], _: int) -> list[str | Table]:
    training = tell(
        "training",
        steps=tell.count(result["steps"], "step"),
        clips=tell.count(result["batch_size"], "clip"),
        seconds=f"{result['crop_seconds']:g}",
        usual=_whose_training(tell, result),
        precision=result["precision"],
        bits=16 if result["precision"] == "bf16" else 32,
        checkpointed=tell("checkpointed") if result["gradient_checkpointing"] else "",
    )
    machine = tell(
        "machine",
        base=_named_base(result),
        hardware=tell.phrase(result["hardware"]),
        note=tell.phrase(result["hardware_note"]),
    )
    limit = tell("limit", memory=f"{result['memory_limit_bytes'] / GB:.1f} GB")
    header = "\n".join(filter(None, [machine, training, _passes_line(tell, result), limit]))
    rows = result["designs"]
    shown = ["memory", "step", "total", "file"]
    shown += ["energy"] * any(row["energy_joules"] is not None for row in rows)
    shown += ["money"] * any(row["money"] is not None for row in rows)
    table = _table([tell(f"head_{name}") for name in shown], (0, 1), tell("head_design"))
    for row in rows:
        cells = {
            "memory": f"{format_memory(row['memory_bytes'])}{'' if row['fits'] else ' !'}",
            "step": _format_seconds(row["step_seconds"]),
            "total": tell.time(row["hours"]),
            "file": f"{format_si(row['file_bytes'])}B",
            "energy": format_kwh(row["energy_joules"]),
            "money": "-" if row["money"] is None else f"{row['money']:.2f}",
        }
        table.add_row(row["design"], *(cells[name] for name in shown))
    return [f"{header}\n", table, *_plan_footer(tell, result)]


def _passes_line(tell: PlanTeller, result: dict[str, Any]) -> str:
    """How often the steps hear the music that there is; empty where none was named."""
    if not (music := result.get("music")):
        return ""
    passes, hours = music["passes"], music["hours"]
    text = passes_text(passes, hours * 3600)
    return tell("passes", text=text, passes=format_number(passes, 1), time=tell.time(hours))


def passes_text(passes: float, music_seconds: float) -> str:
    """How often a training hears its music: "3.3 passes over 2 h 0 min of training music"."""
    shown = format_number(passes, 1)
    return f"{shown} pass{'' if shown == '1' else 'es'} over {format_duration(music_seconds)} of training music"


def _full_training_line(tell: PlanTeller, result: dict[str, Any]) -> list[str]:
    """Steps and time of a full training on the music that was named."""
    if not (music := result.get("music")):
        return []
    times = [f"{row['design']} {tell.time(row['full_hours'])}" for row in _asked_designs(result)]
    steps, listed = tell.count(music["full_steps"], "step"), words(tell.language)["comma"].join(times)
    return [tell("full", why=WHY_FULL_PASSES, passes=FULL_PASSES, steps=steps, times=listed)]


def _whose_training(tell: PlanTeller, result: dict[str, Any]) -> str:
    usual = {name: result[name] for name in result["default_training"]} == result["default_training"]
    return tell("usual") if usual else ""


def _plan_footer(tell: PlanTeller, result: dict[str, Any]) -> list[str]:
    lines, rows = [""], result["designs"]
    for row in rows:
        if row["design"] != str(FULL_FINETUNE):
            ratios = {name: _format_ratio(row["ratios"][name]) for name in ("memory", "time", "storage")}
            lines.append(tell("ratios", design=row["design"], **ratios))
    lines += _full_training_line(tell, result)
    asked = _asked_designs(result)
    lines += [_misfit(tell, row, row in asked) for row in rows if not row["fits"]]
    lines += [
        f"  {row['design']}: {tell.phrase(row['note'])}{_meaning(tell, row['note'])}" for row in rows if row["note"]
    ]
    if rows and all(row["energy_joules"] is None for row in rows):
        lines.append(tell("energy_unknown"))
    return [*lines, tell("not_included"), f"{tell('next')}{_next(tell, result)}"]


def _meaning(tell: PlanTeller, note: str) -> str:
    """What follows from a note on the size of a design; empty where it says so itself."""
    if budget.WIDER in note:
        return tell("wider_means")
    return tell("rank_above_means") if budget.RANK_ABOVE in note else ""


def _asked_designs(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The rows but that of full@all, which is in every plan to be compared with; that one where it is alone."""
    return [row for row in result["designs"] if row["design"] != str(FULL_FINETUNE)] or result["designs"]


def _misfit(tell: PlanTeller, row: dict[str, Any], asked: bool) -> str:
    """What would make a design fit, where it was asked for."""
    suggestion = row["suggestion"]
    if not asked:
        return tell("misfit_compared", design=row["design"])
    if suggestion is None:
        return tell("misfit", design=row["design"])
    return tell(
        "misfit_but",
        design=row["design"],
        options=suggestion["options"],
        settings=suggestion["settings"],
        other=tell("other_design") if suggestion["design"] != row["design"] else "",
        memory=format_memory(suggestion["memory_bytes"]),
        step=_format_seconds(suggestion["step_seconds"]),
    )


def _next(tell: PlanTeller, result: dict[str, Any]) -> str:
    """The training of the first design that fits, else with the change that makes it fit; with names to replace."""
    asked = {name: result[name] for name in ("batch_size", "crop_seconds", "gradient_checkpointing")}
    usual = result["default_training"]
    rows = _asked_designs(result)
    fitting = [(row, asked | {"design": row["design"]}) for row in rows if row["fits"]]
    options = fitting or [(row, row["suggestion"]) for row in rows if row["suggestion"]]
    if not options:  # none is smaller than the miniatures
        return tell("next_larger" if registry.is_miniature(result["base"]) else "next_smaller_or_larger")
    row, chosen = options[0]
    other = tell("other_design") if chosen["design"] != row["design"] else ""
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
    corpus, made = (shlex.quote(result["corpus"]), "") if result.get("corpus") else ("my-corpus", tell("corpus_made"))
    return (
        f"talim train --base {shlex.quote(result['base_option'])} --design {shlex.quote(chosen['design'])} "
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
