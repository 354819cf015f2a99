"""`talim ratings`: the votes of one site or several, rated, as JSON and as a page."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim import __version__
from talim.atomic_io import read_json, write_json, write_text
from talim.errors import TalimError, UsageError
from talim.html import plots
from talim.html.render import render
from talim.listening import export, ratings
from talim.listening import protocol as protocols
from talim.listening.draft_protocol import protocol_folder
from talim.listening.protocol import Protocol

EXCLUSION_REASONS = {
    "too_few_trials": "answered too few trials",
    "attention": "missed attention checks",
    "same_answer": "gave one answer throughout",
    "repeats_reversed": "contradicted themselves",
    "reference": "did not recognise the hidden reference",
}


def rate_folder(
    folder: Path, others: Sequence[Path] = (), scores: Path | None = None, database: str | None = None
) -> dict[str, Any]:
    """Rate the test in FOLDER, merged with other sites' JSONL exports; write ratings.json and ratings/index.html.

    `scores`: a JSON file {metric: {condition: number}} to set against the votes. The page's path is under "page".
    """
    place = protocol_folder(folder)
    protocol = protocols.load(place)
    tables = [*_own_votes(place, database), *((str(path), export.read(path)) for path in others)]
    rows = export.merge(tables)
    if not rows:
        raise TalimError(f"{place}: no votes yet; talim listen {folder} serves the test")
    known = {name for row in rows for name in (row.get("first"), row.get("second")) if name}
    if strangers := known - {*protocol.names, "spoiled"}:
        raise TalimError(f"the votes are on {', '.join(sorted(strangers))}, which the protocol does not name")
    result = ratings.rate_conditions(rows, protocol, _scores(scores))
    result["verdict"] = verdict_sentence(result, next(iter(result["groups"][ratings.ALL_LISTENERS])))
    write_json(place / "ratings.json", result)
    page = place / "ratings" / "index.html"
    write_text(page, render("ratings.html", **context(result, protocol)))
    return result | {"page": str(page)}


def _own_votes(place: Path, database: str | None) -> list[tuple[str, list[dict[str, Any]]]]:
    if database is None and not (place / export.DATABASE).is_file():
        return []
    from talim.listening.server import require_packages

    require_packages()
    from talim.listening.database import sqlite_url
    from talim.listening.vote_store import VoteStore

    return [(str(place), VoteStore(database or sqlite_url(place / export.DATABASE)).rows())]


def _scores(path: Path | None) -> dict[str, dict[str, float]]:
    if path is None:
        return {}
    values = read_json(path)
    fits = isinstance(values, dict) and all(
        isinstance(part, dict) and all(isinstance(v, int | float) for v in part.values())
        for part in values.values()
    )
    if not fits:
        raise UsageError(f'--scores {path}: expected {{"metric": {{"condition": number}}}}')
    return values


def context(result: dict[str, Any], protocol: Protocol) -> dict[str, Any]:
    """Every value that the template shows."""
    everybody = result["groups"][ratings.ALL_LISTENERS]
    others = {name: part for name, part in result["groups"].items() if name != ratings.ALL_LISTENERS}
    first = next(iter(everybody))
    return {
        "version": __version__,
        "result": result,
        "title": protocol.title.get("en", protocol.name),
        "verdict": result["verdict"],
        "aspects": [
            {"name": name, "told": told, "plot": plot(name, told, result)} for name, told in everybody.items()
        ],
        "groups": [
            {"name": name, "told": part[first], "plot": plot(first, part[first], result)}
            for name, part in others.items()
            if first in part
        ],
        "first": first,
        "reasons": [(EXCLUSION_REASONS[name], count) for name, count in result["excluded"].items()],
        "percent": percent,
        "number": number,
    }


def plot(name: str, told: dict[str, Any], result: dict[str, Any]) -> dict[str, Markup]:
    """The conditions of one aspect, best first, with their intervals; for a desk and for a phone."""
    rows = [
        plots.ErrorBar(
            c["name"], c["strength"]["value"], c["strength"]["low"], c["strength"]["high"], strong=i == 0
        )
        for i, c in enumerate(rank_conditions(told))
    ]
    label = "strength in logits, right is better" if result["kind"] == "pairwise" else "rating, 0 to 100"
    alt = f"{name}: " + "; ".join(f"{row.label} {number(row.value)}" for row in rows)
    return plots.responsive_pair(rows, alt=alt, x_label=label)


def rank_conditions(told: dict[str, Any]) -> list[dict[str, Any]]:
    """Conditions, best first."""
    return sorted(told["conditions"], key=lambda c: -c["strength"]["value"])


def verdict_sentence(result: dict[str, Any], aspect: str) -> str:
    """One sentence: who leads, and whether that can be told from chance."""
    told = result["groups"][ratings.ALL_LISTENERS][aspect]
    best, second = rank_conditions(told)[:2]
    if result["kind"] == "mushra":
        return f"{best['name']} is rated highest ({number(best['strength']['value'])} of 100)."
    pair = next(p for p in told["pairs"] if {p["first"], p["second"]} == {best["name"], second["name"]})
    if not pair["apart"]:
        return f"{best['name']} and {second['name']} lead and cannot be told apart by these votes."
    share = pair["preferred"]["value"] if pair["first"] == best["name"] else 1 - pair["preferred"]["value"]
    return f"{best['name']} leads: preferred to {second['name']} in {percent(share)} of comparisons."


def sentences(result: dict[str, Any]) -> str:
    """The result in a few lines for a terminal."""
    first = next(iter(result["groups"][ratings.ALL_LISTENERS]))
    told = result["groups"][ratings.ALL_LISTENERS][first]
    people = result["listeners"]
    lines = [
        f"{people['counted']} of {people['answered']} listeners count; {told['answers']} answers on {first}"
    ]
    for c in rank_conditions(told):
        ends = c["strength"]
        shown = f" ({number(ends['low'])} to {number(ends['high'])})" if ends["low"] is not None else ""
        lines.append(f"  {c['name']}: {number(ends['value'])}{shown}")
    lines += [result["verdict"]] + ([told["warning"]] if told["warning"] else [])
    return "\n".join(lines)


def percent(share: float | None) -> str:
    """A share in words."""
    return "not known" if share is None else f"{100 * share:.0f} %"


def number(value: float | None) -> str:
    """Two decimals, with a real minus sign."""
    return "not known" if value is None else f"{value:.2f}".replace("-", "\u2212")
