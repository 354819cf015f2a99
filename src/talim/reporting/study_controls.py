"""The table of a study's controls: a row for each control and measure, a column for each base and corpus."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from talim.experiments.controls import CURVE, EQUAL, LOSS, RATE, SCORE, SEPARATION
from talim.html.formatting import format_ci, format_number, format_percent
from talim.reporting.study_sentences import measure_name

Summary = Mapping[str, Any]
OUTCOMES = {True: "passed", False: "not passed", None: "not known"}
ASKED = {  # what a control asks
    "unigram": (
        "the loss ends below that of a guess by how often each sound occurs (unigram; diffusion: the best constant)"
    ),
    "last token": (
        "the loss ends below that of a guess that the last sound goes on (unigram with last token; diffusion: the best "
        "linear prediction)"
    ),
    "curve": (
        "the last fifth of the steps brings less than 2 % of the gain; comparisons and recommendations also pass where "
        "more steps would not change them"
    ),
    "rate": "each learning rate lies inside the grid it was chosen from",
    "planted": "a difference that was put in is found",
    "equal": "halves of the seeds of one design are not told apart",
    "separation": "the measure can be moved; a score tells real music from the base",
}


def control_table(controls: Sequence[Summary]) -> dict[str, Any]:
    """{"columns", "rows", "more", "reasons"} of study.json's controls; `more` are rows of other measures than the loss.

    `reasons` are those of controls that did not pass, each once.
    """
    columns = list(dict.fromkeys((each["base"], each["corpus"]) for each in controls))
    rows: dict[tuple[str, str, str], dict[tuple[str, str], Summary]] = {}
    for each in controls:
        key = each["name"], each["measure"], each["relative_to"]
        rows.setdefault(key, {})[each["base"], each["corpus"]] = each
    shown = [_row(key, [cells.get(column) for column in columns]) for key, cells in rows.items()]
    bases = {base for base, _ in columns}
    failed: dict[str, list[str]] = {}
    for each in controls:
        if not each["passed"]:
            of = [each["name"], *([text] if (text := _measure(each["measure"], each["relative_to"])) else [])]
            corpora = failed.setdefault(f"{', '.join(of)}: {each['reason']}", [])
            corpora += [each["corpus"]] if each["corpus"] not in corpora else []
    return {
        "columns": [f"{base}, {corpus}" if len(bases) > 1 else corpus for base, corpus in columns],
        "rows": [row for row in shown if row["measure"] in ("", measure_name(LOSS))],
        "more": [row for row in shown if row["measure"] not in ("", measure_name(LOSS))],
        "reasons": [(text, ", ".join(corpora)) for text, corpora in failed.items()],
    }


def _row(key: tuple[str, str, str], cells: Sequence[Summary | None]) -> dict[str, Any]:
    name, measure, relative = key
    return {
        "name": name,
        "asked": ASKED[name],
        "measure": _measure(measure, relative),
        "cells": [(figure(cell), OUTCOMES[cell["passed"]]) if cell else ("–", "") for cell in cells],
    }


def _measure(measure: str, relative: str) -> str:
    text = measure_name(measure) if measure else ""
    return f"{text} minus {measure_name(relative)}" if relative else text


def figure(control: Summary) -> str:
    """The figure of a control with its interval, as text."""
    if control["value"] is None:
        return "–"
    if control["name"] in (CURVE, RATE, EQUAL):
        return format_percent(control["value"]) + _ends(control, format_percent)
    if control["name"] == SEPARATION and control["measure"].startswith(SCORE):
        return f"p {format_number(control['value'])}" if control["threshold"] is not None else _plain(control)
    return _plain(control)


def _plain(control: Summary) -> str:
    return format_number(control["value"]) + _ends(control, format_number)


def _ends(control: Summary, show: Any) -> str:
    return "" if control["low"] is None else f" ({format_ci(control['low'], control['high'], show)})"
