"""Whether to go on: the rule that was written down beforehand, held against what was measured."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from talim.atomic_io import friendly_os_errors, write_text
from talim.briefs.acceptance import IntervalEstimate, mean_ci, mean_difference_ci
from talim.briefs.brief import Brief
from talim.errors import UsageError

INDICATORS = "indicators.csv"
COLUMNS = ("indicator", "when", "value")
Decision = Literal["go", "no-go", "open"]


def apply_decision_rule(
    measured: Mapping[str, Any], indicators: Mapping[str, Any], brief: Brief
) -> dict[str, Any]:
    """{"answer": go, no-go or open, "conditions": [{"says", "met": True, False or None (not decided), "found"}]}.

    Go where every condition is met, no-go where one is not; a condition whose interval lies across its bound is not
    decided. Without any condition the answer is open.
    """
    rule, found = brief.rule, []
    if rule.acceptance_at_least is not None:
        says = f"at least {100 * rule.acceptance_at_least:g} % of the candidates are accepted"
        found.append(_condition(says, measured["acceptance"], rule.acceptance_at_least, "higher", brief))
    if rule.cost_per_minute_at_most is not None:
        says = f"an accepted minute costs at most {rule.cost_per_minute_at_most:g} {brief.prices.currency}"
        cost = measured["cost_per_accepted_minute"]
        found.append(_condition(says, cost, rule.cost_per_minute_at_most, "lower", brief))
    if rule.cheaper_than_today and brief.today is not None:
        today = brief.today.cost_per_piece
        says = f"an accepted piece costs less than {today:g} {brief.prices.currency}, as today"
        found.append(_condition(says, measured["cost_per_accepted_piece"], today, "lower", brief))
    better = {one.name: one.better for one in brief.indicators}
    for name in rule.indicators_better:
        says = f"{name} is better than today"
        found.append(_condition(says, indicators[name]["difference"], 0.0, better[name], brief))
    met = [condition["met"] for condition in found]
    answer: Decision = "no-go" if False in met else "go" if met and all(met) else "open"
    return {"answer": answer, "conditions": found}


def _condition(says: str, found: IntervalEstimate, bound: float, better: str, brief: Brief) -> dict[str, Any]:
    value, low, high = found["value"], found["low"], found["high"]
    if brief.rule.judged_on == "value":
        # A cost without a value is one of no accepted piece at all: it is not met however high it may be.
        met = (None if low is None else False) if value is None else _meets_bound(value, bound, better)
    else:
        worst, best = (low, high) if better == "higher" else (high, low)
        met = True if worst is not None and _meets_bound(worst, bound, better) else None
        if best is not None and not _meets_bound(best, bound, better):
            met = False
    return {"says": says, "met": met, "found": dict(found)}


def _meets_bound(value: float, bound: float, better: str) -> bool:
    return value >= bound if better == "higher" else value <= bound


def read_indicators(folder: Path, brief: Brief) -> dict[str, Any]:
    """Each indicator's mean today and with the new music, and their difference, from FOLDER/indicators.csv.

    Columns indicator, when (today or new), value. UsageError, with the line, for what is none of these.
    """
    known = {one.name for one in brief.indicators}
    values: dict[tuple[str, str], list[float]] = {}
    path = folder / INDICATORS
    if path.is_file():
        with open(path, newline="", encoding="utf-8-sig") as handle:
            table = csv.DictReader(handle)
            if missing := set(COLUMNS) - set(table.fieldnames or ()):
                raise UsageError(
                    f"{path}: lacks the column {', '.join(sorted(missing))}; {','.join(COLUMNS)}"
                )
            for line, row in enumerate(table, start=2):
                name, when = (row["indicator"] or "").strip(), (row["when"] or "").strip().lower()
                if name not in known:
                    told = ", ".join(sorted(known)) or "none"
                    raise UsageError(f"{path}, line {line}: {name!r} is no indicator of the brief ({told})")
                if when not in ("today", "new"):
                    raise UsageError(f"{path}, line {line}: when is {when!r}; expected today or new")
                values.setdefault((name, when), []).append(_number(row["value"], f"{path}, line {line}"))
    return {one.name: _indicator(one.name, values) | one.model_dump(mode="json") for one in brief.indicators}


def write_indicators(folder: Path, brief: Brief) -> Path | None:
    """An empty table for the indicators, if there are any and none is there yet."""
    path = folder / INDICATORS
    if brief.indicators and not path.exists():
        with friendly_os_errors(path):
            write_text(path, ",".join(COLUMNS) + "\n")
    return path if brief.indicators else None


def _indicator(name: str, values: Mapping[tuple[str, str], list[float]]) -> dict[str, Any]:
    today, new = values.get((name, "today"), []), values.get((name, "new"), [])
    return {
        "today": mean_ci(today) | {"count": len(today)},
        "new": mean_ci(new) | {"count": len(new)},
        "difference": mean_difference_ci(new, today),
    }


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise UsageError(f"{where}: value is {text!r}; expected a number")
    return value
