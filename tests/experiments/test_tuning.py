"""Tuning: the search in a grid that grows at its edges, and its record."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.atomic_io import write_json
from talim.errors import TalimError
from talim.experiments.preliminary_rules import RATE
from talim.experiments.tuning import (
    RECORD,
    GridSearch,
    TunedCandidate,
    TunedFamily,
    family_of,
    read_tuning,
    search_grid,
)

ALPHA = "kind_options.lora.alpha_per_rank"


def candidate(loss: float | None, rate: float, **more: float) -> TunedCandidate:
    return TunedCandidate(values={RATE: rate, **more}, loss=loss)


def family(*candidates: TunedCandidate) -> TunedFamily:
    return TunedFamily(
        base="nano-musicgen",
        group="makam",
        family="lora",
        corpora=("makam-solo", "makam-ensemble"),
        designs=("lora@all:2%", "lora@deep:2%"),
        representative="lora@all:2%",
        tuned_on=("makam-solo",),
        seeds=(100,),
        candidates=candidates,
        chosen={RATE: 0.001},
        inside=True,
    )


def test_rates_and_losses_take_the_best_of_the_other_settings() -> None:
    grid = [(2.0, 0.003, 2), (1.5, 0.001, 1), (1.4, 0.001, 2), (None, 0.009, 1), (1.6, 0.003, 1)]
    tuned = family(*(candidate(loss, rate, **{ALPHA: alpha}) for loss, rate, alpha in grid))
    assert tuned.rates == [0.001, 0.003, 0.009]
    assert tuned.losses == [1.4, 1.6, None]


def test_read_tuning_returns_what_was_written(tmp_path: Path) -> None:
    assert read_tuning(tmp_path) == []
    tuned = family(candidate(1.5, 0.001), candidate(None, 0.003))
    write_json(tmp_path / RECORD, {"families": [tuned.model_dump(mode="json")]})
    assert read_tuning(tmp_path) == [tuned]
    assert family_of([tuned], "nano-musicgen", "makam-ensemble", "lora@deep:2%") == tuned
    assert family_of([tuned], "nano-musicgen", "makam-ensemble", "conv@deep:2%") is None
    assert family_of([tuned], "nano-musicgen", "hindustani", "lora@deep:2%") is None


@pytest.mark.parametrize("content", [{}, [], {"families": [{"base": "x"}]}, {"families": 3}])
def test_read_tuning_damaged_record_raises(tmp_path: Path, content: object) -> None:
    write_json(tmp_path / RECORD, content)
    with pytest.raises(TalimError, match=f"{RECORD}: is damaged"):
        read_tuning(tmp_path)


def run_search(grids: dict, loss: Callable[..., float | None], max_growth: int = 3) -> tuple[GridSearch, list]:
    """The end of a search, and the points in the order in which they were tried."""
    losses, order = {}, []
    while (found := search_grid(grids, losses, max_growth)).missing:
        assert not set(found.missing) & set(losses)
        order += found.missing
        losses |= {point: loss(*point) for point in found.missing}
    return found, order


def valley(*best: float) -> Callable[..., float]:
    """Least at `best`, in units of decades."""
    return lambda *point: sum(math.log10(x / y) ** 2 for x, y in zip(point, best, strict=True))


RATES = {RATE: (0.0003, 0.001, 0.003)}


@pytest.mark.parametrize(
    ("best", "chosen", "added"),
    [
        (0.001, 0.001, []),
        (0.009, 0.009, [0.009, 0.027]),  # by its own ratio, until it lies inside
        (0.0001, 0.00009, [0.00009, 0.000027]),
    ],
)
def test_search_grid_grows_at_its_edge_until_the_best_is_inside(best: float, chosen: float, added: list) -> None:
    found, order = run_search(RATES, valley(best))
    assert (found.best, found.inside, found.note) == ((chosen,), True, "")
    assert [rate for (rate,) in order[3:]] == pytest.approx(added)


def test_search_grid_at_its_bound_is_not_inside() -> None:
    found, order = run_search(RATES, lambda rate: -rate, max_growth=2)
    assert (found.best, found.inside) == ((0.027,), False)
    assert found.note == "training.learning_rate: 0.027 is the greatest tried; bound: 2 added values"
    assert len(order) == 5
    found, _ = run_search(RATES, lambda rate: -rate, max_growth=20)
    assert found.best is not None
    assert found.best[0] <= 1
    assert found.note.endswith("bound: 1, the largest rate")
    found, _ = run_search(RATES, valley(0.003), max_growth=0)
    assert (found.best, found.inside) == ((0.003,), False)


def test_search_grid_of_two_settings_grows_along_each() -> None:
    grids = {RATE: (0.001, 0.003), ALPHA: (1.0, 2.0)}
    found, order = run_search(grids, valley(0.003, 2.0))
    assert (found.best, found.inside) == ((0.003, 2.0), True)
    assert {point[1] for point in order} == {1.0, 2.0, 4.0}
    assert {point[0] for point in order} == {0.001, 0.003, 0.009}
    found, _ = run_search({RATE: (0.001, 0.003, 0.009), ALPHA: (2.0,)}, valley(0.003, 8.0))
    assert (found.best, found.inside) == ((0.003, 2.0), True)  # a single value is a setting, not a grid


def test_search_grid_training_that_diverges_counts_as_the_worst() -> None:
    found, _ = run_search(RATES, lambda rate: None if rate > 0.001 else 1 / rate)
    assert (found.best, found.inside) == ((0.001,), True)
    found, order = run_search(RATES, lambda rate: None if rate > 0.0001 else 1 / rate)
    assert (found.best, found.inside) == ((0.00009,), True)  # it grew downwards, where training is stable
    assert min(order) == (0.000027,)
    found, _ = run_search(RATES, lambda rate: None)
    assert (found.best, found.inside) == (None, False)
    assert "not finite with any" in found.note


@given(st.floats(1e-6, 1.0), st.integers(0, 6))
def test_search_grid_choice_is_the_least_and_inside_means_both_neighbours_are_worse(best: float, growth: int) -> None:
    found, order = run_search(RATES, valley(best), growth)
    assert found.best == min(order, key=lambda point: valley(best)(*point))
    rates = sorted(rate for (rate,) in order)
    assert len(rates) <= 3 + growth
    assert found.best is not None
    assert found.inside == (found.best[0] not in (rates[0], rates[-1]))
