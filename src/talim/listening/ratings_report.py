"""The ratings of a listening test, from the votes of one or several sites, as JSON and as an HTML page."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim.atomic_io import read_json, write_json, write_text
from talim.errors import TalimError, UsageError
from talim.html import plots
from talim.html.formatting import format_ci, format_counted, format_number, format_percent
from talim.html.languages import languages, words
from talim.html.render import render
from talim.listening import export, ratings
from talim.listening import protocol as protocols
from talim.listening.assignment import LOW_QUALITY_ANCHOR
from talim.listening.draft_protocol import protocol_folder
from talim.listening.exclusions import exclusion_words, left_out_sentences
from talim.listening.protocol import ANCHOR, Protocol
from talim.listening.verdict import rank_conditions, verdict_sentences
from talim.reporting.catalogue import Texts, counted, in_languages, interval_ends, join, translator
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
    said = {each: verdict_sentences(first, shown_names(protocol, each), each) for each in languages()}
    result["verdict"] = " ".join(said["en"])
    left_out = left_out_sentences(result["excluded"], protocol)
    result["sentences_translated"] = {
        code: [*said[code], _counted_texts(result)[code], *(text[code] for text in left_out)]
        for code in languages()
        if code != "en"
    }
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


def shown_names(protocol: Protocol, language: str = "en") -> dict[str, str]:
    """The conditions as a reader knows them; real music is called so."""
    t = translator(language)
    shown = {c.name: t("listening_real", name=c.name) if c.take == "real" else c.name for c in protocol.conditions}
    return shown | {ANCHOR: t("listening_anchor")}


def _counted_texts(result: Mapping[str, Any]) -> Texts:
    listeners = result["listeners"]
    answered = counted(listeners["answered"], "listener")
    return in_languages("listening_counted", counted=listeners["counted"], answered=answered)


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


def context(result: dict[str, Any], said: Mapping[str, Sequence[str]], protocol: Protocol) -> dict[str, Any]:
    """The variables of the template; `said` is the verdict by language. What depends on the language is in `pages`."""
    return {
        "version": __version__,
        "result": result,
        "pages": {language: _page(result, said[language], protocol, language) for language in languages()},
        "percent": format_percent,
        "small": partial(format_number, digits=3),
        "number": _number,
    }


def _page(result: dict[str, Any], said: Sequence[str], protocol: Protocol, language: str) -> dict[str, Any]:
    """What the template says of the result in one language."""
    t = translator(language)
    built_in = words(language, "listen")
    own = {aspect.name: aspect.label.get(language) for aspect in protocol.aspects}
    labels = {name: own[name] or built_in["aspects"].get(name, {}).get("label", name) for name in own}
    by_aspect = (result.get("groups") or {}).get(ratings.ALL_LISTENERS) or {}
    first = next(iter(by_aspect), "")
    groups = {name: group[first] for name, group in (result.get("groups") or {}).items() if first and first in group}

    def count(value: int, noun: str) -> str:
        return counted(value, noun)[language]

    def shown(name: str, rating: dict[str, Any], label: str) -> dict[str, Any]:
        return {
            "name": name,
            "label": label,
            "rating": rating,
            "plot": plot(labels.get(name, label), rating, result, t),
        }

    sites = result["sites"]
    return {
        "t": t,
        "id": "" if language == "en" else f"{language}-",
        "deck": t(
            "ratings_page_deck",
            title=protocol.title.get(language) or protocol.title.get("en", protocol.name),
            listeners=count(result["listeners"]["counted"], "listener"),
            sites=t("ratings_page_sites", sites=count(len(sites), "site")) if len(sites) > 1 else "",
        ),
        "verdict": [_unbroken(text, protocol.names) for text in said],
        "first": labels.get(first, ""),
        "aspects": [shown(name, rating, labels[name]) for name, rating in by_aspect.items()],
        "groups": [
            shown(first, rating, words(language).get(f"listening_group_{name}", name))
            for name, rating in groups.items()
            if name != ratings.ALL_LISTENERS
        ],
        "counted": count,
        "ends": lambda value, show: _ends(value, show, language),
        "sentence": lambda texts: texts[language] + ("." if language == "en" else "。"),
        "answers": lambda rating: _answers(rating, language),
        "listeners": join(
            [
                t("ratings_page_listeners", **result["listeners"]),
                *(
                    t("ratings_page_left_out", count=number, what=exclusion_words(reason, protocol)[language])
                    for reason, number in result["excluded"].items()
                ),
            ],
            language,
        ),
        "repeats": _repeats(result["intra_rater_agreement"], language),
        "correlation": lambda row: _correlation(row, language),
        "test": t(
            "ratings_page_test",
            test=result["test"],
            sites=words(language)["comma"].join(f"{site} ({number})" for site, number in sites.items()),
        ),
    }


def _ends(value: Mapping[str, Any], show: Callable[[float], str], language: str) -> str:
    """A value with its interval, in one language; or that nobody rated it."""
    if value["value"] is None:
        return translator(language)("ratings_page_not_rated")
    ends = format_ci(value["low"], value["high"], show, "")
    return show(value["value"]) + (f" ({interval_ends(ends)[language]})" if ends else "")


def _answers(rating: Mapping[str, Any], language: str) -> str:
    """How many listened and answered what, and how far they agree, in one language."""
    t = translator(language)
    listeners, answers = (counted(rating[f"{noun}s"], noun)[language] for noun in ("listener", "answer"))
    sides = ""
    if "cannot_say" in rating:
        first = format_percent(rating["first_side_fraction"])
        sides = t(
            "ratings_page_sides",
            cannot_say=rating["cannot_say"],
            no_difference=rating["no_difference"],
            first=t("not_known") if rating["first_side_fraction"] is None else first,
        )
    alpha = t("not_known") if rating["alpha"] is None else _number(rating["alpha"])
    return (
        t("ratings_page_answers", listeners=listeners, answers=answers)
        + sides
        + t("ratings_page_agreement", alpha=alpha)
    )


def _repeats(agreement: Mapping[str, Any], language: str) -> str:
    """What became of hidden repeats, in one language."""
    t = translator(language)
    if not agreement["repeats"]:
        return t("ratings_page_no_repeats")
    parts = {"same": "same", "within": "within_one_step", "reversed": "reversed"}
    rates = {
        name: t("not_known") if agreement[key] is None else format_percent(agreement[key])
        for name, key in parts.items()
    }
    return t("ratings_page_repeats", answers=counted(agreement["repeats"], "answer")[language], **rates)


def _correlation(row: Mapping[str, Any], language: str) -> str:
    key = "ratings_page_correlation" if row["p"] is None else "ratings_page_correlation_p"
    t, conditions = translator(language), counted(row["conditions"], "condition")[language]
    value = t("not_known") if row["spearman"] is None else _number(row["spearman"])
    return t(key, metric=row["metric"], value=value, conditions=conditions, p=_number(row["p"]))


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
    said = {language: [text] for language, text in error.texts.items()}
    said["en"] = [f"N{error.texts['en'][1:]}."]
    return context(result, said, protocol)


def plot(label: str, rating: dict[str, Any], result: dict[str, Any], t: Callable[..., str]) -> dict[str, Markup]:
    """The conditions of one aspect, best first, with their intervals, for wide and narrow screens; none without any."""
    if not rank_conditions(rating):
        return {}
    ranked = enumerate(rank_conditions(rating))
    rows = [plots.ErrorBar(c["name"], **c["strength"], strong=i == 0) for i, c in ranked]
    scale = t("ratings_page_strength" if result["kind"] == "pairwise" else "ratings_page_rating")
    alt = f"{label}: " + "; ".join(f"{row.label} {_number(row.value)}" for row in rows)
    return plots.responsive_pair(rows, alt=alt, x_label=scale)


def sentences(result: dict[str, Any]) -> str:
    """A summary of the result for the terminal."""
    aspect, rating = next(iter(result["groups"][ratings.ALL_LISTENERS].items()))
    lines = [f"{_counted_texts(result)['en']}; {format_counted(rating['answers'], 'answer')} on {aspect}"]
    for condition in rank_conditions(rating):
        strength = condition["strength"]
        interval = format_ci(strength["low"], strength["high"], _number, "")
        lines.append(f"  {condition['name']}: {_number(strength['value'])}" + f" ({interval})" * bool(interval))
    lines += [result["verdict"]] + ([rating["warning"]] if rating["warning"] else [])
    return "\n".join([*lines, *result["left_out"]])
