"""Score rows: means and intervals by recording, and references split by recording."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from talim.evaluation import score_table
from talim.evaluation.clip_measures import MEASURE_DESCRIPTIONS, ClipMeasures
from talim.evaluation.score_table import ClipSet
from talim.metrics.cache import MetricCache


def measured(values: list[float], recordings: list[str]) -> ClipSet:
    clips = [ClipMeasures(dict.fromkeys(MEASURE_DESCRIPTIONS, value), np.zeros(0), Counter()) for value in values]
    return ClipSet([], clips, recordings)


def test_clip_measure_rows_average_over_recordings() -> None:
    rows = score_table.clip_measure_rows(
        measured([1, 1, 4], ["a", "a", "b"]), measured([2, 2], ["a", "b"]), measured([float("nan")], ["a"])
    )
    first = rows[0]
    assert (first.value, first.low, first.high, first.n, first.reference) == (2.5, 1, 4, 3, 2)
    assert first.baseline is not None
    assert np.isnan(first.baseline)
    assert score_table.rows_as_json(rows)[0]["baseline"] is None


def test_clip_measure_rows_without_base_have_no_baseline() -> None:
    rows = score_table.clip_measure_rows(measured([1, 2], ["a", "b"]), measured([2], ["a"]), None)
    assert {row.baseline for row in rows} == {None}
    assert not any("base" in row.sentence for row in rows)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips are their own embeddings."""
    monkeypatch.setattr(score_table.embeddings, "embed", lambda clips, extractor, cache: np.asarray(clips))


def vectors(*centres: float, clips: int = 8, seed: int = 0) -> ClipSet:
    """Clips of one recording per centre; the recordings alternate."""
    rng = np.random.default_rng(seed)
    rows = np.stack([rng.normal(centre, 1.0, (clips, 4)) for centre in centres], axis=1).reshape(-1, 4)
    return ClipSet(list(rows), [], [f"r{n}" for n in range(len(centres))] * clips)  # type: ignore[arg-type]


@pytest.mark.usefixtures("embedded")
def test_distance_rows_split_the_reference_by_recording_not_by_clip() -> None:
    """Two recordings lie far apart: halves of whole recordings differ, halves of clips would not."""
    real = vectors(0, 40)
    rows, _ = score_table.distance_rows(vectors(0, 40, seed=1), real, None, MetricCache(None), np.random.default_rng(0))
    distance = next(row for row in rows if row.name == "kernel_distance_timbre")
    assert distance.value is not None
    assert distance.reference is not None
    assert abs(distance.value) < 10  # the same recordings again
    assert distance.reference > 100


@pytest.mark.usefixtures("embedded")
@pytest.mark.parametrize(
    "real", [vectors(0, clips=30), vectors(0, 1, clips=1), vectors(0, 1, 2, clips=1)], ids=["one", "two", "three"]
)
def test_distance_rows_with_too_few_recordings_have_no_reference_and_say_so(real: ClipSet) -> None:
    rows, _ = score_table.distance_rows(vectors(0, 1), real, vectors(2, 3), MetricCache(None), np.random.default_rng(0))
    distances = [row for row in rows if row.name.startswith("kernel_distance")]
    assert len(distances) == 3
    for row in distances:
        assert row.reference is None
        assert row.baseline is not None
        assert "real music not measured (two halves of whole recordings need two clips or more each)" in row.sentence


@pytest.mark.usefixtures("embedded")
def test_distance_rows_of_single_clips_are_left_out_with_a_warning() -> None:
    rows, warnings = score_table.distance_rows(
        vectors(0, clips=1), vectors(0, 1), None, MetricCache(None), np.random.default_rng(0)
    )
    assert rows == []
    assert "two clips or more" in warnings[0]
