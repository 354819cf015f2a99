"""The ratings of a listening test, from the votes of one or several sites, as JSON and as an HTML page."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim.atomic_io import read_json, write_json, write_text
from talim.errors import TalimError, UsageError
from talim.html import plots
from talim.html.formatting import format_ci, format_number, format_percent
from talim.html.render import render
from talim.listening import export, ratings
from talim.listening import protocol as protocols
from talim.listening.assignment import LOW_QUALITY_ANCHOR
from talim.listening.draft_protocol import protocol_folder
from talim.listening.protocol import Protocol
from talim.version import __version__

_number = partial(format_number, digits=2)
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

    `scores` is a JSON file {metric: {condition: number}} to correlate with the ratings. The path of the page is under
    "page". TalimError if there are no votes or if they are of another test.
    """
    test_folder = protocol_folder(folder)
    protocol = protocols.load(test_folder)
    tables = [*_local_votes(test_folder, database), *((str(path), export.read(path)) for path in others)]
    rows = export.merge(tables)
    if not rows:
        raise TalimError(f"{test_folder}: no votes yet; talim listen {folder} serves the test")
    voted = {name for row in rows for name in (row.get("first"), row.get("second")) if name}
    if unknown := voted - {*protocol.names, LOW_QUALITY_ANCHOR}:
        raise TalimError(f"the votes are on {', '.join(sorted(unknown))}, which are not in the protocol")
    result = ratings.rate_conditions(rows, protocol, _read_scores(scores))
    result["verdict"] = verdict_sentence(result, next(iter(result["groups"][ratings.ALL_LISTENERS])))
    write_json(test_folder / "ratings.json", result)
    page = test_folder / "ratings" / "index.html"
    write_text(page, render("ratings.html", **context(result, protocol)))
    return result | {"page": str(page)}


def _local_votes(test_folder: Path, database: str | None) -> list[tuple[str, list[dict[str, Any]]]]:
    if database is None and not (test_folder / export.DATABASE).is_file():
        return []
    from talim.listening.server import require_packages

    require_packages()
    from talim.listening.database import sqlite_url
    from talim.listening.vote_store import VoteStore

    return [(str(test_folder), VoteStore(database or sqlite_url(test_folder / export.DATABASE)).rows())]


def _read_scores(path: Path | None) -> dict[str, dict[str, float]]:
    if path is None:
        return {}
    values = read_json(path)
    valid = isinstance(values, dict) and all(
        isinstance(scores, dict) and all(isinstance(score, int | float) for score in scores.values())
        for scores in values.values()
    )
    if not valid:
        raise UsageError(f'--scores {path}: expected {{"metric": {{"condition": number}}}}')
    return values


def context(result: dict[str, Any], protocol: Protocol) -> dict[str, Any]:
    """The variables of the template."""
    by_aspect = result["groups"][ratings.ALL_LISTENERS]
    first = next(iter(by_aspect))
    return {
        "version": __version__,
        "result": result,
        "title": protocol.title.get("en", protocol.name),
        "verdict": result["verdict"],
        "aspects": [{"name": k, "rating": rating, "plot": plot(k, rating, result)} for k, rating in by_aspect.items()],
        "groups": [
            {"name": name, "rating": group[first], "plot": plot(first, group[first], result)}
            for name, group in result["groups"].items()
            if name != ratings.ALL_LISTENERS and first in group
        ],
        "first": first,
        "reasons": [(EXCLUSION_REASONS[name], count) for name, count in result["excluded"].items()],
        "percent": format_percent,
        "number": _number,
    }


def plot(name: str, rating: dict[str, Any], result: dict[str, Any]) -> dict[str, Markup]:
    """The conditions of one aspect, best first, with their intervals, for wide and narrow screens."""
    ranked = enumerate(rank_conditions(rating))
    rows = [plots.ErrorBar(c["name"], **c["strength"], strong=i == 0) for i, c in ranked]
    label = "strength in logits, right is better" if result["kind"] == "pairwise" else "rating, 0 to 100"
    alt = f"{name}: " + "; ".join(f"{row.label} {_number(row.value)}" for row in rows)
    return plots.responsive_pair(rows, alt=alt, x_label=label)


def rank_conditions(rating: dict[str, Any]) -> list[dict[str, Any]]:
    """The conditions, best first."""
    return sorted(rating["conditions"], key=lambda c: -c["strength"]["value"])


def verdict_sentence(result: dict[str, Any], aspect: str) -> str:
    """One sentence: the best condition, and whether its lead is significant."""
    rating = result["groups"][ratings.ALL_LISTENERS][aspect]
    best, second = rank_conditions(rating)[:2]
    if result["kind"] == "mushra":
        return f"{best['name']} is rated highest ({_number(best['strength']['value'])} of 100)."
    pair = next(p for p in rating["pairs"] if {p["first"], p["second"]} == {best["name"], second["name"]})
    if not pair["significant"]:
        return f"{best['name']} and {second['name']} lead; the difference between them is not significant."
    rate = pair["preference"]["value"] if pair["first"] == best["name"] else 1 - pair["preference"]["value"]
    return f"{best['name']} leads: preferred to {second['name']} in {format_percent(rate)} of comparisons."


def sentences(result: dict[str, Any]) -> str:
    """A summary of the result for the terminal."""
    aspect, rating = next(iter(result["groups"][ratings.ALL_LISTENERS].items()))
    counted = "{counted} of {answered} listeners included".format(**result["listeners"])
    lines = [f"{counted}; {rating['answers']} answers on {aspect}"]
    for condition in rank_conditions(rating):
        strength = condition["strength"]
        interval = format_ci(strength["low"], strength["high"], _number, "")
        lines.append(f"  {condition['name']}: {_number(strength['value'])}" + f" ({interval})" * bool(interval))
    lines += [result["verdict"]] + ([rating["warning"]] if rating["warning"] else [])
    return "\n".join(lines)
