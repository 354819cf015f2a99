"""How often intervals of a mean contain the true mean, and how often unrelated clips are called copies.

    python -m research.validation.interval_coverage --out docs/reports/interval-coverage.md

Every figure is simulated with the code that evaluates; the older methods stand beside it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from scipy.special import stdtrit

from research.docs import markdown
from talim.atomic_io import write_text
from talim.evaluation.intervals import two_way_effect
from talim.experiments.effects import pooled_effect
from talim.experiments.hypotheses import Contrast
from talim.experiments.hypothesis_tests import paired_effect
from talim.experiments.results import TrialResult
from talim.metrics import copy_detection

PAGE = Path("docs/reports/interval-coverage.md")
RECORDINGS = (2, 3, 4, 6, 10, 20)
CROSSED = ((2, 4), (3, 8), (8, 8), (3, 20), (8, 20), (8, 50))  # seeds x recordings
PAIRED = ((3, 2, 8), (3, 11, 8), (8, 4, 20))  # seeds x pairs of each x recordings
SPREADS = {"seeds": (1.0, 0.25), "recordings": (0.25, 1.0)}  # what differs more: deviations of seeds and recordings
TWO_BASES = ((3, 8), (8, 20), (8, 50))  # seeds x recordings of each of two bases on one corpus
ALIKE = (1.0, 0.5, 0.0)  # part of the variance by recording that both bases share
FEW_SEEDS = ((2, 62), (4, 62), (8, 62))  # seeds x recordings of a corpus, as of the study of the paper's claims
OF_SEEDS = (0.0, 0.1, 0.25, 0.5, 0.75, 0.9)  # part of the variance of the mean that comes from seeds
UNRELATED_CLIPS = (10, 15, 20, 30, 60, 120)
LEVELS = (0.95, 0.994)  # of what is shown, and of the verdicts of a study with eight claims
CONV = Contrast(measure="loss_reduction", treatment={"kind": "conv"}, control={"kind": "linear"})
RESAMPLES = 1000
Law = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]  # draws [...], of mean 0
LAWS: Mapping[str, Law] = {
    "normal": lambda rng, size: rng.normal(size=size),
    "log-normal": lambda rng, size: rng.lognormal(size=size) - np.exp(0.5),
    "log-normal, sigma 0.5": lambda rng, size: rng.lognormal(sigma=0.5, size=size) - np.exp(0.125),
}
OPENING = """# Coverage of intervals

How often an interval contains the true mean, in percent of {draws} simulated sets of recordings (`python -m
research.validation.interval_coverage --out docs/reports/interval-coverage.md`; the standard error of a figure
is {error:.1f} points at 95 %). *Percentile* is the percentile bootstrap, which scores were shown with before;
*t* is Student's interval; *used* is `talim.evaluation.intervals`: Student's t, joined with Hall's interval for
skewed means (Hall 1992; its end at most twice as far as that of t), and with a smaller error rate for fewer
than 30 recordings. *Width* is its median width over that of t. Log-normal values (sigma 1, skewness 6.2) are
the hard case: with few recordings none of them may come from the long tail.

{levels} are the levels of what is shown and of a study's verdicts. At 95 % the used interval is meant to hold
in 93 % or more; a figure just below that lies within its standard error. At the second level it misses more
often than 0.6 % where recordings are log-normal: a verdict from recordings that differ as much as that needs
more of them. Tried and not used: the bootstrap-t (89 to 92 % of log-normal means from 4 to 20 recordings, no
interval from two), Chen's correction (40 to 90 %), Hall's interval alone (87 to 92 %).
"""


SEEDS_THAT_DIFFER = """## Few seeds that differ, {level:g} %

*Of seeds* is the part of the variance of the mean that comes from seeds; the rest comes from recordings, and as much
for each cell as for a recording; values are normal. Of one corpus, and of two that are pooled. Two seeds of one corpus
cannot show how much seeds differ: where they are alike by chance, the interval is that of the recordings. So four are
asked for before anything is said (control `equal`), and a verdict on one corpus alone is a little less sure than its
level says.
"""


PAIRS_OF_SEEDS = """## Pairs that share a seed, {level:g} %

Two kinds are compared at several sites, or one control with several treatments: pairs of one seed err alike. The used
interval averages them first and counts seeds (a quarter of the draws).
"""


BASES_OF_A_CORPUS = """## Two bases on one corpus, {level:g} %

The mean over two bases, which were scored on the same recordings. *Alike* is the part of the variance by recording that
both share: what makes a recording easy for one kind of adapter in one base does so in the other. The used interval
averages them by seed and recording first (a quarter of the draws).
"""


def coverage_row(law: str, shape: tuple[int, int], level: float, draws: int) -> list[str]:
    """Cells of one row: coverage of the three methods, and the width of the used one; percentile for one seed only."""
    rng = np.random.default_rng([*shape, round(1000 * level), len(law)])
    seeds, recordings = shape
    sets = LAWS[law](rng, (draws, 1, recordings)).repeat(seeds, axis=1)
    if seeds > 1:  # seeds and cells are normal: nets that were trained from other numbers
        sets = sets + 0.5 * rng.normal(size=(draws, seeds, 1)) + 0.5 * rng.normal(size=(draws, seeds, recordings))
    effects = [two_way_effect(table) for table in sets]
    used = np.array([effect.interval(level) for effect in effects])
    means, errors, df = (np.array([getattr(effect, name) for effect in effects]) for name in ("mean", "error", "df"))
    half = stdtrit(df, (1 + level) / 2) * errors
    cells = [_covered(means - half, means + half), _covered(*used.T)]
    if seeds == 1:
        resampled = sets[:, 0, rng.integers(recordings, size=(RESAMPLES, recordings))].mean(axis=2)
        ends = np.quantile(resampled, [(1 - level) / 2, (1 + level) / 2], axis=1)
        cells.insert(0, _covered(ends[0], ends[1]))
    width = float(np.median((used[:, 1] - used[:, 0]) / (2 * half)))
    return [law, f"{recordings}" if seeds == 1 else f"{seeds} x {recordings}", *cells, f"{width:.2f}"]


def _covered(low: np.ndarray, high: np.ndarray) -> str:
    return f"{100 * np.mean((low <= 0) & (high >= 0)):.1f}"


def few_seeds_row(shape: tuple[int, int], of_seeds: float, level: float, draws: int) -> list[str]:
    """Coverage of the used interval on one corpus, and on two together, where seeds differ."""
    rng = np.random.default_rng([*shape, round(1000 * level), round(100 * of_seeds)])
    seeds, recordings = shape
    size = (draws, 2, seeds, recordings)
    by_seed = np.sqrt(of_seeds * seeds) * rng.normal(size=(*size[:3], 1))
    spread = np.sqrt((1 - of_seeds) * recordings / (1 + 1 / seeds))  # of recordings, and of cells
    by_recording, cells = (spread * rng.normal(size=each) for each in ((*size[:2], 1, recordings), size))
    effects = [[two_way_effect(table) for table in pair] for pair in by_seed + by_recording + cells]
    row = [f"{seeds} x {recordings}", f"{100 * of_seeds:g} %"]
    for found in ([pair[0] for pair in effects], [pooled_effect(pair) for pair in effects]):
        ends = np.array([effect.interval(level) for effect in found])
        row += [_covered(*ends.T)]
    return row


def paired_row(shape: tuple[int, int, int], differ: str, level: float, draws: int) -> list[str]:
    """Coverage where pairs of trials share a seed: of all pairs as if independent, and of the used interval."""
    seeds, pairs, recordings = shape
    rng = np.random.default_rng([*shape, round(1000 * level), len(differ)])
    by_seed, by_recording = SPREADS[differ]
    covered = []
    for _ in range(draws):
        of_seed, of_recording = by_seed * rng.normal(size=(seeds, 1, 1)), by_recording * rng.normal(size=recordings)
        table = of_seed + of_recording + 0.25 * rng.normal(size=(seeds, pairs, 1))
        table = table + 0.5 * rng.normal(size=(seeds, pairs, recordings))
        ends = [two_way_effect(table.reshape(-1, recordings)).interval(level), _paired_interval(table, level)]
        covered.append([low <= 0 <= high for low, high in ends])
    return [
        differ,
        f"{seeds} x {pairs}",
        str(recordings),
        *(f"{100 * share:.1f}" for share in np.mean(covered, axis=0)),
    ]


def two_bases_row(shape: tuple[int, int], alike: float, level: float, draws: int) -> list[str]:
    """Coverage where two bases share recordings: of the mean of both as if independent, and of the used interval."""
    seeds, recordings = shape
    rng = np.random.default_rng([*shape, round(1000 * level), round(10 * alike)])
    covered = []
    for _ in range(draws):
        shared, own = rng.normal(size=recordings), rng.normal(size=(2, 1, recordings))
        tables = alike**0.5 * shared + (1 - alike) ** 0.5 * own + 0.25 * rng.normal(size=(2, seeds, 1))
        tables = tables + 0.5 * rng.normal(size=(2, seeds, recordings))
        trials = [_trials(table[:, None], base) for table, base in zip(tables, ("a", "b"), strict=True)]
        alone = pooled_effect([two_way_effect(table) for table in tables])
        ends = [each.interval(level) for each in (alone, paired_effect([t for of in trials for t in of], CONV))]
        covered.append([low <= 0 <= high for low, high in ends])
    return [
        f"{alike:g}",
        f"{seeds} x 2",
        str(recordings),
        *(f"{100 * share:.1f}" for share in np.mean(covered, axis=0)),
    ]


def _paired_interval(table: np.ndarray, level: float) -> tuple[float, float]:
    """By the code that decides hypotheses, on trials whose control is 0."""
    return paired_effect(_trials(table), CONV).interval(level)


def _trials(table: np.ndarray, base: str = "") -> list[TrialResult]:
    """Trials of one base on one corpus whose differences are a table [seeds, pairs, recordings]."""
    return [
        TrialResult(
            id="",
            status="done",
            design="",
            corpus="",
            seed=seed,
            factors={"kind": kind, "site": str(pair), "base": base},
            measures={"loss_reduction": {str(n): sign * value for n, value in enumerate(row)}},
        )
        for seed, of_seed in enumerate(table)
        for pair, row in enumerate(of_seed)
        for kind, sign in (("conv", 1.0), ("linear", 0.0))
    ]


def false_alarm_row(law: str, count: int, draws: int) -> list[str]:
    """Percent of unrelated clips at p <= 0.01, by the plain Gumbel tail and by the used one."""
    rng = np.random.default_rng([count, len(law)])
    draw = {"Gumbel": rng.gumbel, "log-normal, sigma 0.3": lambda size=None: rng.lognormal(0, 0.3, size)}[law]
    alarms = np.zeros(2)
    for _ in range(draws):
        null, similarity = draw(size=count), float(draw())
        alarms += [tail(similarity, null) <= 0.01 for tail in (_plain_tail, copy_detection.tail_p_value)]
    return [law, str(count), *(f"{100 * share:.2f}" for share in alarms / draws)]


def _plain_tail(similarity: float, null: np.ndarray) -> float:
    """The Gumbel tail as if mean and standard deviation were known."""
    null = copy_detection.trim_null_outliers(null)
    empirical = copy_detection.p_value(similarity, null)
    if null.size < copy_detection.MIN_NULL_FOR_TAIL or similarity <= null.max():
        return empirical
    height = (similarity - null.mean()) / (null.std(ddof=1) * np.sqrt(6) / np.pi) + np.euler_gamma
    return float(min(empirical, -np.expm1(-np.exp(-height))))


def page(draws: int) -> str:
    """The page as Markdown."""
    error = 100 * float(np.sqrt(0.95 * 0.05 / draws))
    levels = " and ".join(f"{100 * level:g} %" for level in LEVELS)
    parts = [OPENING.format(draws=draws, error=error, levels=levels)]
    for level in LEVELS:
        rows = [coverage_row(law, (1, count), level, draws) for law in LAWS for count in RECORDINGS]
        head = ("recordings are", "number", "percentile", "t", "used", "width")
        parts += [f"## Recordings, {100 * level:g} %\n", *markdown.table(head, rows), ""]
        rows = [coverage_row(law, shape, level, draws) for law in tuple(LAWS)[:2] for shape in CROSSED]
        head = ("recordings are", "seeds x recordings", "t", "used", "width")
        parts += [f"## Seeds and recordings, {100 * level:g} %\n", *markdown.table(head, rows), ""]
        parts.append(SEEDS_THAT_DIFFER.format(level=100 * level))
        rows = [few_seeds_row(shape, share, level, draws) for shape in FEW_SEEDS for share in OF_SEEDS]
        parts += [*markdown.table(("seeds x recordings", "of seeds", "one corpus", "two corpora"), rows), ""]
        parts.append(PAIRS_OF_SEEDS.format(level=100 * level))
        head = ("what differs more", "seeds x pairs of each", "recordings", "as independent pairs", "used")
        rows = [paired_row(shape, differ, level, draws // 4 or 1) for differ in SPREADS for shape in PAIRED]
        parts += [*markdown.table(head, rows), "", BASES_OF_A_CORPUS.format(level=100 * level)]
        head = ("alike", "seeds x bases", "recordings", "as independent bases", "used")
        rows = [two_bases_row(shape, alike, level, draws // 4 or 1) for alike in ALIKE for shape in TWO_BASES]
        parts += [*markdown.table(head, rows), ""]
    parts.append(
        "## False alarms of the search for copies\n\nPercent of unrelated clips that are called copies at a nominal "
        "1 %, by how many\nunrelated clips (the null distribution) there are. Beyond all of them the p value is "
        "extrapolated by a Gumbel law;\nfewer than 99 are said beside the result.\n"
    )
    rows = [
        false_alarm_row(law, count, 2 * draws)
        for law in ("Gumbel", "log-normal, sigma 0.3")
        for count in UNRELATED_CLIPS
    ]
    parts += [*markdown.table(("similarities are", "unrelated clips", "plain tail", "used"), rows), ""]
    return "\n".join(parts)


def main() -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--draws", type=int, default=2000)
    parser.add_argument("--out", type=Path, default=PAGE)
    options = parser.parse_args()
    write_text(options.out, page(options.draws))


if __name__ == "__main__":
    main()
