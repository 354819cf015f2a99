"""Usefulness as JSON and as a page: what was accepted, what it cost, and whether to go on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim import __version__
from talim.atomic_io import read_json, write_json, write_text
from talim.briefs import acceptance, candidates, decision_rule, usage_rights
from talim.briefs.acceptance import IntervalEstimate
from talim.briefs.brief import Brief
from talim.briefs.review_store import DATABASE, ReviewStore
from talim.errors import TalimError
from talim.html import plots
from talim.html.render import render
from talim.listening.database import sqlite_url

FILE = "usefulness.json"
PAGE = "usefulness/index.html"
NOTE = (
    "Intervals are of 95 %. They say how far these candidates may mislead about others of the same design; "
    "other reviewers may judge otherwise."
)
ANSWERS = {"go": "Go on", "no-go": "Do not go on", "open": "Not decided yet"}


def open_reviews(folder: Path, database: str | None) -> ReviewStore:
    """The reviews of a folder; TalimError where there are none."""
    if database is None and not (folder / DATABASE).is_file():
        raise TalimError(
            f"{folder}: no reviews yet; talim brief BRIEF.yaml --run RUN --out {folder} serves them"
        )
    return ReviewStore(database or sqlite_url(folder / DATABASE))


def write_acceptance_report(folder: Path, brief: Brief, database: str | None = None) -> dict[str, Any]:
    """Write FOLDER/usefulness.json and its page from the candidates and the reviews; return the former.

    The page's path is under "page". TalimError where no review was made, or where they are of another brief.
    """
    rows = candidates.read_candidates(folder)
    reviews = open_reviews(folder, database)
    digest = reviews.open_brief(brief, {row["id"]: row["sha256"] for row in rows})
    said, facts = reviews.rows(), reviews.facts()
    if not said:
        raise TalimError(f"{folder}: no review was made yet")
    result = assemble_result(
        rows,
        said,
        read_json(folder / candidates.DESIGNS),
        decision_rule.read_indicators(folder, brief),
        brief,
    )
    result["brief"] = {"hash": digest, "name": brief.name, "frozen_at": facts["frozen_at"]} | {
        "content": brief.model_dump(mode="json")
    }
    result["deleted_on_request"] = facts["deleted"]
    write_json(folder / FILE, result)
    write_text(folder / PAGE, render("usefulness.html", **context(result, brief)))
    return result | {"page": str(folder / PAGE)}


def assemble_result(
    rows: list[dict[str, Any]],
    said: list[dict[str, Any]],
    told: Mapping[str, Any],
    indicators: Mapping[str, Any],
    brief: Brief,
) -> dict[str, Any]:
    """Everything measured, by design, with the decision on each."""
    designs = []
    for name in dict.fromkeys([*told, *(row["design"] for row in rows)]):  # in the order of --run
        if not (mine := [row for row in rows if row["design"] == name]):
            continue
        ids = {row["id"] for row in mine}
        about = told.get(name) or {}
        found = acceptance.measure_contender(
            mine, [row for row in said if row["candidate"] in ids], about, brief
        )
        found["rights"] = about.get("rights") or {}
        found["rights"] |= (
            usage_rights.usage_allowed(found["rights"])
            if found["rights"]
            else {"commercial": "unknown", "because": []}
        )
        found["decision"] = decision_rule.apply_decision_rule(found, indicators, brief)
        designs.append(found)
    result = {
        "talim": __version__,
        "reviewers": len({row["reviewer"] for row in said}),
        "reviews": len(said),
        "agreement": acceptance.reviewer_agreement(said),
        "intervals": NOTE,
        "currency": brief.prices.currency,
        "today": brief.today.model_dump(mode="json") if brief.today else None,
        "designs": designs,
        "indicators": list(indicators.values()),
        "answer": overall_decision(designs),
    }
    return result | {"sentences": summary_lines(result)}


def overall_decision(designs: list[dict[str, Any]]) -> str:
    """Go if some design does, no-go if none can, else open."""
    answers = {one["decision"]["answer"] for one in designs}
    return "go" if "go" in answers else "no-go" if answers == {"no-go"} else "open"


def summary_lines(result: Mapping[str, Any]) -> list[str]:
    """The result in a line for each design, and the decision."""
    lines = []
    for one in result["designs"]:
        cost = one["cost_per_accepted_minute"]
        spoken = (
            f"{one['accepted']} of {one['reviewed']} accepted ({format_interval(one['acceptance'], percent)})"
        )
        lines.append(
            f"{one['name']}: {spoken}; an accepted minute costs {format_cost(cost, result['currency'])}"
        )
    return [*lines, f"{decision_text(result)}, by the rule of the brief."]


def decision_text(result: Mapping[str, Any]) -> str:
    """The decision in words; where only some designs are worth it, with their names."""
    going = [one["name"] for one in result["designs"] if one["decision"]["answer"] == "go"]
    named = f" with {' and '.join(going)}" if going and len(result["designs"]) > 1 else ""
    return ANSWERS[result["answer"]] + named


def context(result: Mapping[str, Any], brief: Brief) -> dict[str, Any]:
    """Every value that the template shows."""
    return {
        "version": __version__,
        "result": result,
        "brief": brief,
        "title": brief.title.get("en", brief.name),
        "answer": decision_text(result),
        "acceptance": _plot(result["designs"]),
        "percent": percent,
        "number": number,
        "ends": format_interval,
        "amount": format_cost,
        "minutes": minutes,
    }


def _plot(designs: list[dict[str, Any]]) -> dict[str, Markup]:
    rows = [
        plots.ErrorBar(d["name"], d["acceptance"]["value"], d["acceptance"]["low"], d["acceptance"]["high"])
        for d in designs
        if d["reviewed"]
    ]
    alt = "Accepted: " + "; ".join(f"{row.label} {percent(row.value)}" for row in rows)
    return plots.responsive_pair(rows, alt=alt, x_label="share of candidates accepted as they are")


def format_interval(found: IntervalEstimate, show: Any) -> str:
    """An interval in words, or that there is none."""
    if found["low"] is None:
        return "no interval"
    return (
        f"{show(found['low'])} to {show(found['high'])}"
        if found["high"] is not None
        else f"{show(found['low'])} or more"
    )


def format_cost(found: IntervalEstimate, currency: str) -> str:
    """A cost with its interval, or why there is none."""
    if found["low"] is None and found["value"] is None:
        return "an unknown amount (no price, or no review)"
    if found["value"] is None:
        return f"{number(found['low'])} {currency} or more (none was accepted)"
    return f"{number(found['value'])} {currency} ({format_interval(found, number)})"


def percent(share: float | None) -> str:
    """A share in words."""
    return "not known" if share is None else f"{100 * share:.0f} %"


def number(value: float | None) -> str:
    """Two decimals, with a real minus sign."""
    return "not known" if value is None else f"{value:,.2f}".replace("-", "\u2212")


def minutes(seconds: float | None) -> str:
    """A duration in seconds or minutes."""
    if seconds is None:
        return "not known"
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.1f} min"
