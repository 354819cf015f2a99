"""Comparing: frontiers that nothing beats, effects that were planted, and none where none was."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.simulated_study import SMALL, study
from hypothesis import given
from hypothesis import strategies as st

from research.validation.simulated_studies import SimulatedEffect
from talim.experiments.comparison import factor_questions, frontier, summarize_designs

NUMBERS = st.floats(-5, 5, allow_nan=False)


@given(st.dictionaries(st.text("abcdefgh", min_size=1, max_size=2), st.tuples(NUMBERS, NUMBERS), min_size=1))
def test_on_the_frontier_is_whatever_no_other_beats(designs: dict[str, tuple[float, float]]) -> None:
    quality = {name: q for name, (q, _) in designs.items()}
    price: dict[str, float | None] = {name: p for name, (_, p) in designs.items()}

    def beaten(name: str) -> bool:
        own = quality[name], price[name]
        return any(
            quality[other] >= own[0] and price[other] <= own[1] and (quality[other], price[other]) != own  # type: ignore[operator]
            for other in designs
        )

    assert set(frontier(quality, price)) == {name for name in designs if not beaten(name)}


def test_designs_without_a_price_are_on_no_frontier() -> None:
    assert frontier({"a": 1.0, "b": 2.0}, {"a": 1.0, "b": None}) == ["a"]


def test_standings_tell_means_costs_and_frontiers(tmp_path: Path) -> None:
    found = study(tmp_path, replace(SMALL, effects=[SimulatedEffect("fall", {"kind": "conv"}, 0.5)]))
    rows = {row.design: row for row in summarize_designs(found.tables, np.random.default_rng(0))}
    assert set(rows) == set(SMALL.designs)
    conv = rows["conv@all:0.53%"]
    own = [
        np.mean(list(row.trial.measures["fall"].values())) for row in found.rows if row.design == conv.design
    ]
    assert conv.measures["fall"].mean == pytest.approx(np.mean(own))
    low, high = conv.measures["fall"].interval()
    assert low < conv.measures["fall"].mean < high
    assert conv.prices["bytes"] == 2 * conv.prices["parameters"]  # type: ignore[operator]
    on = {design for design, row in rows.items() if "parameters" in row.frontiers}
    assert all(design.startswith("conv") for design in on)
    shares = [row.frontier_shares["parameters"] for row in rows.values() if row.frontier_shares]
    assert max(shares) == 1.0
    assert rows["transformer@all:2.7%"].frontier_shares["parameters"] == 0.0  # type: ignore[index]


def test_planted_effects_are_found_and_absent_ones_are_not(tmp_path: Path) -> None:
    effects = [
        SimulatedEffect("fall", {"kind": "conv"}, 0.2),
        SimulatedEffect("fall", {"site": "post"}, -0.2),
        SimulatedEffect("ornament_fall", {"kind": "transformer"}, 0.2),
        SimulatedEffect("fall", {"kind": "linear", "genre": "makam"}, 0.3),
    ]
    plan = replace(SMALL, effects=effects)
    found = {(q.named, q.meaning.split()[2]): q for q in factor_questions(study(tmp_path, plan).tables)}
    answers = {name: question.answer for name, question in found.items()}
    assert answers["transformer over conv", "the"] == "less"
    assert answers["all over post", "the"] == "more"
    assert answers["2.7 % over 0.53 %", "the"] == "more"
    assert answers["transformer over linear", "ornaments"] == "more"
    assert answers["conv over linear", "ornaments"] == "no difference that these data can show"
    assert answers["conv over linear, in hindustani more than in makam", "the"] == "more"
    assert answers["transformer over conv, in hindustani more than in makam", "the"].startswith(
        "no difference"
    )
    none = found["all over post", "what"]
    assert none.answer.startswith("no difference")
    assert 0 < none.effect.min_detectable_effect() < 0.1
    assert all(question.adjusted_p >= question.effect.chance for question in found.values())


def test_one_seed_on_one_recording_shows_nothing(tmp_path: Path) -> None:
    plan = replace(SMALL, designs=("conv@all:2.7%", "linear@all:2.7%"), seeds=1, recordings=1)
    found = [
        q for q in factor_questions(study(tmp_path, plan, seed=2).tables[:1]) if q.meaning.startswith("fall")
    ]
    assert [question.answer for question in found] == ["no difference that these data can show"]
    assert np.isnan(found[0].adjusted_p)
