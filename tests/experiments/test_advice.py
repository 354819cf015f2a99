"""Advice: withheld where a control fails, by corpus where the best design depends on it, else the recommendation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.simulated_study import SMALL, write_with_controls
from scipy import stats

from research.validation.simulated_studies import SimulatedEffect, SimulatedStudy
from talim.experiments import controls
from talim.experiments.advice import Advice, advise, design_by_corpus
from talim.experiments.controls import ControlData
from talim.experiments.crossed_anova import CrossedTable
from talim.experiments.goals import SelectionCriteria
from talim.experiments.next_steps import next_steps
from talim.experiments.recommend import BY_CORPUS, DEMONSTRATED, ONLY, WITHHELD
from talim.experiments.results import read_study
from talim.experiments.tuning import read_tuning

DESIGNS = ("linear@all:2.7%", "conv@all:2.7%", "full@all")
BETTER = SimulatedEffect("loss_reduction", {"kind": "conv"}, 0.4)
PLAN = replace(SMALL, designs=DESIGNS, effects=[BETTER])


def advice(folder: Path, plan: SimulatedStudy = PLAN, data: ControlData | None = None) -> Advice:
    study = read_study(write_with_controls(folder, plan))
    known = ControlData(study.controls, read_tuning(folder)) if data is None else data
    return advise(study.tables, SelectionCriteria(), np.random.default_rng(0), known)


def test_advise_recommends_where_all_controls_pass(tmp_path: Path) -> None:
    found = advice(tmp_path)
    assert (found.recommendation.outcome, found.recommendation.design) == (DEMONSTRATED, "conv@all:2.7%")
    assert len(found.controls) == 7
    assert found.interaction is None


@pytest.mark.parametrize(
    ("plan", "names"),
    [
        (replace(PLAN, inserted=0.0), {"planted"}),
        (replace(PLAN, equal_seeds=0), {"equal"}),
        (replace(PLAN, level=-0.5), {"last token", "curve"}),
    ],
)
def test_advise_names_no_design_where_a_control_fails(tmp_path: Path, plan: SimulatedStudy, names: set[str]) -> None:
    found = advice(tmp_path, plan)
    assert (found.recommendation.outcome, found.recommendation.design) == (WITHHELD, "")
    assert {each.name for each in controls.not_passed(found.controls)} >= names
    assert next_steps(found.recommendation) == []


def test_advise_without_tuning_or_control_grids_names_no_design(tmp_path: Path) -> None:
    found = advice(tmp_path, data=ControlData())
    assert found.recommendation.outcome == WITHHELD
    assert [each.name for each in controls.not_passed(found.controls)] == ["rate", "planted", "equal"]


def test_advise_gives_none_for_all_corpora_where_designs_and_genre_interact(tmp_path: Path) -> None:
    opposite = SimulatedEffect("loss_reduction", {"kind": "conv", "genre": "makam"}, -0.8)
    found = advice(tmp_path, replace(PLAN, effects=[BETTER, opposite]))
    assert (found.recommendation.outcome, found.recommendation.design) == (BY_CORPUS, "")
    assert found.interaction is not None
    assert found.interaction.p_value < 0.001
    assert next_steps(found.recommendation) == []


def test_advise_is_one_for_all_corpora_where_each_leads_to_the_same_design(tmp_path: Path) -> None:
    more = SimulatedEffect("loss_reduction", {"kind": "conv", "genre": "makam"}, 0.4)  # they interact all the same
    found = advice(tmp_path, replace(PLAN, effects=[BETTER, more]))
    assert (found.recommendation.outcome, found.recommendation.design) == (DEMONSTRATED, "conv@all:2.7%")


def test_advise_of_a_single_design_rests_on_no_control(tmp_path: Path) -> None:
    found = advice(tmp_path, replace(PLAN, designs=DESIGNS[:1]), ControlData())
    assert (found.recommendation.outcome, found.controls) == (ONLY, ())


def tables(rng: np.random.Generator, interaction: float = 0.0, count: int = 2) -> list[CrossedTable]:
    """Two designs or more on the same seeds in each table; the first gains `interaction` more in the first table."""
    found = []
    for number in range(count):
        values = (
            0.03 * rng.normal(size=(4, 5, 1)) + 0.03 * rng.normal(size=(4, 1, 12)) + 0.05 * rng.normal(size=(4, 5, 12))
        )
        values += np.linspace(0, 0.5, 4)[:, None, None] + 0.3 * rng.normal(size=(1, 1, 12)) + number
        values[0] += interaction if number == 0 else 0.0
        found.append(CrossedTable(list("abcd"), values, [str(n) for n in range(12)], list(range(5))))
    return found


@pytest.mark.parametrize("count", [2, 3])
def test_design_by_corpus_without_interaction_keeps_its_level(count: int) -> None:
    rng = np.random.default_rng(5)
    found = [design_by_corpus(tables(rng, count=count), "m", list("abcd")) for _ in range(400)]
    wrong = [each is not None and each.p_value <= 0.05 for each in found]
    assert sum(wrong) <= stats.binom.ppf(0.999, 400, 0.05)
    assert sum(wrong) > 0


def test_design_by_corpus_finds_an_interaction_and_needs_an_error() -> None:
    rng = np.random.default_rng(6)
    found = [design_by_corpus(tables(rng, 0.15), "m", list("abcd")) for _ in range(20)]
    assert sum(each is not None and each.p_value <= 0.05 for each in found) >= 18
    one = [CrossedTable(["a", "b"], np.ones((2, 1, 1)), ["x"], [0])] * 2
    assert design_by_corpus(one, "m", ["a", "b"]) is None
    assert design_by_corpus(tables(rng), "m", ["a"]) is None
    assert design_by_corpus(tables(rng)[:1], "m", list("abcd")) is None
