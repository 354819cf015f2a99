"""Power analysis: the number of listeners needed to detect a preference rate with correlated votes per listener."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from talim.errors import UsageError
from talim.reporting.human_ratings import MIN_LISTENERS

MAX_LISTENERS = 2000
NUM_SIMULATIONS = 4000
MIN_ICC = 1e-9  # votes with less correlation count as independent: the Beta distribution's parameters would overflow


@dataclass(frozen=True)
class PowerTarget:
    """The preference rate to detect: the fraction of votes for the better of two conditions, 0.5 to 1."""

    preference: float
    votes: int = 4  # of one listener on one pair, without "cannot say" and ties
    icc: float = 0.1  # intraclass correlation: 0 independent votes, 1 a listener always votes the same
    power: float = 0.8
    level: float = 0.05

    def __post_init__(self) -> None:
        if not 0.5 < self.preference < 1:
            raise UsageError(
                f"the preference rate is {self.preference:g}; it must lie between 0.5 and 1, for example 0.65"
            )
        if self.votes < 1 or not 0 <= self.icc < 1 or not 0 < self.power < 1 or not 0 < self.level < 1:
            raise UsageError("votes must be 1 or more; icc, power and level must lie between 0 and 1")


def simulated_power(
    target: PowerTarget, listeners: int, rng: np.random.Generator, studies: int = NUM_SIMULATIONS
) -> float:
    """Fraction of simulated tests that detect the preference: a two-sided t-test over listeners' vote fractions.

    Preference rates of listeners are Beta distributed with the target's mean and intraclass correlation, their votes
    binomial.
    """
    if listeners < 2:
        return 0.0
    shape = (studies, listeners)
    rates = np.full(shape, target.preference)
    if target.icc > MIN_ICC:
        weight = 1 / target.icc - 1
        rates = rng.beta(target.preference * weight, (1 - target.preference) * weight, shape)
    fractions = rng.binomial(target.votes, rates) / target.votes
    mean, sd = fractions.mean(axis=1) - 0.5, fractions.std(axis=1, ddof=1)
    # If all listeners answer alike, the standard error is that of one vote among all.
    least = np.sqrt(0.25 / (target.votes * listeners)) / np.sqrt(target.votes * listeners)
    t = mean / np.maximum(sd / np.sqrt(listeners), least)
    return float(np.mean(np.abs(t) > stats.t.ppf(1 - target.level / 2, listeners - 1)))


def listeners_needed(target: PowerTarget, seed: int = 0) -> dict[str, Any]:
    """The smallest number of listeners that reaches the power, its simulated power, and the number by formula.

    It is MIN_LISTENERS or more, as fewer have no interval.

    UsageError if more than 2000 would be needed.
    """

    def reaches(listeners: int) -> bool:
        return simulated_power(target, listeners, np.random.default_rng([seed, listeners])) >= target.power

    low, high = MIN_LISTENERS - 1, 8
    while not reaches(high):
        low, high = high, high * 2
        if high > MAX_LISTENERS:
            raise UsageError(f"more than {MAX_LISTENERS} listeners would be needed; plan more votes per listener")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return {
        "listeners": high,
        "power": simulated_power(target, high, np.random.default_rng([seed, high])),
        "by_formula": listeners_by_formula(target),
        "preference": target.preference,
        "votes_per_listener_and_pair": target.votes,
        "icc": target.icc,
        "level": target.level,
    }


def listeners_by_formula(target: PowerTarget) -> int:
    """Listeners by the normal approximation with Kish's design effect 1 + (votes - 1) icc."""
    p = target.preference
    z_level, z_power = stats.norm.ppf(1 - target.level / 2), stats.norm.ppf(target.power)
    votes = ((z_level * 0.5 + z_power * np.sqrt(p * (1 - p))) / (p - 0.5)) ** 2
    return int(np.ceil(votes * (1 + (target.votes - 1) * target.icc) / target.votes))
