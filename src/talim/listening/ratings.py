"""Ratings from votes: strengths with intervals over listeners by aspect and group, and listener agreement."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from talim.errors import TalimError
from talim.experiments.effects import holm_adjusted
from talim.html.languages import languages
from talim.listening import bradley_terry
from talim.listening.agreement import intra_rater_agreement, krippendorff_alpha, rank_correlation, rating_matrix
from talim.listening.assignment import LOW_QUALITY_ANCHOR
from talim.listening.bradley_terry import BradleyTerryFit
from talim.listening.exclusions import ExclusionResult, VoteRow, exclude_listeners, exclusion_words, left_out_sentences
from talim.listening.protocol import ANCHOR, Protocol
from talim.reporting.catalogue import counted, in_languages
from talim.reporting.human_ratings import ENOUGH_LISTENERS, MIN_LISTENERS

ALL_LISTENERS = "all"
LEVEL = 0.05
SCALE = (0.0, 100.0)  # of a MUSHRA rating
DIGITS = 9  # what a fit leaves of a difference that is none is less
_UNRATED = {"value": None, "low": None, "high": None}


class NoVotesCountError(TalimError):
    """Nobody's answers count yet; the message says whose do not, and why."""

    def __init__(self, listeners: int, excluded: Mapping[str, int], protocol: Protocol) -> None:
        self.listeners, self.excluded = listeners, dict(excluded)
        who = counted(listeners, "listener")
        reasons = [
            in_languages("listening_nobody_reason", count=count, what=exclusion_words(name, protocol))
            for name, count in excluded.items()
        ]
        self.texts = in_languages(
            "listening_nobody",
            who=who | {"en": f"{who['en']} {'has' if listeners == 1 else 'have'}"},
            reasons={language: "; ".join(text[language] for text in reasons) for language in languages()}
            if reasons
            else in_languages("listening_nothing_compared"),
        )
        super().__init__(self.texts["en"])


def rate_conditions(
    rows: Sequence[VoteRow], protocol: Protocol, scores: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, Any]:
    """Ratings of all conditions from exported rows (`export.merge`), as one JSON document.

    `scores` {metric: {condition: score}} are correlated with the strengths of the first aspect. NoVotesCountError if
    no vote is left after exclusions.
    """
    screened = exclude_listeners(rows, protocol)
    if not screened.rows:
        raise NoVotesCountError(screened.listeners, screened.excluded, protocol)
    members = {group: [row for row in screened.rows if row["group"] == group] for group in protocol.groups}
    groups = {ALL_LISTENERS: screened.rows} | {group: part for group, part in members.items() if part}
    rate = _pairwise if protocol.kind == "pairwise" else _mushra
    result: dict[str, Any] = {
        "test": rows[0]["test"],
        "name": protocol.name,
        "kind": protocol.kind,
        "reference": protocol.reference,
        "sites": dict(Counter(site for site, _ in {(r["site"], r["listener"]) for r in rows})),
        "listeners": {"answered": screened.listeners, "counted": _num_listeners(screened.rows)},
        "excluded": screened.excluded,
        "intervals": "95\N{NO-BREAK SPACE}%, jackknife over listeners with Student's t",
        "left_out": [text["en"] for text in left_out_sentences(screened.excluded, protocol)],
        "groups": {name: _by_aspect(part, protocol, rate) for name, part in groups.items()},
        "intra_rater_agreement": _repeat_agreement(screened),
    }
    first = protocol.aspects[0].name
    leading = result["groups"][ALL_LISTENERS].get(first, {}).get("conditions", [])
    strengths = {c["name"]: v for c in leading if (v := c["strength"]["value"]) is not None}
    result["rank_correlation"] = rank_correlation(strengths, scores or {})
    return result


def _by_aspect(rows: Sequence[VoteRow], protocol: Protocol, rate: Any) -> dict[str, Any]:
    ratings = {}
    for name in (aspect.name for aspect in protocol.aspects):
        if selected := [row for row in rows if row["aspect"] == name]:
            ratings[name] = rate(selected, protocol) | _warning(_num_listeners(selected))
    return ratings


def _pairwise(rows: Sequence[VoteRow], protocol: Protocol) -> dict[str, Any]:
    """One aspect of one group: the ordinal Bradley-Terry model over listeners."""
    names, condition_index = protocol.names, {name: i for i, name in enumerate(protocol.names)}
    answered = [r for r in rows if r["answer"] is not None]
    listener_index = {key: i for i, key in enumerate(sorted({(r["site"], r["listener"]) for r in answered}))}
    answers, signed = [], []  # signed as if the earlier condition came first
    for r in answered:
        listener = listener_index[r["site"], r["listener"]]
        i, j = condition_index[r["first"]], condition_index[r["second"]]
        answers.append((listener, i, j, r["answer"]))
        signed.append((listener, (r["item"], min(i, j), max(i, j)), r["answer"] if i < j else -r["answer"]))
    table = bradley_terry.count_answers(answers, len(listener_index), len(names))
    pairs = bradley_terry.all_pairs(len(names))
    fit = bradley_terry.fit_bradley_terry(table.sum(axis=0, keepdims=True), pairs, len(names))
    without_one = None
    if len(listener_index) >= MIN_LISTENERS:
        without_one = bradley_terry.leave_one_out_fits(table, pairs, len(names), fit)
    strengths = _intervals(fit.strengths[0], without_one.strengths if without_one else None)
    counts = table.sum(axis=(0, 2))
    for place in np.flatnonzero(~bradley_terry.largest_compared(pairs[counts > 0], len(names))):
        strengths[place] = dict(_UNRATED)  # what the prior says of them is no rating
    preferences = _pair_logits(fit, pairs)
    shifted = None if without_one is None else _pair_logits(without_one, pairs)
    decided = [r["answer"] for r in answered if r["answer"] != 0]
    return {
        "listeners": len(listener_index),
        "answers": len(answered),
        "cannot_say": len(rows) - len(answered),
        "no_difference": sum(r["answer"] == 0 for r in answered),
        "first_side_fraction": float(np.mean([a > 0 for a in decided])) if decided else None,
        "conditions": [{"name": name, "strength": strengths[i]} for i, name in enumerate(names)],
        "pairs": [
            row | {"answers": int(count), "preference": {k: _probability(v) for k, v in row.pop("interval").items()}}
            for row, count in zip(_compared(names, preferences[0], shifted, counts > 0), counts, strict=True)
        ],
        "cut_points": fit.cuts[0].tolist(),
        "alpha": krippendorff_alpha(rating_matrix(signed), "ordinal"),
    }


def _pair_logits(fit: BradleyTerryFit, pairs: np.ndarray) -> np.ndarray:
    """Logits [B, P] of the probability that the first of each pair is preferred, no difference counted half."""
    gap = fit.strengths[:, pairs[:, 0]] - fit.strengths[:, pairs[:, 1]]
    p = bradley_terry.preference_probability(gap, fit.cuts[:, None, :])
    return np.log(p / (1 - p))


def _probability(logit: float | None) -> float | None:
    return None if logit is None else float(1 / (1 + np.exp(-logit)))


def _compared(
    names: Sequence[str], values: np.ndarray, without_one: np.ndarray | None, rated: np.ndarray
) -> list[dict[str, Any]]:
    """Every pair of conditions by its value [P], 0 for no difference: "interval", "p" adjusted for the number of pairs
    (Holm), and whether it is "significant" at 5 %; None if `without_one` [G, P] is None or it is not `rated` [P].
    """
    known = values[rated], None if without_one is None else without_one[:, rated]
    intervals = iter(_intervals(*known))
    adjusted: list[float | None] = [None] * len(known[0])
    if known[1] is not None and len(adjusted):
        adjusted = [*holm_adjusted(bradley_terry.jackknife_p_values(known[0], known[1]).tolist())]
    p_values, rows = iter(adjusted), []
    for (i, j), known_pair in zip(bradley_terry.all_pairs(len(names)).tolist(), rated, strict=True):
        interval, p = (next(intervals), next(p_values)) if known_pair else (dict(_UNRATED), None)
        row = {"first": names[i], "second": names[j], "interval": interval, "p": p}
        rows.append(row | {"significant": None if p is None else p < LEVEL})
    return rows


def _mushra(rows: Sequence[VoteRow], protocol: Protocol) -> dict[str, Any]:
    """One aspect of one group: means over listeners of each listener's mean rating per condition."""
    names = [*protocol.names, *([ANCHOR] if protocol.anchor else [])]
    scores: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["condition"] != LOW_QUALITY_ANCHOR:
            scores[row["site"], row["listener"]][row["condition"]].append(row["score"])
    per_listener = np.array([[np.mean(own[name] or [np.nan]) for name in names] for _, own in sorted(scores.items())])
    per_listener = per_listener[~np.isnan(per_listener).any(axis=1)]
    count = len(per_listener)
    mean = per_listener.mean(axis=0) if count else np.full(len(names), np.nan)
    without_one = (per_listener.sum(axis=0) - per_listener) / (count - 1) if count >= MIN_LISTENERS else None
    strengths = _intervals(mean, without_one, SCALE)
    rated = [((r["site"], r["listener"]), (r["item"], r["condition"]), r["score"]) for r in rows]
    reference = names.index(str(protocol.reference))
    shifted = None if without_one is None else without_one - without_one[:, [reference]]
    differences = _intervals(mean - mean[reference], shifted)
    first, second = bradley_terry.all_pairs(len(names)).T
    apart = None if without_one is None else without_one[:, first] - without_one[:, second]
    compared = _compared(names, mean[first] - mean[second], apart, np.full(len(first), count > 0))
    return {
        "listeners": count,
        "answers": len(rows),
        "conditions": [
            {"name": name, "strength": strengths[i], "to_reference": differences[i]} for i, name in enumerate(names)
        ],
        "pairs": [row | {"difference": row.pop("interval")} for row in compared],
        "alpha": krippendorff_alpha(rating_matrix(rated), "interval"),
    }


def _intervals(
    values: np.ndarray, without_one: np.ndarray | None, bounds: tuple[float, float] = (-np.inf, np.inf)
) -> list[dict[str, float | None]]:
    """Each value [K], None for NaN, with the ends of its jackknife interval; None if `without_one` [G, K] is None.

    `bounds` are the least and the greatest value.
    """
    ends = np.full((2, len(values)), np.nan)
    if without_one is not None:
        ends = np.clip(bradley_terry.jackknife_interval(values, without_one), *bounds)
    return [
        {name: None if np.isnan(v) else round(float(v), DIGITS) for name, v in zip(_UNRATED, row, strict=True)}
        for row in zip(values, *ends, strict=True)
    ]


def _repeat_agreement(screened: ExclusionResult) -> dict[str, Any]:
    pairs = [(a["answer"], b["answer"]) for a, b in screened.repeats if None not in (a["answer"], b["answer"])]
    first, repeated = np.array(pairs, dtype=float).reshape(-1, 2).T
    return intra_rater_agreement(first, repeated)


def _num_listeners(rows: Sequence[VoteRow]) -> int:
    return len({(row["site"], row["listener"]) for row in rows})


def _warning(listeners: int) -> dict[str, Any]:
    """{"warning", "warning_texts"}: of too few listeners, in English and by language; None where they are enough."""
    if listeners >= ENOUGH_LISTENERS:
        return {"warning": None, "warning_texts": None}
    key = "listening_no_interval" if listeners < MIN_LISTENERS else "listening_few"
    who = counted(listeners, "listener")
    texts = in_languages(key, listeners=who, least=MIN_LISTENERS, enough=ENOUGH_LISTENERS)
    return {"warning": texts["en"], "warning_texts": texts}
