"""Comparison of designs: Pareto fronts, simulated effects are detected, absent ones are not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.simulated_study import SMALL, study
from hypothesis import given
from hypothesis import strategies as st

from research.validation.simulated_studies import SimulatedEffect
from talim.experiments.comparison import NO_DIFFERENCE, UNKNOWN, factor_questions, pareto_front, summarize_designs
from talim.experiments.effects import holm_adjusted

NUMBERS = st.floats(-5, 5, allow_nan=False)


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.tuples(NUMBERS, NUMBERS), min_size=1))
def test_pareto_front_is_whatever_no_other_design_beats(designs: dict[str, tuple[float, float]]) -> None:
    quality = {name: q for name, (q, _) in designs.items()}
    costs: dict[str, float | None] = {name: p for name, (_, p) in designs.items()}

    def beaten(name: str) -> bool:
        own = quality[name], costs[name]
        return any(
            quality[other] >= own[0] and costs[other] <= own[1] and (quality[other], costs[other]) != own  # type: ignore[operator]
            for other in designs
        )

    assert set(pareto_front(quality, costs)) == {name for name in designs if not beaten(name)}


def test_pareto_front_design_without_a_cost_is_left_out() -> None:
    assert pareto_front({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": None}) == ["a"]


def test_summarize_designs_has_means_costs_and_fronts(tmp_path: Path) -> None:
    found = study(tmp_path, replace(SMALL, effects=[SimulatedEffect("loss_reduction", {"kind": "conv"}, 0.5)]))
    rows = {row.design: row for row in summarize_designs(found.tables, np.random.default_rng(0))}
    assert set(rows) == set(SMALL.designs)
    conv = rows["conv@all:0.53%"]
    own = [np.mean(list(row.measures["loss_reduction"].values())) for row in found.trials if row.design == conv.design]
    assert conv.measures["loss_reduction"].mean == pytest.approx(np.mean(own))
    low, high = conv.measures["loss_reduction"].interval()
    assert low < conv.measures["loss_reduction"].mean < high
    assert conv.costs["bytes"] == 2 * conv.costs["parameters"]  # type: ignore[operator]
    on = {design for design, row in rows.items() if "parameters" in row.fronts}
    assert all(design.startswith("conv") for design in on)
    fractions = [row.front_fractions["parameters"] for row in rows.values() if row.front_fractions]
    assert max(fractions) == 1.0
    assert rows["transformer@all:2.7%"].front_fractions["parameters"] == 0.0  # type: ignore[index]


def test_factor_questions_detect_simulated_effects_and_no_others(tmp_path: Path) -> None:
    effects = [
        SimulatedEffect("loss_reduction", {"kind": "conv"}, 0.2),
        SimulatedEffect("loss_reduction", {"site": "post"}, -0.2),
        SimulatedEffect("loss_reduction_ornaments", {"kind": "transformer"}, 0.2),
        SimulatedEffect("loss_reduction", {"kind": "linear", "genre": "makam"}, 0.3),
    ]
    plan = replace(SMALL, effects=effects)
    found = {(q.label, q.contrast.measure): q for q in factor_questions(study(tmp_path, plan).tables)}
    answers = {name: question.answer for name, question in found.items()}
    assert answers["transformer over conv", "loss_reduction"] == "less"
    assert answers["all over post", "loss_reduction"] == "more"
    assert answers["2.7 % over 0.53 %", "loss_reduction"] == "more"
    assert answers["transformer over linear", "ornament_gain"] == "more"
    assert answers["conv over linear", "ornament_gain"] == NO_DIFFERENCE
    assert answers["conv over linear, in hindustani more than in makam", "loss_reduction"] == "more"
    assert answers["transformer over conv, in hindustani more than in makam", "loss_reduction"] == NO_DIFFERENCE
    none = found["all over post", "repeat_gain"]
    assert none.answer == NO_DIFFERENCE
    assert 0 < none.effect.min_detectable_effect() < 0.1
    assert all(question.adjusted_p >= question.effect.p_value for question in found.values())


def test_factor_questions_say_no_difference_only_where_they_would_have_seen_one(tmp_path: Path) -> None:
    """With a margin below the minimum detectable effect nothing is said, whatever the mean."""
    tables = study(tmp_path, SMALL).tables
    sharp = {q.label: q.answer for q in factor_questions(tables) if q.contrast.measure == "loss_reduction"}
    blind = {q.label: q.answer for q in factor_questions(tables, tolerance=0.005)}
    assert sharp["all over post"] == NO_DIFFERENCE
    assert NO_DIFFERENCE not in blind.values()
    assert blind["all over post"] == UNKNOWN


def test_factor_questions_answer_for_another_effect_with_the_other_questions_as_they_are(tmp_path: Path) -> None:
    questions = factor_questions(study(tmp_path, SMALL).tables)
    question = next(q for q in questions if q.label == "all over post" and q.contrast.measure == "loss_reduction")
    others = [q.effect.p_value for q in questions if q is not question]
    assert sorted(question.other_p) == sorted(others)
    assert question.adjusted_p == pytest.approx(holm_adjusted([question.effect.p_value, *others])[0])
    far = 20 * question.effect.error
    assert question.answer_for(replace(question.effect, mean=far)) == "more"
    assert question.answer_for(replace(question.effect, mean=-far)) == "less"
    # significant alone, and not among so many
    alone = replace(question.effect, mean=2.5 * question.effect.error, df=1e6)
    assert alone.p_value < 0.05
    assert question.answer_for(alone) not in ("more", "less")


def test_factor_questions_with_one_seed_and_recording_cannot_tell(tmp_path: Path) -> None:
    plan = replace(SMALL, designs=("conv@all:2.7%", "linear@all:2.7%"), seeds=1, recordings=1)
    found = [
        q for q in factor_questions(study(tmp_path, plan, seed=2).tables[:1]) if q.contrast.measure == "loss_reduction"
    ]
    assert [question.answer for question in found] == [UNKNOWN]
    assert np.isnan(found[0].adjusted_p)
