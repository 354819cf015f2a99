"""Simulated listening studies with known strengths, ties and listeners who differ: do the intervals hold?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from talim.listening import bradley_terry as s


@dataclass(frozen=True)
class SimulatedPopulation:
    """The truth of a simulated study. `spread`: standard deviation of listeners' own strengths, in logits."""

    strengths: tuple[float, ...] = (1.0, 0.4, 0.0, -0.8)
    cuts: tuple[float, ...] = (0.5, 1.8)
    spread: float = 0.7
    votes_per_pair: int = 4


def answer_probabilities(world: SimulatedPopulation, gap: np.ndarray) -> np.ndarray:
    """Chance of each step [..., C] for gaps in strength [...]."""
    cuts = np.array(world.cuts)
    bounds = np.concatenate([-cuts[::-1], cuts])
    below = 1 / (1 + np.exp(-(bounds - gap[..., None])))
    edge = np.zeros((*gap.shape, 1))
    return np.diff(below, axis=-1, prepend=edge, append=edge + 1)


def true_strengths(world: SimulatedPopulation) -> np.ndarray:
    """The strengths [K] that a study of endlessly many listeners would find.

    Averaged over listeners, gaps are a little smaller than in any one listener (logits do not average), so this is
    what an interval must cover. Integrated by Gauss and Hermite.
    """
    pairs = s.all_pairs(len(world.strengths))
    nodes, weights = np.polynomial.hermite_e.hermegauss(41)
    gap = np.diff(np.array(world.strengths)[pairs], axis=1)[:, 0] * -1  # first minus second, [P]
    spread = world.spread * np.sqrt(2)
    mixed = answer_probabilities(world, gap[:, None] + spread * nodes)  # [P, N, C]
    expected = np.einsum("pnc,n->pc", mixed, weights / weights.sum())
    return s.fit_bradley_terry(1e6 * expected[None], pairs, len(world.strengths)).strengths[0]


def simulate_study(world: SimulatedPopulation, listeners: int, rng: np.random.Generator) -> np.ndarray:
    """Counts [G, P, C] of one study: every listener judges every pair as often."""
    pairs = s.all_pairs(len(world.strengths))
    own = np.array(world.strengths) + world.spread * rng.standard_normal((listeners, len(world.strengths)))
    gap = own[:, pairs[:, 0]] - own[:, pairs[:, 1]]
    return rng.multinomial(world.votes_per_pair, answer_probabilities(world, gap)).astype(float)


def coverage(
    world: SimulatedPopulation, listeners: int, studies: int, resamples: int = 1000, seed: int = 0
) -> dict[str, float]:
    """Share of intervals, over studies and over gaps to the last condition, that cover the truth.

    percentile and expanded resample listeners, jackknife leaves out one at a time, votes resamples votes as if each
    were another person.
    """
    pairs, count = s.all_pairs(len(world.strengths)), len(world.strengths)
    known = true_strengths(world)
    known = known[:-1] - known[-1]
    hits: dict[str, int] = {}
    for number in range(studies):
        rng = np.random.default_rng([seed, listeners, number])
        table = simulate_study(world, listeners, rng)
        whole, boot = s.bootstrap_fits(table, pairs, count, resamples, rng)
        gaps = boot.strengths[:, :-1] - boot.strengths[:, -1:]
        alone = s.leave_one_out_fits(table, pairs, count, whole).strengths
        estimate = whole.strengths[0, :-1] - whole.strengths[0, -1]
        votes = vote_resamples(table, pairs, count, resamples, rng).strengths
        found = {
            "percentile": s.percentile_interval(gaps),
            "expanded": s.expanded_percentile_interval(gaps, listeners),
            "jackknife": s.jackknife_interval(estimate, alone[:, :-1] - alone[:, -1:]),
            "votes": s.percentile_interval(votes[:, :-1] - votes[:, -1:]),
        }
        for name, (low, high) in found.items():
            hits[name] = hits.get(name, 0) + int(((low <= known) & (known <= high)).sum())
    return {name: count / (studies * len(known)) for name, count in hits.items()}


def vote_resamples(
    table: np.ndarray, pairs: np.ndarray, conditions: int, resamples: int, rng: np.random.Generator
) -> s.BradleyTerryFit:
    """Fits to resamples of single votes: what others do, kept to show what it gets wrong."""
    total = table.sum(axis=0)  # [P, C]
    votes = int(total.sum())
    drawn = rng.multinomial(votes, (total / votes).ravel(), size=resamples).reshape(-1, *total.shape)
    return s.fit_bradley_terry(drawn.astype(float), pairs, conditions)
