"""The usefulness report as JSON and HTML: acceptance, costs and the decision of the brief's rule."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from talim.atomic_io import read_json, write_json, write_text
from talim.briefs import acceptance, candidates, decision_rule, usage_rights
from talim.briefs.acceptance import IntervalEstimate
from talim.briefs.brief import Brief
from talim.briefs.review_store import DATABASE, ReviewStore
from talim.errors import TalimError
from talim.html import plots
from talim.html.formatting import (
    format_amount,
    format_change,
    format_ci,
    format_duration,
    format_money,
    format_number,
    format_percent,
)
from talim.html.render import render
from talim.listening.database import sqlite_url
from talim.reporting.catalogue import Texts, counted, in_languages, interval_ends
from talim.version import __version__

_number = partial(format_number, digits=2)
FILE = "usefulness.json"
PAGE = "usefulness/index.html"
NOTE = "95 % intervals over candidates of the same contender; they do not generalise to other reviewers."
MET = {True: "brief_met", False: "brief_not_met", None: "brief_undecided"}


def open_reviews(
    folder: Path, brief: Brief, database: str | None
) -> tuple[ReviewStore, list[dict[str, Any]], list[dict[str, Any]]]:
    """The review database of a folder, the candidates, and their reviews. TalimError without a database, or if it
    holds reviews of another brief or other candidates.
    """
    rows = candidates.read_candidates(folder)
    if database is None and not (folder / DATABASE).is_file():
        raise TalimError(
            f"{folder}: no reviews yet; serve them with talim brief BRIEF.yaml --run RUN --out {folder} --invites 2"
        )
    reviews = ReviewStore(database or sqlite_url(folder / DATABASE))
    reviews.open_brief(brief, {row["id"]: row["sha256"] for row in rows})
    return reviews, rows, reviews.rows(lambda text: print(text, file=sys.stderr))


def write_acceptance_report(folder: Path, brief: Brief, database: str | None = None) -> dict[str, Any]:
    """Write FOLDER/usefulness.json and usefulness/index.html from candidates and reviews; returns the former.

    The path of the page is under "page". TalimError without reviews, or if they are of another brief.
    """
    reviews, rows, review_rows = open_reviews(folder, brief, database)
    facts = reviews.facts()
    if not review_rows:
        earlier = ", ".join(str(folder / name) for name in (PAGE, FILE) if (folder / name).exists())
        old = f"; not current any more, of earlier reviews: {earlier}" if earlier else ""
        raise TalimError(
            f"{folder}: no reviews yet; serve them with talim brief BRIEF.yaml --out {folder} --invites 2{old}"
        )
    contenders = read_json(folder / candidates.CONTENDERS)
    indicators = decision_rule.read_indicators(folder, brief)
    result = assemble_result(rows, review_rows, contenders, indicators, brief)
    content = brief.model_dump(mode="json")
    result["brief"] = {"hash": facts["hash"], "name": brief.name, "frozen_at": facts["frozen_at"], "content": content}
    result["deleted_on_request"] = facts["deleted"]
    write_json(folder / FILE, result)
    write_text(folder / PAGE, render("usefulness.html", **context(result, brief, rows)))
    return result | {"page": str(folder / PAGE)}


def assemble_result(
    rows: list[dict[str, Any]],
    reviews: list[dict[str, Any]],
    facts: Mapping[str, Any],
    indicators: Mapping[str, Any],
    brief: Brief,
) -> dict[str, Any]:
    """The result of each contender with its decision; `facts` are the contents of contenders.json."""
    contenders = []
    for name in dict.fromkeys([*facts, *(row["contender"] for row in rows)]):  # in the order of --run
        generated = [row for row in rows if row["contender"] == name]
        if not generated:
            continue
        ids, run = {row["id"] for row in generated}, facts.get(name) or {}
        own_reviews = [row for row in reviews if row["candidate"] in ids]
        contender = acceptance.measure_contender(generated, own_reviews, run, brief)
        rights = run.get("rights") or {}
        rights = rights or {"base": "unknown", "base_licence": "unknown"}
        contender["rights"] = rights | usage_rights.usage_allowed(rights)
        contender["decision"] = decision_rule.apply_decision_rule(contender, indicators, brief)
        contenders.append(contender)
    result = {
        "talim": __version__,
        "reviewers": len({row["reviewer"] for row in reviews}),
        "reviews": len(reviews),
        "agreement": acceptance.reviewer_agreement(reviews),
        "intervals": NOTE,
        "currency": brief.prices.currency,
        "status_quo": brief.status_quo.model_dump(mode="json") if brief.status_quo else None,
        "contenders": contenders,
        "indicators": list(indicators.values()),
        "answer": overall_decision(contenders),
    }
    lines = summary_lines(result, brief)
    return result | {"sentences": [line["en"] for line in lines], "sentences_ja": [line["ja"] for line in lines]}


def few_candidates(count: int, brief: Brief) -> Texts:
    """That so many candidates of a contender carry little, and how many would carry more; empty for enough."""
    needed = acceptance.candidates_needed(brief.decision_rule.acceptance_at_least)
    if not 0 < count < needed:
        return {}
    ends = acceptance.proportion(count, count)["low"], acceptance.proportion(0, count)["high"]
    low, high = (format_percent(end) for end in ends)
    return in_languages("brief_few", candidates=counted(count, "candidate"), needed=needed, low=low, high=high)


def _fewest_reviewed(result: Mapping[str, Any]) -> int:
    return min((contender["reviewed"] for contender in result["contenders"]), default=0)


def overall_decision(contenders: list[dict[str, Any]]) -> str:
    """Go if any contender is a go, no-go if all are no-go, else open."""
    answers = {contender["decision"]["answer"] for contender in contenders}
    return "go" if "go" in answers else "no-go" if answers == {"no-go"} else "open"


def summary_lines(result: Mapping[str, Any], brief: Brief) -> list[Texts]:
    """One line per contender, whether too few were reviewed to carry a decision, and the decision, by language."""
    lines = [
        in_languages(
            "brief_accepted",
            **{key: contender[key] for key in ("name", "accepted", "reviewed")},
            interval=_interval_texts(contender["acceptance"], format_percent),
            cost=cost_texts(contender["cost_per_accepted_minute"], result["currency"]),
        )
        for contender in result["contenders"]
    ]
    few = few_candidates(_fewest_reviewed(result), brief)
    return [*lines, *([few] if few else []), in_languages("brief_decision", answer=decision_texts(result))]


def decision_texts(result: Mapping[str, Any]) -> Texts:
    """The decision by language, with the names of the contenders that are a go."""
    names = [c["name"] for c in result["contenders"] if c["decision"]["answer"] == "go"]
    if names and len(result["contenders"]) > 1:
        return in_languages("brief_go_with", names={"en": " and ".join(names), "ja": "、".join(names)})
    return in_languages(f"brief_{result['answer']}")


def condition_texts(row: Mapping[str, Any]) -> Texts:
    """A condition of the decision rule and whether it is met, by language."""
    condition = {"en": row["condition"], "ja": row["condition_ja"]}
    return in_languages("brief_condition", met=in_languages(MET[row["met"]]), condition=condition)


def japanese_lines(result: Mapping[str, Any]) -> list[str]:
    """The result in Japanese: its sentences, and the conditions of the decision rule with the name of the contender."""
    conditions = [
        f"{contender['name']}：{condition_texts(row)['ja']}"
        for contender in result["contenders"]
        for row in contender["decision"]["conditions"]
    ]
    return [*result["sentences_ja"], *conditions]


def judged_parts(rows: Sequence[Mapping[str, Any]]) -> str:
    """Which checks judge which part of the pieces, where they go on from a phrase; "" elsewhere."""
    checks = [check for row in rows for check in row["checks"] if check.get("part")]
    names = {
        part: dict.fromkeys(c["name"] for c in checks if c["part"] == part) for part in (c["part"] for c in checks)
    }
    return "; ".join(f"{', '.join(checked)}: {part}" for part, checked in names.items())


def context(result: Mapping[str, Any], brief: Brief, rows: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The variables of the template; `rows` are the candidates."""
    return {
        "version": __version__,
        "result": result,
        "brief": brief,
        "title": brief.title.get("en", brief.name),
        "answer": decision_texts(result)["en"],
        "few": few_candidates(_fewest_reviewed(result), brief).get("en"),
        "japanese": japanese_lines(result),
        "condition_text": lambda row: condition_texts(row)["en"],
        "judged": judged_parts(rows),
        "acceptance": _acceptance_plot(result["contenders"]),
        "number": _number,
        "indicator_cells": _indicator_cells,
        "interval": _interval_text,
        "cost": lambda estimate, currency: cost_texts(estimate, currency)["en"],
        "amount": format_amount,
        "money": format_money,
        "duration": format_duration,
    }


def _indicator_cells(indicator: Mapping[str, Any]) -> list[str]:
    """Status quo, new music and their difference, each with its interval."""
    parts = [indicator[name] for name in ("status_quo", "new", "difference")]
    current, new, _ = values = [part["value"] for part in parts]
    texts = map(_number, values) if current is None or new is None else format_change(current, new, digits=2)
    return [
        "not measured" if part["value"] is None else f"{text} ({_interval_text(part, _number)})"
        for part, text in zip(parts, texts, strict=True)
    ]


def _acceptance_plot(contenders: list[dict[str, Any]]) -> dict[str, Markup]:
    rows = [plots.ErrorBar(c["name"], **c["acceptance"]) for c in contenders if c["reviewed"]]
    alt = "Accepted: " + "; ".join(f"{row.label} {format_percent(row.value)}" for row in rows)
    return plots.responsive_pair(rows, alt=alt, x_label="fraction of candidates accepted as they are")


def _interval_text(estimate: IntervalEstimate, show: Callable[[float], str]) -> str:
    return _interval_texts(estimate, show)["en"]


def _interval_texts(estimate: IntervalEstimate, show: Callable[[float], str]) -> Texts:
    text = format_ci(estimate["low"], estimate["high"], show, "")
    return interval_ends(text) if text else in_languages("brief_no_interval")


def cost_texts(estimate: IntervalEstimate, currency: str) -> Texts:
    """A cost with its interval, or the reason why there is none, by language."""
    if estimate["low"] is None and estimate["value"] is None:
        return in_languages("brief_cost_unknown")
    if estimate["value"] is None:
        return in_languages("brief_cost_least", amount=format_money(estimate["low"], currency))
    interval = _interval_texts(estimate, partial(format_amount, currency=currency))
    return in_languages("brief_cost", amount=format_money(estimate["value"], currency), interval=interval)
