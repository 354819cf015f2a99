"""The usefulness report as JSON and HTML: acceptance, costs and the decision of the brief's rule."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from shlex import quote
from typing import Any

from markupsafe import Markup

from talim.atomic_io import read_json, write_json, write_text
from talim.backbones.registry import is_miniature
from talim.briefs import acceptance, candidates, decision_rule, usage_rights
from talim.briefs.acceptance import IntervalEstimate
from talim.briefs.brief import Brief
from talim.briefs.review_session import WORDS
from talim.briefs.review_store import DATABASE, ReviewStore
from talim.errors import TalimError
from talim.html import plots
from talim.html.formatting import (
    format_amount,
    format_change,
    format_ci,
    format_counted,
    format_money,
    format_number,
    format_percent,
)
from talim.html.languages import from_fields, languages, to_fields
from talim.html.languages import words as catalogue
from talim.html.render import render
from talim.listening.database import sqlite_url
from talim.reporting.catalogue import (
    Texts,
    counted,
    duration,
    in_languages,
    interval_ends,
    join,
    listed,
    named,
    translator,
)
from talim.version import __version__

_number = partial(format_number, digits=2)
FILE = "usefulness.json"
PAGE = "usefulness/index.html"
MET = {True: "brief_met", False: "brief_not_met", None: "brief_undecided"}


def open_reviews(
    folder: Path, brief: Brief, database: str | None
) -> tuple[ReviewStore, list[dict[str, Any]], list[dict[str, Any]]]:
    """The review database of a folder, the candidates, and their reviews. TalimError without a database, or if it
    holds reviews of another brief or other candidates.
    """
    rows = candidates.read_candidates(folder)
    if database is None and not (folder / DATABASE).is_file():
        raise _nothing_reviewed(folder, rows)
    reviews = ReviewStore(database or sqlite_url(folder / DATABASE))
    reviews.open_brief(brief, {row["id"]: row["sha256"] for row in rows})
    return reviews, rows, reviews.rows(lambda text: print(text, file=sys.stderr))


def _nothing_reviewed(folder: Path, rows: Sequence[Mapping[str, Any]], more: str = "") -> TalimError:
    """What is there to review, and how reviews are made."""
    there = f"{format_counted(len(rows), 'candidate')}, {checks_passed(rows)['en']}"
    return TalimError(
        f"{folder}: no reviews yet. To be reviewed: {there}. talim brief BRIEF.yaml --out {quote(str(folder))} "
        f"--invites 2 makes links for two reviewers and serves the review until Ctrl-C{more}"
    )


def write_acceptance_report(folder: Path, brief: Brief, database: str | None = None) -> dict[str, Any]:
    """Write FOLDER/usefulness.json and usefulness/index.html from candidates and reviews; returns the former.

    The path of the page is under "page". TalimError without reviews, or if they are of another brief.
    """
    reviews, rows, review_rows = open_reviews(folder, brief, database)
    facts = reviews.facts()
    if not review_rows:
        earlier = ", ".join(str(folder / name) for name in (PAGE, FILE) if (folder / name).exists())
        old = f"; not current any more, of earlier reviews: {earlier}" if earlier else ""
        raise _nothing_reviewed(folder, rows, old)
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
        "intervals": in_languages("brief_page_intervals")["en"],
        "currency": brief.prices.currency,
        "status_quo": brief.status_quo.model_dump(mode="json") if brief.status_quo else None,
        "contenders": contenders,
        "indicators": list(indicators.values()),
        "answer": overall_decision(contenders),
    }
    lines = summary_lines(result, brief)
    return result | to_fields("sentences", {code: [line[code] for line in lines] for code in languages()})


def few_candidates(count: int, brief: Brief) -> Texts:
    """That so many candidates of a contender carry little, and how many would carry more; empty for enough."""
    needed = acceptance.candidates_needed(brief.decision_rule.acceptance_at_least)
    if not 0 < count < needed:
        return {}
    ends = acceptance.proportion(count, count)["low"], acceptance.proportion(0, count)["high"]
    low, high = (format_percent(end) for end in ends)
    return in_languages("brief_few", candidates=counted(count, "candidate"), needed=needed, low=low, high=high)


def checks_passed(rows: Sequence[Mapping[str, Any]]) -> Texts:
    """How many candidates passed every check that could be made, and which checks of how many could not be."""
    passed = acceptance.none_failed(rows)
    names = {language: catalogue(language, WORDS)["checks"] for language in languages()}
    unchecked = [
        in_languages(
            "brief_check_unchecked_melody" if name == "mode" else "brief_check_unchecked",
            check={language: names[language].get(name, name).lower() for language in languages()},
            count=counts["not_checked"],
        )
        for name, counts in acceptance.check_counts(rows).items()
        if counts["not_checked"]
    ]
    if unchecked:
        return in_languages("brief_checks_made", passed=passed, unchecked=listed(unchecked))
    return in_languages("brief_checks_passed", passed=passed)


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
        return in_languages("brief_go_with", names=named(names))
    return in_languages(f"brief_{result['answer']}")


def condition_texts(row: Mapping[str, Any]) -> Texts:
    """A condition of the decision rule and whether it is met, by language."""
    met = in_languages(MET[row["met"]])
    return in_languages("brief_condition", met=met, condition=from_fields(row, "condition"))


def context(result: Mapping[str, Any], brief: Brief, rows: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """The variables of the template; `rows` are the candidates. What depends on the language is in `pages`."""
    return {
        "version": __version__,
        "result": result,
        "brief": brief,
        "title": brief.title.get("en", brief.name),
        "amount": format_amount,
        "pages": {language: _page(result, brief, rows, language) for language in languages()},
    }


def _page(result: Mapping[str, Any], brief: Brief, rows: Sequence[Mapping[str, Any]], language: str) -> dict[str, Any]:
    """What the template says of the result in one language."""
    t, words_of, words = translator(language), catalogue(language), catalogue(language, WORDS)
    agreement = t("brief_page_no_agreement") if result["agreement"] is None else _number(result["agreement"])
    counts = [counted(result[f"{noun}s"], noun)[language] for noun in ("reviewer", "review")]
    reason_words = words["reason_words"] | {
        name: texts.get(language, name) for name, texts in brief.reason_words.items()
    }
    judged = "; ".join(
        f"{', '.join(words['checks'].get(name, name) for name in names)}: {words['phrases'].get(part, part)}"
        for part, names in judged_parts(rows).items()
    )
    answer, few = decision_texts(result)[language], few_candidates(_fewest_reviewed(result), brief)
    return {
        "t": t,
        "id": "" if language == "en" else f"{language}-",
        "answer": t("brief_page_decided", answer=answer),
        "lines": result["sentences_translated"].get(language, [few["en"]] if few else []),
        "deck": _deck(brief, language),
        "condition": lambda row: condition_texts(row)[language],
        "plot": _acceptance_plot(result["contenders"], t),
        "estimate": lambda estimate: _estimate_text(estimate, language),
        "indicator_cells": lambda indicator: _indicator_cells(indicator, language),
        "duration": lambda seconds: duration(seconds)[language],
        "cost": lambda estimate: cost_texts(estimate, result["currency"])[language],
        "reviews": join(
            [
                t("brief_page_counts", counts=words_of["comma"].join(counts)),
                t("brief_page_agreement", alpha=agreement),
                t("brief_page_intervals"),
            ],
            language,
        ),
        "reasons": lambda named: "; ".join(
            f"{reason_words.get(name, name)} ({count})" for name, count in named.items()
        ),
        "prices": _prices(result, brief, language),
        "hours": lambda contender: _hours(contender, language),
        "check": lambda name: words["checks"].get(name, name),
        "checks_passed": lambda name: t(
            "brief_page_checks_passed",
            name=name,
            text=checks_passed([row for row in rows if row["contender"] == name])[language],
        ),
        "miniature": lambda contender: (
            t("brief_page_miniature", name=contender["name"], base=contender["rights"]["base"])
            if is_miniature(contender["rights"]["base"])
            else ""
        ),
        "judged": join([t("brief_page_by_people"), t("brief_page_judged", judged=judged) if judged else ""], language),
        "commercial": lambda contender: _commercial(contender["rights"], contender["name"], language),
        "consent": lambda contender: _consent(contender["rights"], language),
    }


def _deck(brief: Brief, language: str) -> str:
    """What the brief asks for, in one language."""
    t = translator(language)
    sentences = [
        t(
            "brief_page_deck",
            title=brief.title.get(language) or brief.title.get("en", brief.name),
            seconds=f"{brief.seconds:g}",
            new=t("brief_page_new") if brief.phrase else "",
            loop=t("brief_page_loop") if brief.loop else "",
        ),
        t("brief_page_prompt", prompt=brief.prompt_text) if brief.prompt_text else "",
    ]
    if brief.phrase:
        key = "brief_page_phrase" if brief.phrase.keep else "brief_page_phrase_left_out"
        sentences.append(t(key, file=brief.phrase.file))
    return join(sentences, language)


def _prices(result: Mapping[str, Any], brief: Brief, language: str) -> str:
    """What an hour costs, and what is not counted, in one language."""
    t = translator(language)
    sentences: list[str] = []
    for name in ("machine", "person"):
        price = getattr(brief.prices, f"{name}_hour")
        priced = {} if price is None else {"amount": format_money(price, result["currency"])}
        sentences.append(t(f"brief_page_{name}" if priced else f"brief_page_{name}_free", **priced))
    hours = {one["name"]: one["hours"] for one in result["contenders"]}
    untimed = [name for name, each in hours.items() if each["evaluation"] is None and each["proof"] is None]
    sentences.append(t("brief_page_not_counted"))
    sentences.append(t("brief_page_untimed", names=catalogue(language)["comma"].join(untimed)) if untimed else "")
    note = (result["status_quo"] or {}).get("note")
    return join([*sentences, t("brief_page_source", note=note) if note else ""], language)


def _hours(contender: Mapping[str, Any], language: str) -> str:
    """What each kind of work took, in one language; the rest of a proof of concept only where there was one."""
    times = {name: duration(None if hours is None else hours * 3600) for name, hours in contender["hours"].items()}
    proof = in_languages("brief_page_proof", time=times.pop("proof")) if contender["hours"]["proof"] is not None else ""
    times.pop("proof", None)
    return in_languages("brief_page_hours", name=contender["name"], proof=proof, **times)[language]


def _commercial(rights: Mapping[str, Any], name: str, language: str) -> str:
    """Whether music of a contender may be used commercially, and why, in one language."""
    return in_languages("brief_page_commercial", name=name, sentence=from_fields(rights, "sentence"))[language]


def _consent(rights: Mapping[str, Any], language: str) -> str:
    """The consent of the performers as the metadata state it, in one language; empty where no rights are known."""
    t = translator(language)
    stated = {key: t(f"brief_page_consent_{key}") for key in ("given", "unknown")}
    named = [stated.get(consent) or str(consent) for consent in rights.get("consent") or ()]
    return t("brief_page_consent", consent=", ".join(named)) if named else ""


def judged_parts(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[str]]:
    """The checks by the part of the pieces that they judge, where these go on from a phrase; empty elsewhere."""
    checks = [check for row in rows for check in row["checks"] if check.get("part")]
    return {
        part: [*dict.fromkeys(c["name"] for c in checks if c["part"] == part)] for part in (c["part"] for c in checks)
    }


def _estimate_text(estimate: IntervalEstimate, language: str) -> str:
    interval = _interval_texts(estimate, _number)[language]
    return interval if estimate["value"] is None else f"{_number(estimate['value'])} ({interval})"


def _indicator_cells(indicator: Mapping[str, Any], language: str = "en") -> list[str]:
    """Status quo, new music and their difference, each with its interval."""
    parts = [indicator[name] for name in ("status_quo", "new", "difference")]
    current, new, _ = values = [part["value"] for part in parts]
    texts = map(_number, values) if current is None or new is None else format_change(current, new, digits=2)
    return [
        translator(language)("brief_page_not_measured")
        if part["value"] is None
        else f"{text} ({_interval_texts(part, _number)[language]})"
        for part, text in zip(parts, texts, strict=True)
    ]


def _acceptance_plot(contenders: list[dict[str, Any]], t: Callable[..., str]) -> dict[str, Markup]:
    rows = [plots.ErrorBar(c["name"], **c["acceptance"]) for c in contenders if c["reviewed"]]
    alt = t("brief_page_plot_alt", values="; ".join(f"{row.label} {format_percent(row.value)}" for row in rows))
    return plots.responsive_pair(rows, alt=alt, x_label=t("brief_page_plot"))


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
