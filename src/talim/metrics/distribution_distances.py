"""Distances between a set of clips and a reference set in some embedding: Fréchet (FAD), kernel (energy), PRDC.

Conventions: a set is float [n, d], one row per clip; both sets share d and the embedding, rate, length and loudness.
`recordings` names the recording of each row: clips of one recording are not independent, so whatever draws parts of a
set draws whole recordings. Randomness comes from the `rng` argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

MAX_SUBSAMPLING_FACTOR = 4  # sets are thinned to a half, a third and a quarter
MIN_JACKKNIFE_RECORDINGS = 4
Distance = Callable[[np.ndarray, np.ndarray], float]
# of the reference and the evaluated rows, and the recordings of each
RecordingDistance = Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], float]


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
    """Median distance between two rows of the reference; 1 if all rows are equal."""
    gaps = _pairwise_distances(reference, reference)[np.triu_indices(len(reference), 1)]
    middle = float(np.median(gaps))
    return middle if middle > 0 else 1.0


def kernel_distance(
    reference: np.ndarray,
    evaluated: np.ndarray,
    width: float | None = None,
    scale: float = 100.0,
    *,
    reference_recordings: Sequence[str] | None = None,
    evaluated_recordings: Sequence[str] | None = None,
) -> float:
    """Unbiased squared maximum mean discrepancy under the distance kernel -|x - y| / width, times `scale`.

    That is scale / width times (2 E|x - y| - E|x - x'| - E|y - y'|), the energy distance; lower is nearer. About 0 for
    one distribution whatever n is (below 0 by chance), without an upper end: it grows as sets move apart, where a
    Gaussian kernel stays at its largest value. Neither width nor unit is taken from the sets, which would bias it in
    small ones: `width` is sqrt(2 d), the distance of two rows of standard normal values, unless given. Where recordings
    are named, clips of one recording are not compared, within a set or across (unless there are no others): they are
    alike in any music. At least two rows per set. Not KID, whose kernel is a cubic polynomial; the estimator is KID's,
    equal to torch-fidelity's where that is given this kernel (docs/reports/reference-implementations.md).
    Source: Székely and Rizzo 2013; as a maximum mean discrepancy Sejdinovic et al. 2013; unbiased as equation 3 of
    Gretton et al. 2012.
    """
    reference, evaluated = _pair(reference, evaluated, least=2)
    width = float(np.sqrt(2 * reference.shape[1])) if width is None else width

    def mean_gap(first: int, second: int) -> float:
        (one, names), (other, others) = sets[first], sets[second]
        counted = ~np.eye(len(one), dtype=bool) if first == second else np.ones((len(one), len(other)), bool)
        if names is not None and others is not None:
            unrelated = np.asarray(names)[:, None] != np.asarray(others)
            counted = unrelated if unrelated.any() else counted
        return float(_pairwise_distances(one, other)[counted].mean())

    sets = [(reference, reference_recordings), (evaluated, evaluated_recordings)]
    return scale * (2 * mean_gap(0, 1) - mean_gap(0, 0) - mean_gap(1, 1)) / width


def knn_measures(reference: np.ndarray, evaluated: np.ndarray, k: int = 5) -> PrdcScores:
    """Fidelity and diversity separately, by balls around each row up to its k-th neighbour in its own set.

    precision: fraction of evaluated rows inside a reference ball, [0, 1]; recall: fraction of reference rows inside an
    evaluated ball, [0, 1]; density: number of reference balls around an evaluated row over k, 0 up, 1 expected;
    coverage: fraction of reference balls that contain an evaluated row, [0, 1], `expected_coverage` for one
    distribution. Higher is better; low recall and coverage with high precision is a collapsed model. Balls contain
    their surface, as in torch-fidelity; those of the package prdc do not, which differs only where distances are
    exactly equal. At least k + 1 rows per set.
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


def jackknife_by_recording(
    distance: RecordingDistance,
    reference: np.ndarray,
    evaluated: np.ndarray,
    reference_recordings: Sequence[str],
    evaluated_recordings: Sequence[str],
) -> tuple[float, int] | None:
    """Standard error of `distance` over the choice of recordings, and its degrees of freedom.

    Each recording is left out once (jackknife, Efron and Stein 1981), of the reference, of the evaluated set, or of
    both where both have it: then its influences on the two add up before they are squared. None for fewer than four
    recordings in a set, of which one is too large a part.
    """
    reference, evaluated = _pair(reference, evaluated, least=2)
    sets = [(reference, np.asarray(reference_recordings)), (evaluated, np.asarray(evaluated_recordings))]
    for rows, names in sets:
        _rows_by_recording(rows, names.tolist())  # one name per row
    if min(len(set(names)) for _, names in sets) < MIN_JACKKNIFE_RECORDINGS:
        return None
    influence: dict[str, float] = {}
    for side, (_, names) in enumerate(sets):
        unique = sorted(set(names))
        without = []
        for name in unique:
            kept = [
                (rows[own != name], own[own != name]) if number == side else (rows, own)
                for number, (rows, own) in enumerate(sets)
            ]
            without.append(distance(kept[0][0], kept[1][0], kept[0][1], kept[1][1]))
        factor = np.sqrt((len(unique) - 1) / len(unique))
        for name, change in zip(unique, np.mean(without) - np.array(without), strict=True):
            influence[name] = influence.get(name, 0.0) + float(factor * change)
    return float(np.sqrt(np.square(list(influence.values())).sum())), min(len(set(names)) for _, names in sets) - 1


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
    distances = _pairwise_distances(rows, rows)
    distances.partition(k, axis=1)
    return distances[:, k].copy()
