"""Advice of a study: the recommended design where the controls pass, by corpus where the best design depends on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from scipy import stats

from talim.experiments.controls import Control, ControlData, choice_controls, not_passed
from talim.experiments.crossed_anova import CrossedTable, shared_designs
from talim.experiments.goals import SelectionCriteria
from talim.experiments.recommend import (
    BY_CORPUS,
    DEMONSTRATED,
    INCONCLUSIVE,
    WITHHELD,
    MeasureComparison,
    Recommendation,
    recommend,
)
from talim.experiments.results import BaseModelResults


@dataclass(frozen=True)
class Interaction:
    """Whether the differences between designs depend on the corpus: an F test, with its degrees of freedom and p."""

    measure: str
    f: float
    df: tuple[float, float]
    p_value: float


@dataclass(frozen=True)
class Advice:
    """A recommendation, the controls that it rests on, and the interaction that keeps it from being one for all."""

    recommendation: Recommendation
    controls: Sequence[Control] = field(default_factory=tuple)
    interaction: Interaction | None = None


def advise(
    tables: Sequence[BaseModelResults], criteria: SelectionCriteria, rng: np.random.Generator, data: ControlData
) -> Advice:
    """The recommendation over tables, without a design if a control has not passed or if it depends on the corpus.

    It depends on the corpus where designs and corpora interact and each corpus by itself leads to another design.
    A recommendation that compares nothing (one design, or none) rests on no control.
    """
    found = recommend(tables, criteria, rng)
    if found.outcome not in (DEMONSTRATED, INCONCLUSIVE):
        return Advice(found)
    designs = [each.design for each in found.candidates]
    decisive = list(dict.fromkeys((found.design, found.best)))
    margins = {each.objective.measure: each.margin for each in found.comparisons}
    controls = choice_controls(tables, designs, decisive, margins, data)
    if not_passed(controls):
        return Advice(replace(found, outcome=WITHHELD, design=""), controls)
    interaction = strongest_interaction(found.comparisons, designs) if len(tables) > 1 else None
    depends = interaction is not None and interaction.p_value * len(margins) <= 1 - criteria.confidence
    if depends and len({recommend([table], criteria, rng).design for table in tables}) > 1:
        return Advice(replace(found, outcome=BY_CORPUS, design=""), controls, interaction)
    return Advice(found, controls)


def strongest_interaction(comparisons: Sequence[MeasureComparison], designs: Sequence[str]) -> Interaction | None:
    """The interaction of design and corpus with the least p value of all measures; None if none can be tested."""
    tested = [design_by_corpus(each.tables, each.objective.measure, designs) for each in comparisons]
    return min((each for each in tested if each), key=lambda each: each.p_value, default=None)


def design_by_corpus(tables: Sequence[CrossedTable], measure: str, designs: Sequence[str]) -> Interaction | None:
    """F test of the interaction of designs and tables, whose recordings differ; None without an error or two designs.

    The mean square of what is left of the designs' means after those of designs and of tables, over the mean variance
    of a design's mean in a table (half of that of a difference), with its degrees of freedom by Satterthwaite.
    """
    shared = [design for design in shared_designs(tables) if design in designs]
    parts = [table.error_components() for table in tables]
    variances = np.array([part.error**2 / 2 for part in parts])
    if len(shared) < 2 or len(tables) < 2 or not (np.isfinite(variances).all() and variances.sum() > 0):
        return None
    means = np.array([[table.means[table.designs.index(design)] for design in shared] for table in tables])
    rest = means - means.mean(axis=0) - means.mean(axis=1, keepdims=True) + means.mean()
    df = (len(shared) - 1) * (len(tables) - 1)
    error_df = float(variances.sum() ** 2 / (variances**2 / [part.df for part in parts]).sum())
    ratio = float(np.square(rest).sum() / df / variances.mean())
    return Interaction(measure, ratio, (float(df), error_df), float(stats.f.sf(ratio, df, error_df)))
