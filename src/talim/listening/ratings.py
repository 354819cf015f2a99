"""What the votes say: strengths with intervals over listeners, by aspect and group, and how far people agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from talim.errors import TalimError
from talim.listening import bradley_terry as s
from talim.listening.agreement import intra_rater_agreement, krippendorff_alpha, rank_correlation
from talim.listening.assignment import LOW_QUALITY_ANCHOR
from talim.listening.exclusions import ExclusionResult, VoteRow, exclude_listeners
from talim.listening.protocol import ANCHOR, Protocol

MIN_LISTENERS = 6  # listeners under which no interval is given
FEW_LISTENERS = 12  # listeners under which an interval is given with a warning
ALL_LISTENERS = "everybody"


def rate_conditions(
    rows: Sequence[VoteRow], protocol: Protocol, scores: Mapping[str, Mapping[str, float]] | None = None
) -> dict[str, Any]:
    """Ratings of all conditions from exported rows (`export.merge`), as one JSON document.

    `scores` (by metric, then condition) are set against the strengths of the first aspect. TalimError without votes.
    """
    screened = exclude_listeners(rows, protocol)
    if not screened.rows:
        raise TalimError(
            f"no vote counts yet ({screened.listeners} listeners, excluded: {screened.excluded or 'none'})"
        )
    told = [g for g in protocol.groups if any(row["group"] == g for row in screened.rows)]
    groups = {ALL_LISTENERS: screened.rows} | {g: [r for r in screened.rows if r["group"] == g] for g in told}
    judge = _pairwise if protocol.kind == "pairwise" else _mushra
    result: dict[str, Any] = {
        "test": rows[0]["test"],
        "name": protocol.name,
        "kind": protocol.kind,
        "reference": protocol.reference,
        "sites": dict(Counter(site for site, _ in {(r["site"], r["listener"]) for r in rows})),
        "listeners": {"answered": screened.listeners, "counted": _num_listeners(screened.rows)},
        "excluded": screened.excluded,
        "intervals": "95 %, jackknife over listeners with Student's t; a listener's votes are never counted as people",
        "groups": {name: _by_aspect(part, protocol, judge) for name, part in groups.items()},
        "with_themselves": _repeats(screened),
    }
    first = protocol.aspects[0].name
    leading = result["groups"][ALL_LISTENERS].get(first, {}).get("conditions", [])
    result["rank_correlation"] = rank_correlation(
        {c["name"]: c["strength"]["value"] for c in leading}, scores or {}
    )
    return result


def _by_aspect(rows: Sequence[VoteRow], protocol: Protocol, judge: Any) -> dict[str, Any]:
    found = {}
    for aspect in protocol.aspects:
        mine = [row for row in rows if row["aspect"] == aspect.name]
        if mine:
            found[aspect.name] = judge(mine, protocol) | {"warning": _warning(_num_listeners(mine))}
    return found


def _pairwise(rows: Sequence[VoteRow], protocol: Protocol) -> dict[str, Any]:
    """One aspect of one group: the ordinal Bradley-Terry model over listeners."""
    names, place = protocol.names, {name: i for i, name in enumerate(protocol.names)}
    said = [r for r in rows if r["answer"] is not None]
    people = {key: i for i, key in enumerate(sorted({(r["site"], r["listener"]) for r in said}))}
    answers = [
        (people[r["site"], r["listener"]], place[r["first"]], place[r["second"]], r["answer"]) for r in said
    ]
    table, pairs = s.count_answers(answers, len(people), len(names)), s.all_pairs(len(names))
    whole = s.fit_bradley_terry(table.sum(axis=0, keepdims=True), pairs, len(names))
    alone = s.leave_one_out_fits(table, pairs, len(names), whole) if len(people) >= MIN_LISTENERS else None
    own = _interval(whole.strengths[0], alone.strengths if alone else None)
    conditions = [{"name": name, "strength": own[i]} for i, name in enumerate(names)]
    decided = [r["answer"] for r in said if r["answer"] != 0]
    return {
        "listeners": len(people),
        "answers": len(said),
        "cannot_say": len(rows) - len(said),
        "no_difference": sum(r["answer"] == 0 for r in said),
        "for_the_first_side": float(np.mean([a > 0 for a in decided])) if decided else None,
        "conditions": conditions,
        "pairs": [_pair_preference(whole, alone, i, j, names, table) for i, j in pairs.tolist()],
        "cut_points": whole.cuts[0].tolist(),
        "alpha": krippendorff_alpha(_units(said, people, place), "ordinal"),
    }


def _pair_preference(
    whole: s.BradleyTerryFit,
    alone: s.BradleyTerryFit | None,
    i: int,
    j: int,
    names: list[str],
    table: np.ndarray,
) -> dict[str, Any]:
    """How surely one is preferred to the other: the chance, no difference counted half; interval on the logit."""

    def logit(fit: s.BradleyTerryFit) -> np.ndarray:
        share = s.preference_probability(fit.strengths[:, i] - fit.strengths[:, j], fit.cuts)
        return np.log(share / (1 - share))

    found = _interval(logit(whole), logit(alone)[:, None] if alone else None)[0]
    chance = {key: None if v is None else float(1 / (1 + np.exp(-v))) for key, v in found.items()}
    place, low, high = s.all_pairs(len(names)).tolist().index([i, j]), found["low"], found["high"]
    return {
        "first": names[i],
        "second": names[j],
        "preferred": chance,
        "answers": int(table[:, place].sum()),
        "apart": None if low is None or high is None else low > 0 or high < 0,
    }


def _mushra(rows: Sequence[VoteRow], protocol: Protocol) -> dict[str, Any]:
    """One aspect of one group: each listener's mean for each sound, then means over listeners."""
    names = [*protocol.names, *([ANCHOR] if protocol.anchor else [])]
    heard: dict[tuple[str, str], dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        if row["condition"] != LOW_QUALITY_ANCHOR:
            heard[row["site"], row["listener"]][row["condition"]].append(row["score"])
    people = sorted(heard)
    means = np.array(
        [[np.mean(heard[p][name]) if heard[p][name] else np.nan for name in names] for p in people]
    )
    means = means[~np.isnan(means).any(axis=1)]
    sums = means.sum(axis=0)
    alone = (sums - means) / (len(means) - 1) if len(means) >= MIN_LISTENERS else None
    own = _interval(means.mean(axis=0), alone)
    at = names.index(str(protocol.reference))
    gaps = _interval(
        means.mean(axis=0) - means.mean(axis=0)[at], None if alone is None else alone - alone[:, [at]]
    )
    place = {key: i for i, key in enumerate(people)}
    return {
        "listeners": len(means),
        "answers": len(rows),
        "conditions": [
            {"name": name, "strength": own[i], "to_reference": gaps[i]} for i, name in enumerate(names)
        ],
        "alpha": krippendorff_alpha(_rating_matrix(rows, place), "interval"),
    }


def _interval(whole: np.ndarray, alone: np.ndarray | None) -> list[dict[str, float | None]]:
    """Each value [K] with its ends; none for fewer listeners than FEWEST."""
    if alone is None:
        return [{"value": float(v), "low": None, "high": None} for v in whole]
    low, high = s.jackknife_interval(whole, alone)
    return [
        {"value": float(v), "low": float(a), "high": float(b)}
        for v, a, b in zip(whole, low, high, strict=True)
    ]


def _units(said: Sequence[VoteRow], people: Mapping[Any, int], place: Mapping[str, int]) -> np.ndarray:
    """Answers [listeners, item and pair], turned so that the earlier condition is the first; NaN where none."""
    keys = sorted({(r["item"], *sorted((r["first"], r["second"]))) for r in said})
    column = {key: i for i, key in enumerate(keys)}
    values = np.full((len(people), len(keys)), np.nan)
    for r in said:
        key = (r["item"], *sorted((r["first"], r["second"])))
        turned = r["answer"] if place[r["first"]] < place[r["second"]] else -r["answer"]
        values[people[r["site"], r["listener"]], column[key]] = turned
    return values


def _rating_matrix(rows: Sequence[VoteRow], people: Mapping[Any, int]) -> np.ndarray:
    column = {key: i for i, key in enumerate(sorted({(r["item"], r["condition"]) for r in rows}))}
    values = np.full((len(people), len(column)), np.nan)
    for r in rows:
        values[people[r["site"], r["listener"]], column[r["item"], r["condition"]]] = r["score"]
    return values


def _repeats(screened: ExclusionResult) -> dict[str, Any]:
    both = [(a["answer"], b["answer"]) for a, b in screened.repeats if None not in (a["answer"], b["answer"])]
    first, again = np.array(both, dtype=float).reshape(-1, 2).T
    return intra_rater_agreement(first, again)


def _num_listeners(rows: Sequence[VoteRow]) -> int:
    return len({(row["site"], row["listener"]) for row in rows})


def _warning(listeners: int) -> str | None:
    if listeners < MIN_LISTENERS:
        return f"{listeners} listeners: too few for an interval"
    if listeners < FEW_LISTENERS:
        return f"only {listeners} listeners: they hardly stand for others, however narrow the interval"
    return None
