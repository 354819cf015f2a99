"""Acceptance rates with intervals, time to the first accepted candidate, and cost per accepted minute."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from scipy import stats

from talim.briefs.brief import Brief
from talim.listening.agreement import krippendorff_alpha, rating_matrix

IntervalEstimate = dict[str, float | None]
LONGEST_REVIEW_SECONDS = 600.0  # longer reviews count as this: the reviewer was away
# before the first candidate, by their names in contenders.json; "proof" is the rest of a proof of concept
ONCE = {"training": "wall", "evaluation": "evaluation", "proof": "rest"}
_STEPS = {"reject": 0, "edit": 1, "accept": 2}


def _estimate(value: float | None = None, low: float | None = None, high: float | None = None) -> IntervalEstimate:
    return {"value": value, "low": low, "high": high}


def proportion(count: int, of: int) -> IntervalEstimate:
    """A proportion with its 95 % Jeffreys interval (Brown, Cai and DasGupta 2001)."""
    if of == 0:
        return _estimate()
    low = 0.0 if count == 0 else float(stats.beta.ppf(0.025, count + 0.5, of - count + 0.5))
    high = 1.0 if count == of else float(stats.beta.ppf(0.975, count + 0.5, of - count + 0.5))
    return _estimate(count / of, low, high)


def candidates_needed(bound: float | None) -> int:
    """The least number of candidates that decides: by the interval all accepted lie above `bound`, and none below it.

    Without a bound on the share that is accepted: the least with which no interval of that share is wider than a half.
    """
    count = 1
    while not (_decides(count, bound) if bound else _is_narrow(count)):
        count += 1
    return count


def _decides(count: int, bound: float) -> bool:
    most, none = proportion(count, count), proportion(0, count)
    return (bound >= 1 or (most["low"] or 0.0) >= bound) and (none["high"] or 1.0) < bound


def _is_narrow(count: int) -> bool:
    half = proportion(count // 2, count)
    return (half["high"] or 1.0) - (half["low"] or 0.0) <= 0.5


def cost_per_unit(amount: float, rate: IntervalEstimate) -> IntervalEstimate:
    """`amount` divided by `rate`, with the inverted interval; the upper end is None if the rate may be 0."""
    inverse = {name: amount / end if end else None for name, end in rate.items()}
    return _estimate(inverse["value"], inverse["high"], inverse["low"])


def combined_verdict(verdicts: Sequence[str], accepted_by: Literal["majority", "all", "any"]) -> str:
    """The joint verdict of all reviewers of a candidate: accept, edit (usable after editing) or reject."""
    required = {"majority": len(verdicts) // 2 + 1, "all": len(verdicts), "any": 1}[accepted_by]
    if verdicts.count("accept") >= required:
        return "accept"
    return "edit" if len(verdicts) - verdicts.count("reject") >= required else "reject"


def combined_verdicts(reviews: Sequence[Mapping[str, Any]], brief: Brief) -> dict[str, str]:
    """The joint verdict on each reviewed candidate."""
    by_candidate: dict[str, list[str]] = defaultdict(list)
    for row in reviews:
        by_candidate[row["candidate"]].append(row["verdict"])
    return {name: combined_verdict(verdicts, brief.accepted_by) for name, verdicts in by_candidate.items()}


def reviewer_agreement(reviews: Sequence[Mapping[str, Any]]) -> float | None:
    """Krippendorff's alpha (ordinal) between reviewers; None for one reviewer, or if all verdicts are equal."""
    values = rating_matrix((row["reviewer"], row["candidate"], _STEPS[row["verdict"]]) for row in reviews)
    return krippendorff_alpha(values, "ordinal") if len(values) > 1 else None


def measure_contender(
    rows: Sequence[Mapping[str, Any]], reviews: Sequence[Mapping[str, Any]], facts: Mapping[str, Any], brief: Brief
) -> dict[str, Any]:
    """All results of one contender from its candidates, their reviews and the facts of its run."""
    by_id = {row["id"]: row for row in rows}
    verdicts = {name: verdict for name, verdict in combined_verdicts(reviews, brief).items() if name in by_id}
    counts = Counter(verdicts.values())
    review_seconds: dict[str, float] = defaultdict(float)
    for row in reviews:
        review_seconds[row["candidate"]] += min(row["seconds"], LONGEST_REVIEW_SECONDS)
    cost = facts.get("cost") or {}
    once = {name: cost.get(f"{key}_seconds") for name, key in ONCE.items()}
    hours = {
        **{name: None if seconds is None else seconds / 3600 for name, seconds in once.items()},
        "generation": sum(by_id[name]["generation_seconds"] for name in verdicts) / 3600,
        "review": sum(review_seconds[name] for name in verdicts) / 3600,
    }
    accepted = proportion(counts["accept"], len(verdicts))
    return {
        "name": rows[0]["contender"],
        "run": facts.get("run"),
        "candidates": len(rows),
        "reviewed": len(verdicts),
        "accepted": counts["accept"],
        "needs_editing": counts["edit"],
        "rejected": counts["reject"],
        "acceptance": accepted,
        "acceptance_with_editing": proportion(counts["accept"] + counts["edit"], len(verdicts)),
        "candidates_per_accepted": cost_per_unit(1.0, accepted),
        "first_accepted": time_to_first_accepted(rows, verdicts, review_seconds),
        "hours": hours,
        **compute_costs(hours, brief, len(verdicts), accepted),
        "reasons": dict(Counter(reason for row in reviews for reason in row["reasons"]).most_common()),
        "checks": check_counts(rows),
    }


def compute_costs(
    hours: Mapping[str, float | None], brief: Brief, reviewed: int, accepted: IntervalEstimate
) -> dict[str, Any]:
    """Costs of the hours of each kind of work, None without a price or a known time; and costs per accepted piece and
    minute, including the work before the first candidate and (`further`) without it.
    """
    prices = dict.fromkeys(hours, brief.prices.machine_hour) | {"review": brief.prices.person_hour}
    costs = {k: None if h is None or (price := prices[k]) is None else h * price for k, h in hours.items()}
    # Without a price for machine hours there is no total: the cost of reviews alone would be misleading.
    priced = costs["generation"] is not None and costs["training"] is not None
    running = (costs["generation"] or 0.0) + (costs["review"] or 0.0)
    total = running + sum(costs[name] or 0.0 for name in ONCE)
    per_piece = cost_per_unit(total / reviewed, accepted) if priced and reviewed else _estimate()
    further = cost_per_unit(running / reviewed, accepted) if priced and reviewed else _estimate()
    return {
        "costs": costs | {"total": total if priced else None},
        "cost_per_accepted_piece": per_piece,
        "cost_per_accepted_minute": _per_minute(per_piece, brief),
        "cost_per_further_minute": _per_minute(further, brief),
    }


def time_to_first_accepted(
    rows: Sequence[Mapping[str, Any]], verdicts: Mapping[str, str], review_seconds: Mapping[str, float]
) -> dict[str, Any] | None:
    """Number of candidates in order of generation, and seconds, up to the first accepted one; None without one."""
    generation = review = 0.0
    for count, row in enumerate(sorted(rows, key=lambda row: row["number"]), start=1):
        generation += row["generation_seconds"]
        review += review_seconds.get(row["id"], 0.0)
        if verdicts.get(row["id"]) == "accept":
            shared = {"candidates": count, "id": row["id"]}
            return shared | {"generation_seconds": generation, "review_seconds": review}
    return None


def none_failed(rows: Sequence[Mapping[str, Any]]) -> int:
    """Number of candidates that failed no check that could be made."""
    return sum(all(check["passed"] is not False for check in row["checks"]) for row in rows)


def check_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """Numbers of candidates that passed, failed or were not checked, by check."""
    counts: dict[str, dict[str, int]] = {}
    labels = {True: "passed", False: "failed", None: "not_checked"}
    for row in rows:
        for check in row["checks"]:
            by_label = counts.setdefault(check["name"], dict.fromkeys(labels.values(), 0))
            by_label[labels[check["passed"]]] += 1
    return counts


def mean_ci(values: Sequence[float]) -> IntervalEstimate:
    """A mean with Student's 95 % interval; the ends are None for fewer than two values."""
    if len(values) < 2:
        return _estimate(float(values[0]) if values else None)
    mean = float(np.mean(values))
    reach = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return _estimate(mean, mean - reach, mean + reach)


def mean_difference_ci(new: Sequence[float], current: Sequence[float]) -> IntervalEstimate:
    """Mean of `new` minus mean of `current`, with Welch's 95 % interval; no ends for fewer than two of either."""
    if not new or not current:
        return _estimate()
    difference = float(np.mean(new) - np.mean(current))
    if min(len(new), len(current)) < 2:
        return _estimate(difference)
    if np.std(new) == 0 and np.std(current) == 0:
        return _estimate(difference, difference, difference)
    ends = stats.ttest_ind(new, current, equal_var=False).confidence_interval(0.95)
    return _estimate(difference, float(ends.low), float(ends.high))


def _per_minute(per_piece: IntervalEstimate, brief: Brief) -> IntervalEstimate:
    return {name: None if value is None else value / (brief.seconds / 60) for name, value in per_piece.items()}
