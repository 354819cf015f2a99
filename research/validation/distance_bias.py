"""Kernel distances of two sets of one law, and of two that differ, by the number of clips; the units of embeddings.

    python -m research.validation.distance_bias --out docs/reports/distance-bias.md
    python -m research.validation.distance_bias --write-spreads

The clips are performances of 10 s in two traditions, whose vectors are kept in the folder --work.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from research.docs import markdown
from talim.atomic_io import write_text
from talim.audio import Audio
from talim.evaluation.protocol import EMBEDDINGS
from talim.metrics import embeddings
from talim.metrics.distribution_distances import kernel_distance, median_bandwidth
from talim.synthesis.performer import perform

PAGE, SPREADS = Path("docs/reports/distance-bias.md"), Path("src/talim/metrics/embedding_spreads.json")
FIRST_SEED, CLIPS, SECONDS = 90_000, 50, 10.0
TRADITIONS = ("hindustani", "makam")
COUNTS = (2, 3, 4, 6, 10, 20, 40)
SHIFTS, DIMS = (2.0, 4.0, 8.0, 16.0, 32.0), 20
LEAST_SPREAD = 0.05  # of the median of an embedding's dimensions: smaller ones are rounding
Distance = Callable[[np.ndarray, np.ndarray], float]
OPENING = """# Bias and range of kernel distances

Means over {draws} random draws (`python -m research.validation.distance_bias --out
docs/reports/distance-bias.md`). *Gaussian* is the distance that talim used before: unbiased for a fixed kernel,
but with units and bandwidth taken from the real clips, so that few of them seem far from everything. *Used* is
`kernel_distance`: the distance kernel, in units that are the same for all sets (`embedding_spreads.json`).
Draws are without replacement from {clips} performances of 10 s for each tradition; two sets of one law are of
one tradition, so there are at most 20 clips in each. For 40 clips the law is a normal one with the means and
covariances of the performances.
"""


def gaussian_distance(reference: np.ndarray, evaluated: np.ndarray) -> float:
    """The distance that was used before: a Gaussian kernel, scaled by the reference set alone."""
    spread, centre = np.maximum(reference.std(0), 1e-6), reference.mean(0)
    one, other = ((rows - centre) / spread for rows in (reference, evaluated))
    width = median_bandwidth(one)

    def mean_kernel(first: np.ndarray, second: np.ndarray) -> float:
        gaps = np.square(first).sum(1)[:, None] + np.square(second).sum(1) - 2 * first @ second.T
        values = np.exp(-np.maximum(gaps, 0) / (2 * width**2))
        return float(values[~np.eye(len(first), dtype=bool)].mean() if first is second else values.mean())

    return 100 * (mean_kernel(one, one) + mean_kernel(other, other) - 2 * mean_kernel(one, other))


def performed(work: Path, count: int = CLIPS) -> dict[str, dict[str, np.ndarray]]:
    """Vectors [count, d] of performances, by tradition and embedding; made where the work folder does not hold them."""
    file = work / f"vectors-{count}.npz"
    if not file.is_file():
        made = {}
        for tradition in TRADITIONS:
            pieces = [perform(FIRST_SEED + n, tradition, SECONDS) for n in range(count)]
            clips = [Audio(np.atleast_2d(piece.samples), piece.rate_hz) for piece in pieces]
            for name in EMBEDDINGS:
                made[f"{tradition}/{name}"] = embeddings.embed(clips, embeddings.load(name))
        work.mkdir(parents=True, exist_ok=True)
        np.savez(file, **made)
    with np.load(file) as stored:
        return {slug: {name: stored[f"{slug}/{name}"].astype(float) for name in EMBEDDINGS} for slug in TRADITIONS}


def spreads(vectors: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """The content of embedding_spreads.json: the standard deviation of each dimension over all performances."""
    lines = []
    for name in EMBEDDINGS:
        spread = np.vstack([vectors[slug][name] for slug in TRADITIONS]).std(0)
        spread = np.maximum(spread, LEAST_SPREAD * np.median(spread))
        lines.append(f' "{name}": {json.dumps([float(f"{value:.4g}") for value in spread])}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


def law_rows(vectors: Mapping[str, Mapping[str, np.ndarray]], draws: int, counts: tuple[int, ...]) -> list[list[str]]:
    """Rows: embedding, clips, means of both distances for one law, and for two traditions."""
    rng, rows = np.random.default_rng(0), []
    for name in EMBEDDINGS:
        first, second = (vectors[slug][name] for slug in TRADITIONS)
        unit = embeddings.typical_spread(name)
        distances: list[Distance] = [gaussian_distance, lambda a, b, unit=unit: kernel_distance(a / unit, b / unit)]
        for count in counts:
            found = np.zeros((draws, 2, 2))
            for n in range(draws):
                one, alike, other = _draw(first, second, count, rng)
                found[n] = [[distance(one, evaluated) for distance in distances] for evaluated in (alike, other)]
            mean, error = found.mean(0), found.std(0, ddof=1) / np.sqrt(draws)
            cells = [f"{mean[case, n]:.2f} ± {error[case, n]:.2f}" for case in range(2) for n in range(2)]
            rows.append([name, str(count), *cells])
    return rows


def _draw(first: np.ndarray, second: np.ndarray, count: int, rng: np.random.Generator) -> list[np.ndarray]:
    """Two sets of the first law and one of the second."""
    if 2 * count <= len(first):
        order, of_second = rng.permutation(len(first)), rng.permutation(len(second))
        return [first[order[:count]], first[order[count : 2 * count]], second[of_second[:count]]]
    return [
        rows.mean(0) + rng.normal(size=(count, len(rows))) @ (rows - rows.mean(0)) / np.sqrt(len(rows))
        for rows in (first, first, second)
    ]


def far_rows() -> list[list[str]]:
    """Rows: how far apart two normal sets of 60 are, and both distances for evaluated sets of different spread."""
    rng, rows = np.random.default_rng(1), []
    reference, drawn = rng.normal(size=(60, DIMS)), rng.normal(size=(60, DIMS))
    for shift in SHIFTS:
        cells = [str(shift)]
        for distance in (gaussian_distance, kernel_distance):
            for spread in (0.3, 1.0, 2.0):
                moved = spread * drawn
                moved[:, 0] += shift * np.sqrt(DIMS)
                cells.append(f"{distance(reference, moved):.0f}")
        rows.append(cells)
    return rows


def page(vectors: Mapping[str, Mapping[str, np.ndarray]], draws: int, counts: tuple[int, ...] = COUNTS) -> str:
    """The page as Markdown."""
    head = ("embedding", "clips", "one law: Gaussian", "one law: used", "two traditions: Gaussian", "used")
    far_head = ("apart", *(f"{name}, spread {spread:g}" for name in ("Gaussian", "used") for spread in (0.3, 1.0, 2.0)))
    parts = [OPENING.format(draws=draws, clips=len(vectors[TRADITIONS[0]]["timbre"]))]
    parts += ["## Sets of one law and of two\n", *markdown.table(head, law_rows(vectors, draws, counts)), ""]
    parts += [
        "## Sets that are far apart\n",
        f"Normal sets of 60 in {DIMS} dimensions, the evaluated ones moved by so many typical distances. A Gaussian\n"
        "kernel stays where it is, at a value that says how alike the evaluated clips are, not how far.\n",
        *markdown.table(far_head, far_rows()),
        "",
    ]
    return "\n".join(parts)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=200)
    parser.add_argument("--work", type=Path, default=Path("build/distance-bias"))
    parser.add_argument("--write-spreads", action="store_true", help="write the units of the embeddings, not the page")
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    vectors = performed(options.work)
    if options.write_spreads:
        write_text(SPREADS, spreads(vectors))
    else:
        write_text(options.out, page(vectors, options.draws))


if __name__ == "__main__":
    main()
