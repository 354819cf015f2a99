"""Distances between a set of clips and a reference set in some embedding: Fréchet (FAD), kernel (KAD), PRDC.

Conventions: a set is float [n, d], one row per clip; both sets share d and the embedding, rate, length and loudness.
`recordings` names the recording of each row: clips of one recording are not independent, so whatever draws parts of a
set draws whole recordings. Randomness comes from the `rng` argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MAX_SUBSAMPLING_FACTOR = 4  # sets are thinned to a half, a third and a quarter
Distance = Callable[[np.ndarray, np.ndarray], float]


@dataclass(frozen=True)
class FdInfinityFit:
    """A Fréchet distance extrapolated to infinitely many samples, and the fit.

    `thinned` [k] is the mean distance between parts of 1, 1/2, 1/3, ... of both sets; value + slope * k is the line
    through them, `r_squared` in [0, 1] its fit, `smallest` the number of rows of the smallest part.
    """

    value: float
    slope: float
    r_squared: float
    thinned: tuple[float, ...]
    smallest: int


@dataclass(frozen=True)
class PrdcScores:
    """Precision, recall, density and coverage; see `knn_measures`."""

    precision: float
    recall: float
    density: float
    coverage: float


def frechet_distance(reference: np.ndarray, evaluated: np.ndarray) -> float:
    """Squared Fréchet distance of normal distributions fitted to two sets: |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)).

    0 or more; unit: the embedding's, squared; lower is nearer. Biased upwards by about 1/n: compare equal n only, or
    use `frechet_distance_infinity`. With centred rows A, B scaled so that S = A'A, the last trace is the sum of the
    singular values of AB', which is exact for any n from 2 up, also below d: no matrix root, no shrinkage. At least two
    rows per set.
    Source: Dowson and Landau 1982; Heusel et al. 2017; as FAD, Kilgour et al. 2019.
    """
    reference, evaluated = _pair(reference, evaluated, least=2)
    shift = reference.mean(0) - evaluated.mean(0)
    root, other_root = _covariance_root(reference), _covariance_root(evaluated)
    shared = np.linalg.svd(root @ other_root.T, compute_uv=False).sum()
    return max(0.0, float(shift @ shift + (root**2).sum() + (other_root**2).sum() - 2 * shared))


def _covariance_root(rows: np.ndarray) -> np.ndarray:
    """A matrix R, of at most d rows, with R'R the covariance of `rows` [n, d] (divisor n - 1)."""
    centred = (rows - rows.mean(0)) / np.sqrt(len(rows) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(rows) > rows.shape[1] else centred


def frechet_distance_infinity(
    reference: np.ndarray,
    evaluated: np.ndarray,
    rng: np.random.Generator,
    *,
    reference_recordings: Sequence[str] | None = None,
    evaluated_recordings: Sequence[str] | None = None,
    repeats: int = 8,
) -> FdInfinityFit:
    """`frechet_distance` at infinitely many samples of both sets: the intercept of a line in 1/n; below 0 by chance.

    Both sets are cut into k parts without replacement (by recording where given; k = 1 to 4), `repeats` times, and
    distances between parts averaged; both biases grow as k, so the line at k = 0 has neither. It needs eight units
    (rows or recordings) per set, and holds where the smallest part outnumbers the dimensions: see `smallest`.
    Source: Chong and Forsyth 2020 (FID-infinity), drawn without replacement as its 1/n law asks; as FAD-infinity,
    Gui et al. 2024.
    """
    reference, evaluated = _pair(reference, evaluated, least=8)
    units = (_rows_by_recording(reference, reference_recordings), _rows_by_recording(evaluated, evaluated_recordings))
    fewest, needed = min(map(len, units)), 2 * MAX_SUBSAMPLING_FACTOR
    if fewest < needed:
        raise ValueError(f"extrapolation needs {needed} recordings or more in each set, not {fewest}")
    ks = np.arange(1, MAX_SUBSAMPLING_FACTOR + 1)
    thinned, smallest = [frechet_distance(reference, evaluated)], len(reference)
    for k in ks[1:]:
        distances = []
        for _ in range(repeats):
            first, second = (_parts(groups, k, rng) for groups in units)
            distances += [frechet_distance(reference[a], evaluated[b]) for a, b in zip(first, second, strict=True)]
            smallest = min(smallest, *(len(part) for part in (*first, *second)))
        thinned.append(float(np.mean(distances)))
    slope, value = np.polyfit(ks, thinned, 1)
    total = float(np.var(thinned)) * len(ks)
    residual = float(((np.asarray(thinned) - value - slope * ks) ** 2).sum())
    r_squared = 1.0 if total <= 1e-18 else 1 - residual / total
    return FdInfinityFit(float(value), float(slope), max(0.0, r_squared), tuple(thinned), smallest)


def median_bandwidth(reference: np.ndarray) -> float:
    """Median distance between two rows of the reference, the Gaussian kernel's width; 1 if all rows are equal.

    It depends on the reference alone: a width taken from the evaluated set makes an over-diverse one look good.
    """
    gaps = _pairwise_distances(reference, reference)[np.triu_indices(len(reference), 1)]
    middle = float(np.median(gaps))
    return middle if middle > 0 else 1.0


def kernel_distance(
    reference: np.ndarray, evaluated: np.ndarray, width: float | None = None, scale: float = 100.0
) -> float:
    """Unbiased squared maximum mean discrepancy under exp(-|x - y|^2 / (2 width^2)), times `scale`; lower is nearer.

    About 0 for one distribution (below 0 by chance), at most 2 * scale; no bias from n, no normality assumed. The
    width is `median_bandwidth(reference)` unless given. At least two rows per set.
    Source: Gretton et al. 2012, equation 3; as KAD with scale 100, Chung et al. 2025.
    """
    reference, evaluated = _pair(reference, evaluated, least=2)
    width = median_bandwidth(reference) if width is None else width

    def kernel(one: np.ndarray, other: np.ndarray) -> np.ndarray:
        return np.exp(-0.5 * (_pairwise_distances(one, other) / width) ** 2)

    def within(rows: np.ndarray) -> float:
        return float(kernel(rows, rows)[~np.eye(len(rows), dtype=bool)].mean())

    return scale * (within(reference) + within(evaluated) - 2 * float(kernel(reference, evaluated).mean()))


def knn_measures(reference: np.ndarray, evaluated: np.ndarray, k: int = 5) -> PrdcScores:
    """Fidelity and diversity separately, by balls around each row up to its k-th neighbour in its own set.

    precision: fraction of evaluated rows inside a reference ball, [0, 1]; recall: fraction of reference rows inside an
    evaluated ball, [0, 1]; density: number of reference balls around an evaluated row over k, 0 up, 1 expected;
    coverage: fraction of reference balls that contain an evaluated row, [0, 1], `expected_coverage` for one
    distribution. Higher is better; low recall and coverage with high precision is a collapsed model. At least k + 1
    rows per set.
    Source: Kynkäänniemi et al. 2019 (precision, recall); Naeem et al. 2020 (density, coverage).
    """
    reference, evaluated = _pair(reference, evaluated, least=k + 1)
    across = _pairwise_distances(reference, evaluated)
    in_reference = across <= _knn_radius(reference, k)[:, None]
    in_evaluated = across <= _knn_radius(evaluated, k)[None]
    return PrdcScores(
        precision=float(in_reference.any(0).mean()),
        recall=float(in_evaluated.any(1).mean()),
        density=float(in_reference.sum(0).mean() / k),
        coverage=float(in_reference.any(1).mean()),
    )


def expected_coverage(references: int, evaluated: int, k: int = 5) -> float:
    """Coverage that two sets of one distribution reach on average, whatever it is (Naeem et al. 2020, lemma 2)."""
    steps = np.arange(1, k + 1)
    return float(1 - np.prod((references - steps) / (references + evaluated - steps)))


def interval_by_recording(
    distance: Distance,
    reference: np.ndarray,
    evaluated: np.ndarray,
    reference_recordings: Sequence[str],
    evaluated_recordings: Sequence[str],
    rng: np.random.Generator,
    *,
    resamples: int = 200,
    confidence: float = 0.95,
) -> tuple[float, float] | None:
    """Interval [low, high] of `distance` over the choice of recordings; None for fewer than four in a set.

    Resamples half of the recordings of each set without replacement (delete-half jackknife, Shao and Wu 1989): a
    bootstrap with replacement repeats clips, which every distance here takes for very near neighbours. The halves'
    deviations, scaled to the full size, are added to the value of the full sets, so that the halves' own bias does not
    move the interval.
    """
    recordings = reference_recordings, evaluated_recordings
    deviations = _deviations_by_recording(distance, reference, evaluated, *recordings, rng, resamples)
    if deviations is None:
        return None
    low, high = np.quantile(deviations, [(1 - confidence) / 2, (1 + confidence) / 2])
    value = distance(reference, evaluated)
    return float(value + low), float(value + high)


def error_by_recording(
    distance: Distance,
    reference: np.ndarray,
    evaluated: np.ndarray,
    reference_recordings: Sequence[str],
    evaluated_recordings: Sequence[str],
    rng: np.random.Generator,
    *,
    resamples: int = 200,
) -> float | None:
    """Standard error of `distance` over the choice of recordings, by the resamples of `interval_by_recording`."""
    recordings = reference_recordings, evaluated_recordings
    deviations = _deviations_by_recording(distance, reference, evaluated, *recordings, rng, resamples)
    return None if deviations is None else float(np.sqrt(np.mean(np.square(deviations))))


def _deviations_by_recording(
    distance: Distance,
    reference: np.ndarray,
    evaluated: np.ndarray,
    reference_recordings: Sequence[str],
    evaluated_recordings: Sequence[str],
    rng: np.random.Generator,
    resamples: int,
) -> np.ndarray | None:
    """Deviations of the halves' distances from their mean, scaled to the full size; None with too few recordings."""
    reference, evaluated = _pair(reference, evaluated, least=2)
    units = (_rows_by_recording(reference, reference_recordings), _rows_by_recording(evaluated, evaluated_recordings))
    if min(len(groups) for groups in units) < 4:
        return None
    half = [len(groups) // 2 for groups in units]
    scales = [np.sqrt(h / (len(groups) - h)) for h, groups in zip(half, units, strict=True)]
    distances = []
    for _ in range(resamples):
        rows = [
            np.concatenate([groups[i] for i in rng.permutation(len(groups))[:h]])
            for h, groups in zip(half, units, strict=True)
        ]
        distances.append(distance(reference[rows[0]], evaluated[rows[1]]))
    return (np.asarray(distances) - np.mean(distances)) * max(scales)


def split_by_recording(recordings: Sequence[str], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray] | None:
    """Row numbers of two random halves, each of whole recordings; None if either would have fewer than two rows.

    Clips of one recording resemble each other: on both sides they would make real music look closer to itself than
    other real music is.
    """
    names = np.array(sorted(set(recordings)))
    first_names = set(rng.permutation(names)[: len(names) // 2])
    in_first = np.array([name in first_names for name in recordings], bool)
    first, second = np.flatnonzero(in_first), np.flatnonzero(~in_first)
    return (first, second) if min(first.size, second.size) >= 2 else None


def split_half_distance(
    distance: Distance, rows: np.ndarray, recordings: Sequence[str], rng: np.random.Generator
) -> float | None:
    """`distance` between two halves of a set, split by recording; None if the set is too small to split."""
    halves = split_by_recording(recordings, rng)
    return None if halves is None else distance(rows[halves[0]], rows[halves[1]])


def _pair(reference: np.ndarray, evaluated: np.ndarray, least: int) -> tuple[np.ndarray, np.ndarray]:
    """Both sets as float64; ValueError if they are unusable."""
    pair = np.asarray(reference, np.float64), np.asarray(evaluated, np.float64)
    for name, rows in zip(("reference", "evaluated"), pair, strict=True):
        if rows.ndim != 2 or not np.isfinite(rows).all():
            raise ValueError(f"the {name} set must be finite rows [n, d], not an array of shape {rows.shape}")
        if len(rows) < least:
            raise ValueError(f"the {name} set has {len(rows)} rows; this distance needs {least} or more")
    first, second = (rows.shape[1] for rows in pair)
    if first != second:
        raise ValueError(f"the sets have {first} and {second} dimensions: use one embedding for both")
    return pair


def _rows_by_recording(rows: np.ndarray, recordings: Sequence[str] | None) -> list[np.ndarray]:
    """The row numbers of each recording; every row by itself if there are no names."""
    if recordings is None:
        return [np.array([n]) for n in range(len(rows))]
    if len(recordings) != len(rows):
        raise ValueError(f"{len(rows)} rows but {len(recordings)} names of recordings: one name per row")
    names = np.asarray(recordings)
    return [np.flatnonzero(names == name) for name in sorted(set(recordings))]


def _parts(groups: list[np.ndarray], k: int, rng: np.random.Generator) -> list[np.ndarray]:
    """All rows in k random parts of whole recordings, of equal numbers of recordings as far as possible."""
    order = np.array_split(rng.permutation(len(groups)), k)
    return [np.concatenate([groups[i] for i in part]) for part in order]


def _pairwise_distances(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """Euclidean distances [n, m] between rows."""
    from scipy.spatial.distance import cdist

    return cdist(one, other)


def _knn_radius(rows: np.ndarray, k: int) -> np.ndarray:
    """Distance of each row to its k-th neighbour in its own set [n]."""
    return np.partition(_pairwise_distances(rows, rows), k, axis=1)[:, k]
