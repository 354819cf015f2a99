"""The next step after a recommendation that rests on nothing, on little, or on enough."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from talim.experiments.goals import SelectionCriteria
from talim.experiments.next_steps import SuggestedStep, next_steps
from talim.experiments.recommend import DEMONSTRATED, NOTHING, Candidate, Recommendation


def candidate(design: str, gap_low: float = 0.0, **factors: object) -> Candidate:
    return Candidate(design, factors, {}, 0.1, 0.0, gap_low, 0.1, True, False, 1.0, 1.0)


def recommendation(outcome: str, seeds: int = 3, recordings: int = 6, **values: Any) -> Recommendation:
    table = SimpleNamespace(seeds=range(seeds), recordings=range(recordings))
    comparisons: Any = [SimpleNamespace(tables=[table])]
    return Recommendation(SelectionCriteria(), ["takes"], outcome, comparisons=comparisons, **values)


def test_without_results_the_study_is_to_be_run() -> None:
    (step,) = next_steps(Recommendation(SelectionCriteria(), [], NOTHING))
    assert step.kind == "run"


@pytest.mark.parametrize(
    ("seeds", "recordings", "kinds"), [(1, 6, ["seeds"]), (3, 1, ["recordings"]), (1, 1, ["seeds", "recordings"])]
)
def test_with_one_seed_or_recording_more_are_needed(seeds: int, recordings: int, kinds: list[str]) -> None:
    found = recommendation(DEMONSTRATED, seeds, recordings, design="a", best="a", candidates=[candidate("a")])
    assert [step.kind for step in next_steps(found)] == kinds


def test_best_design_that_trains_the_base_suggests_a_hybrid() -> None:
    both = [candidate("linear@all:1%", 0.02, kind="linear", site="all"), candidate("full@all", kind="full", site="all")]
    found = recommendation(DEMONSTRATED, design="linear@all:1%", best="full@all", candidates=both)
    assert next_steps(found) == [
        SuggestedStep(
            "hybrid",
            "full@all trains the base itself and is significantly better than linear@all:1%: add a part of the base to "
            "the adapter, such as linear@all:1%+full@post.",
        )
    ]


def test_largest_size_that_is_best_suggests_larger_ones_and_a_middle_one_listeners() -> None:
    sizes = [candidate(f"conv@all:{n}%", 0.02, kind="conv", site="all", size_fraction=n / 100) for n in (1, 2, 3)]
    found = recommendation(DEMONSTRATED, design="conv@all:1%", best="conv@all:3%", candidates=sizes)
    assert [step.kind for step in next_steps(found)] == ["extend"]
    found = recommendation(DEMONSTRATED, design="conv@all:1%", best="conv@all:2%", candidates=sizes)
    assert [step.kind for step in next_steps(found)] == ["listen"]
