"""How often the cycle that `talim modes --suggest` names is right, and how sure it is, on performed pieces.

    python -m research.validation.suggested_cycles [--fit] [--pieces 120] [--seed 84000]

Pieces of 40 s are drawn by seed as the performer draws them: with or without a drum, and some without a cycle. `--fit`
prints the weights that fit the pieces of seed 82000 on best, and which seeds are used for nothing else.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.optimize import minimize

from talim.audio import Audio
from talim.evaluation.suggested_labels import MIN_CYCLE_CONTRAST, MIN_CYCLE_PROBABILITY, RATE_HZ
from talim.metrics import rhythm
from talim.synthesis.performer import perform
from talim.traditions import cycle_recognition
from talim.traditions.cycle_recognition import WEIGHTS, best_contrast, cycle_logit, fit_features
from talim.traditions.schema import Cycle
from talim.traditions.tradition import load

FIT_SEED = 82_000
SECONDS = 40.0
EDGES = (0.0, 0.1, 0.25, 0.4, 0.6, 1.01)


@dataclass(frozen=True)
class MeteredPiece:
    """A piece's features by cycle, the name of its own cycle ("" for none), and whether a drum plays it."""

    kind: str
    own: str
    features: dict[str, np.ndarray]

    def probabilities(self, weights: np.ndarray, no_cycle: float) -> dict[str, float]:
        """The probability of each cycle, as `recognize_cycle` computes it."""
        names = [name for name, rows in self.features.items() if len(rows)]
        logits = np.array([cycle_logit(self.features[name], weights) for name in names])
        total = np.logaddexp.reduce([*logits, no_cycle])
        return dict(zip(names, np.exp(logits - total), strict=True))


def distinct(cycles: Sequence[Cycle]) -> dict[object, Cycle]:
    """One cycle of each pattern of strokes."""
    return {(cycle.beats, cycle.strokes): cycle for cycle in reversed(cycles) if cycle.strokes}


def metered_pieces(tradition: str, first_seed: int, count: int) -> list[MeteredPiece]:
    """Pieces of consecutive seeds."""
    known = load(tradition)
    patterns = distinct(known.cycles)
    pieces = []
    for seed in range(first_seed, first_seed + count):
        played = perform(seed, tradition, SECONDS)
        assert played.truth is not None
        sound = Audio(np.atleast_2d(played.samples), played.rate_hz).resample(RATE_HZ).samples[0]
        strength, bpm = rhythm.onset_strength(sound, RATE_HZ), rhythm.tempo_bpm(sound, RATE_HZ)
        own = known.cycle(played.truth.cycle) if played.truth.cycle else None
        kind = "no cycle" if own is None else "with a drum" if played.truth.strokes else "without a drum"
        features = {cycle.slug: fit_features(strength, bpm, cycle) for cycle in patterns.values()}
        pieces.append(MeteredPiece(kind, patterns[own.beats, own.strokes].slug if own else "", features))
    return pieces


def fit(pieces: Sequence[MeteredPiece]) -> np.ndarray:
    """The weights and the logit of no cycle under which the pieces' own cycles are most probable."""

    def loss(values: np.ndarray) -> float:
        total = 0.0
        for piece in pieces:
            found = piece.probabilities(values[:-1], float(values[-1]))
            own = found.get(piece.own, max(1e-9, 1 - sum(found.values())))
            total -= float(np.log(max(own, 1e-9)))
        return total / len(pieces) + 1e-5 * float(values[:-1] @ values[:-1])

    return minimize(loss, np.array([*WEIGHTS, cycle_recognition.NO_CYCLE]), method="Powell", options={"maxiter": 30}).x


def report(tradition: str, pieces: Sequence[MeteredPiece]) -> list[tuple[float, bool]]:
    """Print a row for each kind of piece; the probability of each best cycle and whether it is right."""
    patterns, best = len(pieces[0].features), []
    for kind in ("with a drum", "without a drum", "no cycle"):
        chosen = [piece for piece in pieces if piece.kind == kind]
        ranked = [
            sorted(piece.probabilities(WEIGHTS, cycle_recognition.NO_CYCLE).items(), key=lambda pair: -pair[1])
            for piece in chosen
        ]
        names = [[name for name, _ in rows] for rows in ranked]
        first = sum(piece.own in rows[:1] for piece, rows in zip(chosen, names, strict=True))
        third = sum(piece.own in rows[:3] for piece, rows in zip(chosen, names, strict=True))
        sure = [
            (probability, name == piece.own)
            for piece, rows in zip(chosen, ranked, strict=True)
            for name, probability in rows[:1]
            if best_contrast(piece.features[name], WEIGHTS) >= MIN_CYCLE_CONTRAST
        ]
        best += sure
        named = [right for probability, right in sure if probability >= MIN_CYCLE_PROBABILITY]
        common = Counter(piece.own for piece in chosen).most_common(3)
        counts = [sum(count for _, count in common[:size]) if kind != "no cycle" else 0 for size in (1, 3)]
        print(
            f"| {tradition}, {kind} | {len(chosen)} | {first} ({len(chosen) / patterns:.1f}, {counts[0]}) | "
            f"{third} ({3 * len(chosen) / patterns:.1f}, {counts[1]}) | {len(named)} | {sum(named)} |"
        )
    return best


def main() -> None:
    """Print the tables of docs/reports/cycle-fit.md."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--fit", action="store_true")
    parser.add_argument("--pieces", type=int, default=120)
    parser.add_argument("--seed", type=int, default=84_000)
    given = parser.parse_args()
    if given.fit:
        pieces = [one for slug in ("hindustani", "makam") for one in metered_pieces(slug, FIT_SEED, given.pieces)]
        print(np.round(fit(pieces), 2))
        return
    print("| pieces | n | first (chance, commonest) | among three (chance, commonest) | suggested | of these right |")
    print("|---|---|---|---|---|---|")
    best = [
        pair
        for slug in ("hindustani", "makam")
        for pair in report(slug, metered_pieces(slug, given.seed, given.pieces))
    ]
    print("\n| sureness | best cycles | mean sureness | right |\n|---|---|---|---|")
    for low, high in pairwise(EDGES):
        inside = [(probability, right) for probability, right in best if low <= probability < high]
        if inside:
            mean, right = np.mean([p for p, _ in inside]), np.mean([r for _, r in inside])
            print(f"| {low:g} to {min(high, 1.0):g} | {len(inside)} | {mean:.2f} | {right:.2f} |")


if __name__ == "__main__":
    main()
