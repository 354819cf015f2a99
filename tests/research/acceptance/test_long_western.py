"""Gates of long western pieces."""

from __future__ import annotations

import numpy as np

from research.acceptance import long_western

REAL = {name: np.linspace(0.0, 1.0, 21) for name in long_western.MEASURES}


def test_compare_mean_within_the_percentiles_passes() -> None:
    result = long_western.compare({name: np.full(3, 0.5) for name in long_western.MEASURES}, REAL)
    assert all(row["passed"] for row in result.values())
    assert {(round(row["real_5"], 3), round(row["real_95"], 3)) for row in result.values()} == {(0.05, 0.95)}


def test_compare_mean_outside_of_the_percentiles_fails() -> None:
    generated = {name: np.full(3, 0.5) for name in long_western.MEASURES} | {"novelty": np.full(3, 0.97)}
    result = long_western.compare(generated, REAL)
    assert [name for name, row in result.items() if not row["passed"]] == ["novelty"]


def test_compare_mean_of_rare_events_counts_as_the_bound() -> None:
    rare = np.zeros(41)
    rare[0] = 0.41
    real = REAL | {"glides": rare}
    at_mean = long_western.compare({name: np.full(3, 0.01) + (0.4 if name != "glides" else 0) for name in REAL}, real)
    assert at_mean["glides"]["real_95"] == 0.0
    assert at_mean["glides"]["passed"]
    above = long_western.compare({name: np.full(3, 0.02) for name in REAL}, real)
    assert not above["glides"]["passed"]


def test_measure_gives_every_measure_per_clip() -> None:
    rng = np.random.default_rng(0)
    clips = [(0.1 * rng.standard_normal(48_000)).astype(np.float32) for _ in range(2)]
    result = long_western.measure(clips)
    assert set(result) == set(long_western.MEASURES)
    assert all(row.shape == (2,) for row in result.values())
