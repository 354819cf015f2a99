"""The decision: the brief's decision rule applied to the results."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from talim.atomic_io import write_text
from talim.briefs.acceptance import IntervalEstimate, mean_ci, mean_difference_ci
from talim.briefs.brief import Brief
from talim.errors import UsageError
from talim.html.formatting import format_money
from talim.html.languages import to_fields
from talim.reporting.catalogue import Texts, in_languages

INDICATORS = "indicators.csv"
COLUMNS = ("indicator", "when", "value")
Decision = Literal["go", "no-go", "open"]


def apply_decision_rule(measured: Mapping[str, Any], indicators: Mapping[str, Any], brief: Brief) -> dict[str, Any]:
    """{"answer": go, no-go or open, "conditions": [{"condition", "met": True, False or None (undecided), "interval"}]}.

    "condition_translated" is the condition by language.

    Go if every condition is met, no-go if one is not met; a condition is undecided if its interval contains the bound.
    Without conditions the answer is open.
    """
    rule, conditions = brief.decision_rule, []
    if rule.acceptance_at_least is not None:
        text = in_languages("brief_rule_accepted", percent=f"{100 * rule.acceptance_at_least:g}")
        conditions.append(_condition(text, measured["acceptance"], rule.acceptance_at_least, "higher", brief))
    if rule.cost_per_minute_at_most is not None:
        amount = format_money(rule.cost_per_minute_at_most, brief.prices.currency)
        text = in_languages("brief_rule_minute", amount=amount)
        cost = measured["cost_per_accepted_minute"]
        conditions.append(_condition(text, cost, rule.cost_per_minute_at_most, "lower", brief))
    if rule.cheaper_than_status_quo and brief.status_quo is not None:
        current = brief.status_quo.cost_per_piece
        text = in_languages("brief_rule_piece", amount=format_money(current, brief.prices.currency))
        conditions.append(_condition(text, measured["cost_per_accepted_piece"], current, "lower", brief))
    better = {indicator.name: indicator.better for indicator in brief.indicators}
    for name in rule.indicators_better:
        text = in_languages("brief_rule_indicator", name=name)
        conditions.append(_condition(text, indicators[name]["difference"], 0.0, better[name], brief))
    met = [condition["met"] for condition in conditions]
    answer: Decision = "no-go" if False in met else "go" if met and all(met) else "open"
    return {"answer": answer, "conditions": conditions}


def _condition(text: Texts, interval: IntervalEstimate, bound: float, better: str, brief: Brief) -> dict[str, Any]:
    value, low, high = interval["value"], interval["low"], interval["high"]
    if brief.decision_rule.judged_on == "value":
        # A cost with a lower end but no value means that no piece was accepted.
        met = (None if low is None else False) if value is None else _meets_bound(value, bound, better)
    else:
        worst, best = (low, high) if better == "higher" else (high, low)
        met = True if worst is not None and _meets_bound(worst, bound, better) else None
        if best is not None and not _meets_bound(best, bound, better):
            met = False
    return {**to_fields("condition", text), "met": met, "interval": dict(interval)}


def _meets_bound(value: float, bound: float, better: str) -> bool:
    return value >= bound if better == "higher" else value <= bound


def read_indicators(folder: Path, brief: Brief) -> dict[str, Any]:
    """Each indicator's mean in the status quo and with the new music, and their difference, from FOLDER/indicators.csv.

    Columns indicator, when (status_quo or new), value. UsageError names the line of a wrong row.
    """
    names = {indicator.name for indicator in brief.indicators}
    values: dict[tuple[str, str], list[float]] = {}
    path = folder / INDICATORS
    if path.is_file():
        with open(path, newline="", encoding="utf-8-sig") as handle:
            table = csv.DictReader(handle)
            if missing := set(COLUMNS) - set(table.fieldnames or ()):
                raise UsageError(f"{path}: lacks the column {', '.join(sorted(missing))}; expected {','.join(COLUMNS)}")
            for line, row in enumerate(table, start=2):
                name, when = (row["indicator"] or "").strip(), (row["when"] or "").strip().lower()
                if name not in names:
                    valid = ", ".join(sorted(names)) or "none"
                    raise UsageError(f"{path}, line {line}: {name!r} is not an indicator of the brief ({valid})")
                if when not in ("status_quo", "new"):
                    raise UsageError(f"{path}, line {line}: when is {when!r}; expected status_quo or new")
                values.setdefault((name, when), []).append(_number(row["value"], f"{path}, line {line}"))
    return {i.name: _indicator(i.name, values) | i.model_dump(mode="json") for i in brief.indicators}


def write_indicators(folder: Path, brief: Brief) -> Path | None:
    """Create FOLDER/indicators.csv if the brief has indicators and there is none; returns its path or None."""
    path = folder / INDICATORS
    if brief.indicators and not path.exists():
        write_text(path, ",".join(COLUMNS) + "\n")
    return path if brief.indicators else None


def _indicator(name: str, values: Mapping[tuple[str, str], list[float]]) -> dict[str, Any]:
    current, new = values.get((name, "status_quo"), []), values.get((name, "new"), [])
    return {
        "status_quo": mean_ci(current) | {"count": len(current)},
        "new": mean_ci(new) | {"count": len(new)},
        "difference": mean_difference_ci(new, current),
    }


def _number(text: str | None, where: str) -> float:
    try:
        value = float(text or "")
    except ValueError:
        value = float("nan")
    if not abs(value) < float("inf"):
        raise UsageError(f"{where}: value is {text!r}; expected a number")
    return value
