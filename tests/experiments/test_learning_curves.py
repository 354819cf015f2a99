"""Learning curves: what is read from a run's log, and the share of the gain that came in the last fifth."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.atomic_io import append_jsonl
from talim.experiments.learning_curves import (
    flat_from,
    growth_at_twice_the_steps,
    is_flat,
    mean_curve,
    plateau_fraction,
    read_curve,
)
from talim.run import Run


def exponential(steps: int, time_constant: float, points: int = 10) -> list[tuple[int, float]]:
    """Loss 5 at step 0, that falls towards 3."""
    return [(n, 3 + 2 * math.exp(-n / time_constant)) for n in range(0, steps + 1, steps // points)]


def test_plateau_fraction_of_a_line_is_a_fifth() -> None:
    assert plateau_fraction([(n, 10.0 - n) for n in range(11)]) == pytest.approx(0.2)
    assert plateau_fraction([(0, 4.0), (50, 3.0), (75, 2.5), (100, 2.0)]) == pytest.approx(0.2)  # 80 lies between


@pytest.mark.parametrize("time_constant", [10.0, 20.0, 50.0])
def test_plateau_fraction_of_an_exponential_is_its_formula(time_constant: float) -> None:
    tail = math.exp(-80 / time_constant) - math.exp(-100 / time_constant)
    wanted = tail / (1 - math.exp(-100 / time_constant))
    curve = exponential(100, time_constant)
    assert plateau_fraction(curve) == pytest.approx(wanted)
    assert is_flat(curve) == (wanted < 0.02)


@given(st.floats(-5, 5), st.floats(0.1, 10))
def test_plateau_fraction_does_not_depend_on_unit_and_offset(offset: float, unit: float) -> None:
    curve = exponential(100, 30.0)
    moved = [(step, offset + unit * loss) for step, loss in curve]
    assert plateau_fraction(moved) == pytest.approx(plateau_fraction(curve), rel=1e-6)


def test_plateau_fraction_of_a_loss_that_rises_at_the_end_is_negative() -> None:
    fraction = plateau_fraction([(0, 5.0), (40, 3.0), (80, 3.0), (100, 3.5)])
    assert fraction == pytest.approx(-1 / 3)


@pytest.mark.parametrize(
    "curve",
    [
        [],
        [(0, 5.0)],
        [(0, 5.0), (50, 4.0), (100, 4.0)],  # two evaluations cannot show a plateau
        [(0, 5.0), (90, 4.0), (95, 4.0), (100, 4.0)],  # none before the last fifth
        [(0, 5.0), (30, 5.0), (60, 5.0), (100, 5.0)],  # no gain at all
        [(0, 5.0), (30, 5.5), (60, 6.0), (100, 6.0)],
        [(0, 5.0), (30, math.nan), (60, 4.0), (100, 4.0)],
        [(0, 5.0), (30, 4.0), (30, 4.0), (100, 4.0)],
    ],
)
def test_plateau_fraction_is_none_where_the_curve_does_not_tell(curve: list) -> None:
    assert plateau_fraction(curve) is None
    assert not is_flat(curve)


def test_read_curve_is_the_validation_part_of_the_log(tmp_path: Path) -> None:
    run = Run(tmp_path)
    assert read_curve(run) == []
    for step, split, loss in [(0, "validation", 5.0), (1, "train", 9.0), (10, "validation", 4.5)]:
        append_jsonl(run.log, {"step": step, "split": split, "loss": loss})
    assert read_curve(run) == [(0, 5.0), (10, 4.5)]


def test_mean_curve_is_over_the_steps_that_all_have() -> None:
    assert mean_curve([[(0, 4.0), (5, 3.0), (10, 2.0)], [(0, 6.0), (10, 3.0)], []]) == [(0, 5.0), (10, 2.5)]
    assert mean_curve([[], []]) == []


def test_flat_from_is_the_first_step_after_which_the_curve_stays_flat() -> None:
    assert flat_from([(n, math.exp(-n / 40)) for n in range(0, 501, 20)]) == 180  # 168.2 by its formula
    assert flat_from([(n, 9 - n / 100) for n in range(0, 501, 20)]) is None
    assert flat_from([]) is None
    pause = [
        (0, 5.0),
        (10, 4.0),
        (20, 3.0),
        (30, 3.0),
        (40, 3.0),
        (50, 3.0),
        (60, 2.0),
        (70, 1.0),
        (80, 1.0),
        (90, 1.0),
    ]
    assert is_flat(pause[:6])  # flat for a while, but not for good
    assert flat_from(pause) == 90
    assert flat_from(pause[:8]) is None
    overfitted = [(n, 3 + math.exp(-n / 20) + max(0, n - 200) / 1000) for n in range(0, 401, 20)]
    assert flat_from(overfitted) == 100


def test_growth_at_twice_the_steps_is_exact_for_a_loss_that_falls_with_the_logarithm() -> None:
    def loss(step: float) -> float:
        return 3.0 - 0.1 * math.log(1.0 + step)

    curve = [(step, loss(step)) for step in range(0, 10_001, 100)]
    gain, twice = (loss(0) - loss(steps) for steps in (10_000, 20_000))
    fraction = plateau_fraction(curve)
    assert fraction is not None
    assert growth_at_twice_the_steps(fraction) == pytest.approx(twice / gain - 1, rel=1e-3)
