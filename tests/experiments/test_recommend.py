"""Recommendation: the cheapest non-inferior design, inconclusive with few data, error rates within the level."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.simulated_study import SMALL, lines, study, write
from hypothesis import given
from hypothesis import strategies as st

from research.validation.simulated_studies import SimulatedEffect, SimulatedStudy
from talim.experiments.crossed_anova import CrossedTable
from talim.experiments.goals import Objective, SelectionCriteria
from talim.experiments.next_steps import next_steps
from talim.experiments.recommend import (
    DEMONSTRATED,
    INCONCLUSIVE,
    NOTHING,
    ONLY,
    MeasureComparison,
    Recommendation,
    choose_design,
    recommend,
)
from talim.experiments.results import StudyResults, read_study

NAMES = [f"take-{n}" for n in range(6)]

FLOPS = {"linear": 1.0, "conv": 2.0, "transformer": 3.0}


def reductions(**means: float) -> dict[str, dict[str, float]]:
    rng = np.random.default_rng(0)
    difficulty = rng.normal(0, 0.05, len(NAMES))  # of the recordings, for all designs
    return {
        design: {
            name: float(mean + offset + rng.normal(0, 0.001)) for name, offset in zip(NAMES, difficulty, strict=True)
        }
        for design, mean in means.items()
    }


def test_choose_design_of_two_equals_selects_the_cheaper() -> None:
    choice = choose_design(reductions(linear=0.195, conv=0.2, transformer=0.1), FLOPS, 0.1)
    assert (choice.best, choice.design) == ("conv", "linear")
    assert choice.margin == pytest.approx(0.02, abs=0.002)
    assert "linear is cheaper" in choice.sentence
    worse = choose_design(reductions(linear=0.1, conv=0.2, transformer=0.15), FLOPS, 0.1)
    assert worse.design == "conv"
    assert "cannot be decided" not in worse.sentence  # both are shown to be worse
    assert all(each.inferior for each in worse.candidates if each.design != "conv")


def test_choose_design_undecided_selects_the_best_mean() -> None:
    rows = reductions(linear=0.195, conv=0.2)
    rows["linear"]["take-0"] -= 0.3
    rows["linear"]["take-1"] += 0.27
    choice = choose_design(rows, FLOPS, 0.1)
    assert choice.design == "conv"
    assert "Whether linear is as good cannot be decided" in choice.sentence


def test_choose_design_with_one_recording_or_one_design_decides_nothing() -> None:
    choice = choose_design({"linear": {"a": 0.1}, "conv": {"a": 0.10001}}, FLOPS, 0.5)
    assert choice.design == "conv"
    assert not any(each.noninferior or each.inferior for each in choice.candidates)
    assert choose_design({"linear": {"a": 0.1}}, FLOPS, 0.5).sentence == "linear was the only design."


def test_choose_design_without_any_reduction_has_no_margin() -> None:
    choice = choose_design(reductions(linear=-0.2, conv=-0.1), FLOPS, 0.5)
    assert (choice.design, choice.margin) == ("conv", 0.0)


@given(st.lists(st.floats(-1, 1), min_size=3, max_size=3), st.floats(0.01, 0.9))
def test_choose_design_is_the_best_or_cheaper_and_noninferior(means: list[float], tolerance: float) -> None:
    choice = choose_design(reductions(**dict(zip(FLOPS, means, strict=True))), FLOPS, tolerance)
    standing = {each.design: each for each in choice.candidates}
    assert standing[choice.best].mean == max(each.mean for each in choice.candidates)
    assert FLOPS[choice.design] <= FLOPS[choice.best]
    assert not standing[choice.design].inferior
    assert choice.design == choice.best or standing[choice.design].noninferior


DESIGNS = ("linear@all:0.53%", "linear@all:2.7%", "conv@all:2.7%", "full@all")

CONV = SimulatedEffect("loss_reduction", {"kind": "conv"}, 0.4)

PLAN = replace(SMALL, designs=DESIGNS, effects=[CONV])


def advise(found: StudyResults, criteria: SelectionCriteria | None = None, tables: int | None = None) -> Recommendation:
    return recommend(found.tables[:tables], criteria or SelectionCriteria(), np.random.default_rng(0))


def test_recommend_selects_the_cheapest_noninferior_design(tmp_path: Path) -> None:
    found = advise(study(tmp_path, PLAN))
    assert (found.outcome, found.design, found.best) == (DEMONSTRATED, "conv@all:2.7%", "conv@all:2.7%")
    assert found.candidate("linear@all:0.53%").inferior
    assert found.candidate("conv@all:2.7%").selected_fraction == 1.0
    equal = advise(study(tmp_path, replace(PLAN, effects=())))
    assert equal.design == "linear@all:2.7%"  # full@all is as good and costs more
    assert not equal.candidate("linear@all:2.7%").inferior
    [step] = next_steps(equal)
    assert step.kind == "hybrid"  # in simulated studies full fine-tuning gains a little more
    assert "linear@all:2.7%+full@post" in step.reason


@pytest.mark.parametrize(("more", "taken"), [(1.01, "conv@all:2.7%"), (1.1, "linear@all:2.7%")])
def test_recommend_designs_of_nearly_equal_cost_selects_the_better(tmp_path: Path, more: float, taken: str) -> None:
    slightly = replace(PLAN, designs=DESIGNS[1:3], effects=[SimulatedEffect("loss_reduction", {"kind": "conv"}, 0.02)])
    rows = lines(slightly)
    for line in rows:
        line["parameters"] = round(100_000 * (more if line["factors"]["kind"] == "conv" else 1))
    found = advise(read_study(write(tmp_path, rows)))
    assert (found.outcome, found.best, found.design) == (DEMONSTRATED, "conv@all:2.7%", taken)
    assert found.candidate(taken).selected_fraction > 0.5


def test_recommend_limits_exclude_designs(tmp_path: Path) -> None:
    found = advise(study(tmp_path, PLAN), SelectionCriteria(limits={"parameters": 100_000}))
    assert (found.outcome, found.design) == (ONLY, "linear@all:0.53%")
    assert found.excluded["full@all"] == "over the limit of parameters"
    nothing = advise(study(tmp_path, PLAN), SelectionCriteria(limits={"memory": 1}))
    assert nothing.outcome == NOTHING
    assert next_steps(nothing)[0].kind == "run"
    unmeasured = lines(PLAN)
    for line in unmeasured:
        line["cost"]["peak_memory_bytes"] = None
    found = advise(read_study(write(tmp_path, unmeasured)), SelectionCriteria(limits={"memory": 1e12}))
    assert "not measured" in found.excluded["full@all"]


def test_recommend_with_large_noise_is_inconclusive_and_selects_the_cheaper(tmp_path: Path) -> None:
    plan = replace(PLAN, effects=(), seed_sd=0.4, recordings=4)
    found = advise(study(tmp_path, plan, seed=3), tables=1)
    assert found.outcome == INCONCLUSIVE
    assert found.design == found.within_margin
    assert len(found.unresolved) >= 2
    step = next_steps(found)[0]
    assert step.kind == "seeds"
    assert "instead of 3" in step.reason


def test_recommend_goals_use_their_own_measures(tmp_path: Path) -> None:
    effects = [
        SimulatedEffect("loss_reduction_ornaments", {"kind": "conv"}, 0.5),
        SimulatedEffect("loss_reduction_repeat", {"kind": "linear"}, 0.5),
    ]
    found = study(tmp_path, replace(PLAN, effects=effects))
    jingle, background = (advise(found, SelectionCriteria(goal)) for goal in ("jingle", "background"))
    assert jingle.best == "conv@all:2.7%"
    assert [each.objective.measure for each in jingle.comparisons] == [
        "loss_reduction_ornaments",
        "score.kernel_distance_timbre",
    ]
    assert background.best.startswith("linear")
    bare = lines(PLAN)
    for line in bare:
        line["measures"] = {name: line["measures"][name] for name in ("loss_reduction", "base_loss")}
    other = advise(read_study(write(tmp_path, bare)), SelectionCriteria("jingle"))
    assert other.missing == ["loss_reduction_ornaments", "score.kernel_distance_timbre"]
    assert other.design == "conv@all:2.7%"  # the loss is what is left to go by


def test_next_steps_with_one_seed_or_recording_ask_for_more(tmp_path: Path) -> None:
    found = advise(study(tmp_path, replace(PLAN, seeds=1)))
    assert next_steps(found)[0].kind == "seeds"
    alone = advise(study(tmp_path, replace(PLAN, seeds=1, recordings=1)))
    assert alone.outcome == INCONCLUSIVE
    assert [step.kind for step in next_steps(alone)] == ["seeds", "recordings"]


def test_next_steps_largest_size_is_best_suggests_larger_ones(tmp_path: Path) -> None:
    plan = SimulatedStudy(
        ("conv@all:0.13%", "conv@all:2.7%", "conv@all:4.7%"),
        effects=[SimulatedEffect("loss_reduction", {"size_fraction": 0.047}, 0.05)],
        seed_sd=0.005,
        recording_sd=0.005,
        cell_sd=0.01,
    )
    found = advise(study(tmp_path, plan))
    assert (found.design, found.best) == ("conv@all:2.7%", "conv@all:4.7%")
    assert next_steps(found)[0].kind == "extend"
    small = advise(study(tmp_path, replace(plan, effects=())))
    assert small.design == "conv@all:2.7%"


def test_noninferiority_p_of_designs_on_the_margin_is_within_the_level() -> None:
    """Twelve designs lie exactly on the margin below the best: any of them is shown in at most 5 % of studies."""
    rng, wrong = np.random.default_rng(8), []
    from talim.experiments.effects import holm_adjusted

    for _ in range(400):
        truth = np.array([1.0] + [0.9] * 12)
        y = truth[:, None, None] + 0.03 * rng.normal(size=(13, 3, 1)) + 0.03 * rng.normal(size=(13, 1, 8))
        field = CrossedTable(
            [str(n) for n in range(13)], y + 0.05 * rng.normal(size=(13, 3, 8)), list("12345678"), [0, 1, 2]
        )
        judged = MeasureComparison(
            Objective("loss_reduction"), field.designs, field.means, 0.1, field.error_components(), [field]
        )
        wrong.append(min(holm_adjusted(judged.noninferiority_p().tolist())[1:]) <= 0.05)
    assert np.mean(wrong) <= 0.05 + 2 * np.sqrt(0.05 * 0.95 / 400)


def test_recommend_without_measures_recommends_nothing(tmp_path: Path) -> None:
    bare = [line | {"measures": {}} for line in lines(PLAN)]
    assert advise(read_study(write(tmp_path, bare))).outcome == NOTHING
