"""The learning curves of a study's designs, and what tuning and pilot trainings chose before, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim.experiments.learning_curves import FLAT_FRACTION
from talim.experiments.preliminary_trials import PILOT_CLIPS, RAISED, Pilot, read_plateau
from talim.experiments.tuning import TunedFamily, read_tuning
from talim.html.design_charts import STYLES, ErrorBarSeries, step_curve_plot, style_sample
from talim.html.formatting import format_number, format_percent, format_setting

Summary = Mapping[str, Any]


def learning_curves(base: Summary) -> dict[str, Any]:
    """{"plots", "legend", "rows"} of one base in study.json; empty if no trial has a curve.

    A design has the same line in all plots; where there are more designs than lines that can be told apart, a kind has,
    and the last kinds share one.
    """
    rows = [(table, row) for table in base["tables"] for row in table["designs"] if row.get("curve")]
    if not rows:
        return {}
    designs = list(dict.fromkeys(row["design"] for _, row in rows))
    name = "design" if len(designs) <= len(STYLES) else "kind"
    groups = list(dict.fromkeys(str(row[name]) for _, row in rows))
    styles = {group: min(number, len(STYLES) - 1) for number, group in enumerate(groups)}
    unit = f"validation loss, {base['unit']}" if base["unit"] else "validation loss"
    plots = [
        _plot(table, [row for of, row in rows if of is table], styles, name, unit)
        for table in base["tables"]
        if any(of is table for of, _ in rows)
    ]
    return {
        "plots": plots,
        "legend": _legend(styles),
        "by": name,
        "rows": [_table_row(table["corpus"], row) for table, row in rows],
    }


def _legend(styles: Mapping[str, int]) -> list[tuple[Markup, str]]:
    """A sample of each line with the designs or kinds that it stands for."""
    names: dict[int, list[str]] = {}
    for group, style in styles.items():
        names.setdefault(style, []).append(group)
    return [(style_sample(style, ", ".join(each)), ", ".join(each)) for style, each in names.items()]


def _plot(table: Summary, rows: Sequence[Summary], styles: Mapping[str, int], name: str, unit: str) -> Markup:
    curves = []
    for row in rows:
        steps, losses = zip(*row["curve"], strict=True)
        unknown = [None] * len(steps)
        curves.append(ErrorBarSeries(row["design"], steps, losses, unknown, unknown, styles[str(row[name])]))
    details = "; ".join(f"{c.label} from {format_number(c.ys[0])} to {format_number(c.ys[-1])}" for c in curves)
    alt = f"Validation loss over optimiser steps, {table['corpus']}: {details}."
    return step_curve_plot(curves, alt=alt, title=table["corpus"], x_label="optimiser steps", y_label=unit)


def _table_row(corpus: str, row: Summary) -> dict[str, str]:
    """Corpus, design, first, least and last loss, and the part of the gain that the last fifth of the steps brought."""
    curve, fraction = row["curve"], row["last_fifth"]
    step, least = min(curve, key=lambda point: point[1])
    end = "no gain" if curve[-1][1] >= curve[0][1] else "cannot be told"
    if fraction is not None:
        end = f"{format_percent(fraction).replace('-', '−')}, {'flat' if fraction < FLAT_FRACTION else 'not flat'}"
    losses = {"first": curve[0][1], "last": curve[-1][1]}
    return {
        "corpus": corpus,
        "design": row["design"],
        **{key: format_number(loss) for key, loss in losses.items()},
        "least": f"{format_number(least)} at step {step}",
        "end": end,
    }


def choices(folder: Path) -> dict[str, Any]:
    """{"tuning", "pilots", "plateau", "raised", "pilot_clips"} of DIR; empty without tuning and pilots.

    "tuning" and "pilots" have a row for each; "raised" says why the steps may be more than the pilots ask for,
    "pilot_clips" on how many clips they are evaluated.
    """
    plateau = read_plateau(folder)
    found: dict[str, Any] = {"tuning": tuning_rows(folder), "plateau": plateau, "raised": RAISED}
    found["pilot_clips"] = PILOT_CLIPS
    found["pilots"] = [_pilot_row(pilot) for pilot in (plateau.pilots if plateau else ())]
    return found if found["tuning"] or plateau else {}


def tuning_rows(folder: Path) -> list[dict[str, Any]]:
    """A row of the table of tuning for each family in DIR/tuning.json; none without it."""
    return [_tuning_row(family) for family in read_tuning(folder)]


def _tuning_row(family: TunedFamily) -> dict[str, Any]:
    tried = []
    for each in family.candidates:
        values = ", ".join(format_setting(each.values[key]) for key in each.values)
        tried.append(
            (values, "diverged" if each.loss is None else format_number(each.loss), each.values == family.chosen)
        )
    return {
        "family": family.family,
        "where": f"{family.base}, {family.group}",
        "settings": ", ".join(key.split(".")[-1] for key in family.chosen),
        "tried": tried,
        "inside": "inside" if family.inside else f"not inside: {family.note}",
        "trained": f"{family.representative} on {', '.join(family.tuned_on)}, seed {', '.join(map(str, family.seeds))}",
    }


def _pilot_row(pilot: Pilot) -> dict[str, Any]:
    end = "never" if pilot.flat_from is None else f"step {pilot.flat_from}"
    names = {"design": pilot.design, "where": f"{pilot.base}, {pilot.corpus}", "end": end}
    first, last = (format_number(pilot.curve[n][1] if pilot.curve else None) for n in (0, -1))
    return names | {"first": first, "last": last}
