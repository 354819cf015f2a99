"""The planner: how many listeners are needed to see a given preference, when a listener's votes hang together."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from talim.errors import UsageError

MAX_LISTENERS = 2000
NUM_SIMULATIONS = 4000


@dataclass(frozen=True)
class PowerTarget:
    """What is to be seen: a share of listeners' votes for the better of two conditions, 0.5 to 1."""

    preference: float
    votes: int = 4  # of one listener on one pair, cannot say and ties left out
    clustering: float = 0.1  # intraclass correlation: 0 independent votes, 1 a listener always says the same
    power: float = 0.8
    level: float = 0.05

    def __post_init__(self) -> None:
        if not 0.5 < self.preference < 1:
            raise UsageError(
                f"the preference is {self.preference:g}; give a share between 0.5 and 1, such as 0.65"
            )
        if self.votes < 1 or not 0 <= self.clustering < 1 or not 0 < self.power < 1 or not 0 < self.level < 1:
            raise UsageError("votes must be 1 or more; clustering, power and level lie between 0 and 1")


def simulated_power(
    wanted: PowerTarget, listeners: int, rng: np.random.Generator, studies: int = NUM_SIMULATIONS
) -> float:
    """Share of simulated studies that see the preference: a two-sided t-test on listeners' own shares.

    Listeners' preferences are Beta distributed around the wanted one with the wanted clustering, their votes
    binomial. Votes of one listener are never counted as so many people.
    """
    if listeners < 2:
        return 0.0
    shape = (studies, listeners)
    own = np.full(shape, wanted.preference)
    if wanted.clustering > 0:
        weight = 1 / wanted.clustering - 1
        own = rng.beta(wanted.preference * weight, (1 - wanted.preference) * weight, shape)
    shares = rng.binomial(wanted.votes, own) / wanted.votes
    mean, spread = shares.mean(axis=1) - 0.5, shares.std(axis=1, ddof=1)
    # Listeners who all answered alike still leave the doubt of one vote among all of theirs.
    least = np.sqrt(0.25 / (wanted.votes * listeners)) / np.sqrt(wanted.votes * listeners)
    t = mean / np.maximum(spread / np.sqrt(listeners), least)
    return float(np.mean(np.abs(t) > stats.t.ppf(1 - wanted.level / 2, listeners - 1)))


def listeners_needed(wanted: PowerTarget, seed: int = 0) -> dict[str, Any]:
    """The least number of listeners that reaches the power, with the power there and a check by formula.

    UsageError where more than 2000 would be needed.
    """

    def reaches(listeners: int) -> bool:
        return simulated_power(wanted, listeners, np.random.default_rng([seed, listeners])) >= wanted.power

    low, high = 1, 8
    while not reaches(high):
        low, high = high, high * 2
        if high > MAX_LISTENERS:
            raise UsageError(
                f"more than {MAX_LISTENERS} listeners would be needed; give each of them more votes"
            )
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if reaches(middle) else (middle, high)
    return {
        "listeners": high,
        "power": simulated_power(wanted, high, np.random.default_rng([seed, high])),
        "by_formula": listeners_by_formula(wanted),
        "preference": wanted.preference,
        "votes_per_listener_and_pair": wanted.votes,
        "clustering": wanted.clustering,
        "level": wanted.level,
    }


def listeners_by_formula(wanted: PowerTarget) -> int:
    """Listeners by the normal approximation with the design effect 1 + (m - 1) rho (Kish)."""
    p = wanted.preference
    z_level, z_power = stats.norm.ppf(1 - wanted.level / 2), stats.norm.ppf(wanted.power)
    votes = ((z_level * 0.5 + z_power * np.sqrt(p * (1 - p))) / (p - 0.5)) ** 2
    return int(np.ceil(votes * (1 + (wanted.votes - 1) * wanted.clustering) / wanted.votes))
