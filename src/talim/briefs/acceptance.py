"""What reviews and costs say of a design: rates with intervals, the way to the first accepted, cost per minute."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy import stats

from talim.briefs.brief import Brief
from talim.listening.agreement import krippendorff_alpha

IntervalEstimate = dict[str, float | None]
LONGEST_REVIEW_SECONDS = 600.0  # beyond it the reviewer was away
_STEPS = {"reject": 0, "edit": 1, "accept": 2}


def proportion(count: int, of: int) -> IntervalEstimate:
    """A share with its 95 % interval: Jeffreys' (beta with half an observation on each side); Brown et al. 2001."""
    if of == 0:
        return {"value": None, "low": None, "high": None}
    low = 0.0 if count == 0 else float(stats.beta.ppf(0.025, count + 0.5, of - count + 0.5))
    high = 1.0 if count == of else float(stats.beta.ppf(0.975, count + 0.5, of - count + 0.5))
    return {"value": count / of, "low": low, "high": high}


def cost_per_unit(amount: float, rate: IntervalEstimate) -> IntervalEstimate:
    """An amount over a rate, with the rate's interval turned round; no upper end where the rate may be 0."""
    value, low, high = rate["value"], rate["low"], rate["high"]
    if value is None or low is None or high is None:
        return {"value": None, "low": None, "high": None}
    return {
        "value": amount / value if value > 0 else None,
        "low": amount / high,
        "high": amount / low if low > 0 else None,
    }


def combined_verdict(said: Sequence[str], accepted_by: Literal["majority", "all", "any"]) -> str:
    """What reviewers together say of a candidate: accept, edit (usable after editing) or reject."""

    def enough(count: int) -> bool:
        needed = {"majority": len(said) // 2 + 1, "all": len(said), "any": 1}[accepted_by]
        return count >= needed

    if enough(sum(one == "accept" for one in said)):
        return "accept"
    return "edit" if enough(sum(one != "reject" for one in said)) else "reject"


def combined_verdicts(reviews: Sequence[Mapping[str, Any]], brief: Brief) -> dict[str, str]:
    """The verdict on each reviewed candidate."""
    said: dict[str, list[str]] = defaultdict(list)
    for row in reviews:
        said[row["candidate"]].append(row["verdict"])
    return {name: combined_verdict(mine, brief.accepted_by) for name, mine in said.items()}


def reviewer_agreement(reviews: Sequence[Mapping[str, Any]]) -> float | None:
    """Krippendorff's alpha (ordinal) between reviewers; None for one reviewer, or where all say the same."""
    people = sorted({row["reviewer"] for row in reviews})
    names = sorted({row["candidate"] for row in reviews})
    values = np.full((len(people), len(names)), np.nan)
    for row in reviews:
        values[people.index(row["reviewer"]), names.index(row["candidate"])] = _STEPS[row["verdict"]]
    return krippendorff_alpha(values, "ordinal") if len(people) > 1 else None


@dataclass(frozen=True)
class EffortRecord:
    """Hours of one design: training, making its candidates, reviewing them."""

    training_hours: float | None
    making_hours: float
    review_hours: float

    def costs(self, brief: Brief) -> dict[str, float | None]:
        """The same in money; None where an hour has no price, or the training's length is not known."""
        machine, person = brief.prices.machine_hour, brief.prices.person_hour
        return {
            "training": _priced_hours(self.training_hours, machine),
            "making": _priced_hours(self.making_hours, machine),
            "review": _priced_hours(self.review_hours, person),
        }


def measure_contender(
    rows: Sequence[Mapping[str, Any]],
    reviews: Sequence[Mapping[str, Any]],
    told: Mapping[str, Any],
    brief: Brief,
) -> dict[str, Any]:
    """Everything measured of one design: `rows` its candidates, `reviews` those of them, `told` its run."""
    mine = {row["id"]: row for row in rows}
    verdicts = {name: one for name, one in combined_verdicts(reviews, brief).items() if name in mine}
    counts = Counter(verdicts.values())
    seconds: dict[str, float] = defaultdict(float)
    for row in reviews:
        seconds[row["candidate"]] += min(row["seconds"], LONGEST_REVIEW_SECONDS)
    reviewed = [mine[name] for name in verdicts]
    wall = (told.get("cost") or {}).get("wall_seconds")
    making = sum(row["making_seconds"] for row in reviewed)
    spent = EffortRecord(
        None if wall is None else wall / 3600, making / 3600, sum(seconds[n] for n in verdicts) / 3600
    )
    accepted = proportion(counts["accept"], len(verdicts))
    minutes = brief.seconds / 60
    return {
        "name": rows[0]["design"],
        "run": told.get("run"),
        "candidates": len(rows),
        "reviewed": len(verdicts),
        "accepted": counts["accept"],
        "needs_editing": counts["edit"],
        "rejected": counts["reject"],
        "acceptance": accepted,
        "acceptance_with_editing": proportion(counts["accept"] + counts["edit"], len(verdicts)),
        "candidates_per_accepted": cost_per_unit(1.0, accepted),
        "first_accepted": time_to_first_accepted(rows, verdicts, seconds),
        "hours": {
            "training": spent.training_hours,
            "making": spent.making_hours,
            "review": spent.review_hours,
        },
        **compute_costs(spent, brief, len(verdicts), accepted, minutes),
        "reasons": dict(Counter(reason for row in reviews for reason in row["reasons"]).most_common()),
        "checks": check_counts(rows),
    }


def compute_costs(
    spent: EffortRecord, brief: Brief, reviewed: int, accepted: IntervalEstimate, minutes: float
) -> dict[str, Any]:
    """Costs, and what an accepted minute and piece cost, training included and (`further`) without it."""
    costs = spent.costs(brief)
    # Without a price for the machine no sum is told: one of reviewing alone would look like the whole.
    known = costs["making"] is not None and costs["training"] is not None
    running = (costs["making"] or 0.0) + (costs["review"] or 0.0)
    whole = running + (costs["training"] or 0.0)
    nothing: IntervalEstimate = {"value": None, "low": None, "high": None}
    each = cost_per_unit(whole / reviewed, accepted) if known and reviewed else nothing
    further = cost_per_unit(running / reviewed, accepted) if known and reviewed else nothing
    return {
        "costs": costs | {"total": whole if known else None},
        "cost_per_accepted_piece": each,
        "cost_per_accepted_minute": _over_minutes(each, minutes),
        "cost_per_further_minute": _over_minutes(further, minutes),
    }


def time_to_first_accepted(
    rows: Sequence[Mapping[str, Any]], verdicts: Mapping[str, str], seconds: Mapping[str, float]
) -> dict[str, Any] | None:
    """How many candidates, in the order of their making, and how long it took to the first accepted one."""
    making = review = 0.0
    for count, row in enumerate(sorted(rows, key=lambda row: row["number"]), start=1):
        making += row["making_seconds"]
        review += seconds.get(row["id"], 0.0)
        if verdicts.get(row["id"]) == "accept":
            return {"candidates": count, "making_seconds": making, "review_seconds": review, "id": row["id"]}
    return None


def check_counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    """How many candidates passed, failed, or were not put to each check."""
    found: dict[str, dict[str, int]] = {}
    words = {True: "passed", False: "failed", None: "not_checked"}
    for row in rows:
        for check in row["checks"]:
            mine = found.setdefault(check["name"], dict.fromkeys(words.values(), 0))
            mine[words[check["passed"]]] += 1
    return found


def mean_ci(values: Sequence[float]) -> IntervalEstimate:
    """A mean with Student's 95 % interval; no ends for fewer than two values."""
    if not values:
        return {"value": None, "low": None, "high": None}
    middle = float(np.mean(values))
    if len(values) < 2:
        return {"value": middle, "low": None, "high": None}
    reach = float(stats.t.ppf(0.975, len(values) - 1) * np.std(values, ddof=1) / math.sqrt(len(values)))
    return {"value": middle, "low": middle - reach, "high": middle + reach}


def mean_difference_ci(new: Sequence[float], today: Sequence[float]) -> IntervalEstimate:
    """Mean of `new` minus mean of `today`, with Welch's 95 % interval; no ends for fewer than two of either."""
    if not new or not today:
        return {"value": None, "low": None, "high": None}
    middle = float(np.mean(new) - np.mean(today))
    if min(len(new), len(today)) < 2:
        return {"value": middle, "low": None, "high": None}
    if np.std(new) == 0 and np.std(today) == 0:
        return {"value": middle, "low": middle, "high": middle}
    ends = stats.ttest_ind(new, today, equal_var=False).confidence_interval(0.95)
    return {"value": middle, "low": float(ends.low), "high": float(ends.high)}


def _priced_hours(hours: float | None, price: float | None) -> float | None:
    return None if hours is None or price is None else hours * price


def _over_minutes(cost: IntervalEstimate, minutes: float) -> IntervalEstimate:
    return {name: None if value is None else value / minutes for name, value in cost.items()}
