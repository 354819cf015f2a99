"""The ratings of a listening test, from the votes of one or several sites, as JSON and as an HTML page."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim.atomic_io import read_json, write_json, write_text
from talim.errors import TalimError, UsageError
from talim.html import plots
from talim.html.formatting import format_ci, format_counted, format_number, format_percent
from talim.html.render import render
from talim.listening import export, ratings
from talim.listening import protocol as protocols
from talim.listening.assignment import LOW_QUALITY_ANCHOR
from talim.listening.draft_protocol import protocol_folder
from talim.listening.exclusions import exclusion_words
from talim.listening.protocol import ANCHOR, Protocol
from talim.listening.verdict import rank_conditions, verdict_sentences
from talim.version import __version__

_number = partial(format_number, digits=2)


def rate_folder(
    folder: Path, others: Sequence[Path] = (), scores: Path | None = None, database: str | None = None
) -> dict[str, Any]:
    """Rate the test in FOLDER, merged with other sites' JSONL exports; write ratings.json and ratings/index.html.

    `scores` is a JSON file {metric: {condition: number}} to correlate with the ratings. The path of the page is under
    "page". TalimError if there are no votes or if they are of another test; where votes are there and none counts, the
    page is written all the same, an earlier ratings.json is removed, and the NoVotesCountError names both.
    """
    test_folder = protocol_folder(folder)
    protocol = protocols.load(test_folder)
    tables = [*_local_votes(test_folder, database), *((str(path), export.read(path)) for path in others)]
    rows = export.merge(tables)
    page, table = test_folder / "ratings" / "index.html", test_folder / "ratings.json"
    if not rows:
        earlier = ", ".join(str(path) for path in (page, table) if path.exists())
        old = f"; not current any more, of earlier votes: {earlier}" if earlier else ""
        raise TalimError(f"{test_folder}: no votes yet; talim listen {folder} serves the test{old}")
    _require_this_test(rows, protocol)
    try:
        result = ratings.rate_conditions(rows, protocol, _read_scores(scores))
    except ratings.NoVotesCountError as error:
        write_text(page, render("ratings.html", **empty_context(error, rows, protocol)))
        old = f". Removed, because its votes count no more: {table}" if table.exists() else ""
        table.unlink(missing_ok=True)
        error.args = (f"{error}. Page: {page}{old}",)
        raise
    first = next(iter(result["groups"][ratings.ALL_LISTENERS].values()))
    said = verdict_sentences(first, shown_names(protocol))
    result["verdict"] = " ".join(said)
    write_json(table, result)
    write_text(page, render("ratings.html", **context(result, said, protocol)))
    return result | {"page": str(page)}


def _require_this_test(rows: Sequence[dict[str, Any]], protocol: Protocol) -> None:
    """TalimError for rows of another kind of test, and for conditions and aspects that the protocol does not have."""
    if any(("answer" in row) != (protocol.kind == "pairwise") for row in rows):
        raise TalimError(f"the votes are not those of a {protocol.kind} test, which protocol.yaml describes")
    conditions = {str(row[key]) for row in rows for key in ("first", "second", "condition") if key in row}
    unknown = conditions - {*protocol.names, LOW_QUALITY_ANCHOR, ANCHOR}
    unknown |= {str(row["aspect"]) for row in rows} - {aspect.name for aspect in protocol.aspects}
    if unknown:
        raise TalimError(f"the votes are on {', '.join(sorted(unknown))}, which are not in the protocol")


def shown_names(protocol: Protocol) -> dict[str, str]:
    """The conditions as a reader knows them; real music is called so."""
    shown = {c.name: f"the real music ({c.name})" if c.take == "real" else c.name for c in protocol.conditions}
    return shown | {ANCHOR: "the low-passed anchor"}


def _local_votes(test_folder: Path, database: str | None) -> list[tuple[str, list[dict[str, Any]]]]:
    if database is None and not (test_folder / export.DATABASE).is_file():
        return []
    from talim.listening.server import require_packages

    require_packages()
    from talim.listening.database import sqlite_url
    from talim.listening.vote_store import VoteStore

    store = VoteStore(database or sqlite_url(test_folder / export.DATABASE))
    try:
        return [(str(test_folder), store.rows(lambda text: print(text, file=sys.stderr)))]
    finally:
        store.close()


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


def context(result: dict[str, Any], said: Sequence[str], protocol: Protocol) -> dict[str, Any]:
    """The variables of the template."""
    by_aspect = result["groups"][ratings.ALL_LISTENERS]
    first = next(iter(by_aspect))
    return {
        "version": __version__,
        "result": result,
        "title": protocol.title.get("en", protocol.name),
        "verdict": [_unbroken(text, protocol.names) for text in said],
        "aspects": [{"name": k, "rating": rating, "plot": plot(k, rating, result)} for k, rating in by_aspect.items()],
        "groups": [
            {"name": name, "rating": group[first], "plot": plot(first, group[first], result)}
            for name, group in result["groups"].items()
            if name != ratings.ALL_LISTENERS and first in group
        ],
        "first": first,
        "reasons": [(exclusion_words(name, protocol), count) for name, count in result["excluded"].items()],
        "percent": format_percent,
        "small": partial(format_number, digits=3),
        "number": _number,
    }


def _unbroken(text: str, names: Sequence[str]) -> Markup:
    """The text as HTML in which no condition's name is broken at a hyphen."""
    longest_first = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    parts = re.split(rf"(?<![\w-])({longest_first})(?![\w-])", text)
    spans = (Markup('<span class="design">{}</span>').format(part) if i % 2 else part for i, part in enumerate(parts))
    return Markup("").join(spans)


def empty_context(
    error: ratings.NoVotesCountError, rows: Sequence[dict[str, Any]], protocol: Protocol
) -> dict[str, Any]:
    """The variables of the template where nobody's answers count yet."""
    result = {
        "name": protocol.name,
        "listeners": {"answered": error.listeners, "counted": 0},
        "excluded": error.excluded,
        "intra_rater_agreement": {"repeats": 0},
        "rank_correlation": [],
        "test": rows[0]["test"],
        "sites": dict(Counter(site for site, _ in {(row["site"], row["listener"]) for row in rows})),
    }
    return {
        "version": __version__,
        "result": result,
        "title": protocol.title.get("en", protocol.name),
        "verdict": [f"N{str(error)[1:]}."],
        "reasons": [(exclusion_words(name, protocol), count) for name, count in error.excluded.items()],
        "aspects": [],
        "groups": [],
    }


def plot(name: str, rating: dict[str, Any], result: dict[str, Any]) -> dict[str, Markup]:
    """The conditions of one aspect, best first, with their intervals, for wide and narrow screens; none without any."""
    if not rank_conditions(rating):
        return {}
    ranked = enumerate(rank_conditions(rating))
    rows = [plots.ErrorBar(c["name"], **c["strength"], strong=i == 0) for i, c in ranked]
    label = "strength in logits, right is better" if result["kind"] == "pairwise" else "rating, 0 to 100"
    alt = f"{name}: " + "; ".join(f"{row.label} {_number(row.value)}" for row in rows)
    return plots.responsive_pair(rows, alt=alt, x_label=label)


def sentences(result: dict[str, Any]) -> str:
    """A summary of the result for the terminal."""
    aspect, rating = next(iter(result["groups"][ratings.ALL_LISTENERS].items()))
    listeners = result["listeners"]
    counted = f"{listeners['counted']} of {format_counted(listeners['answered'], 'listener')} included"
    lines = [f"{counted}; {format_counted(rating['answers'], 'answer')} on {aspect}"]
    for condition in rank_conditions(rating):
        strength = condition["strength"]
        interval = format_ci(strength["low"], strength["high"], _number, "")
        lines.append(f"  {condition['name']}: {_number(strength['value'])}" + f" ({interval})" * bool(interval))
    lines += [result["verdict"]] + ([rating["warning"]] if rating["warning"] else [])
    return "\n".join([*lines, *result["left_out"]])
