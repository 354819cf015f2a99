"""Score rows: means and intervals by recording, and references split by recording."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from talim.audio import Audio
from talim.evaluation import score_table
from talim.evaluation.clip_measures import MEASURE_DESCRIPTIONS, ClipMeasures
from talim.evaluation.intervals import Effect, mean_interval
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
    assert (first.value, first.n, first.reference) == (2.5, 3, 2)
    assert (first.low, first.high) == (0, (mean_interval([1, 4]) or [0, 0])[1])  # nothing is played less than 0 times
    levels = next(row for row in rows if row.name == "noise_db")
    assert levels.low == pytest.approx((mean_interval([1, 4]) or [0, 0])[0])
    assert first.baseline is not None
    assert np.isnan(first.baseline)
    assert score_table.rows_as_json(rows)[0]["baseline"] is None


def test_score_page_shows_the_values_of_two_recordings_instead_of_an_interval() -> None:
    def page(recordings: list[str]) -> str:
        rows = score_table.clip_measure_rows(measured([1, 4, 4, 4], recordings), measured([2, 2], ["a", "b"]), None)
        protocol = dict.fromkeys(("hash", "seconds", "rate_hz", "generated", "real"), 1)
        result = {"scores": score_table.rows_as_json(rows[:1]), "protocol": protocol, "warnings": []}
        return score_table.score_page("page", result)

    assert '<td class="number">2 recordings: 1 and 4</td>' in page(["a", "b", "b", "b"])
    low, high = mean_interval([1, 4, 4, 4]) or (0, 0)
    assert low < 0  # which no such value is
    assert f'<td class="number">{high:.3g} or less</td>' in page(["a", "b", "c", "d"])


def test_clip_measure_rows_without_base_have_no_baseline() -> None:
    rows = score_table.clip_measure_rows(measured([1, 2], ["a", "b"]), measured([2], ["a"]), None)
    assert {row.baseline for row in rows} == {None}
    assert not any("base" in row.sentence for row in rows)


@pytest.fixture
def embedded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clips are their own embeddings, in units of one."""
    monkeypatch.setattr(score_table.embeddings, "embed", lambda clips, extractor, cache: np.asarray(clips))
    monkeypatch.setattr(score_table.embeddings, "typical_spread", lambda name: np.ones(4))


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
    assert abs(distance.value) < 60  # the same recordings again, 5600 apart
    assert distance.reference > 1000


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


@pytest.mark.usefixtures("embedded")
def test_distance_rows_say_how_near_the_codec_alone_would_come_and_that_few_recordings_are_rough() -> None:
    real, codec = vectors(0, 0, 0), vectors(3, 3, 3, seed=4)
    rows, warnings = score_table.distance_rows(
        vectors(9, 9, 9), real, None, MetricCache(None), np.random.default_rng(0), codec
    )
    distance = next(row for row in rows if row.name == "kernel_distance_timbre")
    assert distance.resynthesis is not None
    assert distance.value is not None
    assert 0 < distance.resynthesis < distance.value
    assert f"through the base's codec {distance.resynthesis:.3g}" in distance.sentence
    assert any("only 3 recordings in a set: intervals from fewer than 6 are rough" in text for text in warnings)


def paired(shift: float, recordings: int, seed: int) -> list[np.ndarray]:
    """Real, generated and base rows of one distribution; the base's are `shift` away from it."""
    rng = np.random.default_rng(seed)
    return [rng.normal(0, 1, (12, 4)), rng.normal(0, 1, (recordings, 4)), rng.normal(shift, 1, (recordings, 4))]


def distance_gain(rows: list[np.ndarray]) -> Effect | None:
    real, generated = (ClipSet([], [], [f"r{n}" for n in range(len(part))]) for part in rows[:2])
    return score_table._distance_gain(real, generated, rows)


def is_told(gain: Effect | None) -> bool:
    return gain is not None and gain.p_value <= 0.05


def test_distance_gain_finds_a_planted_difference_and_needs_four_recordings() -> None:
    gains = [distance_gain(paired(2.0, 8, seed)) for seed in range(4)]
    assert all(is_told(gain) and gain is not None and gain.mean > 0 for gain in gains)
    assert distance_gain(paired(2.0, 3, 0)) is None
    rows = paired(0.0, 8, 0)
    equal = distance_gain([rows[0], rows[1], rows[1]])
    assert equal is not None
    assert (equal.mean, equal.error) == (0.0, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("recordings", [6, 12])
def test_distance_gain_of_equal_sets_is_told_by_chance_alone(recordings: int) -> None:
    told = np.mean([is_told(distance_gain(paired(0.0, recordings, seed))) for seed in range(150)])
    assert told <= 0.086  # 0.05 and two standard errors


@pytest.mark.parametrize(
    ("direction", "after", "before", "reference", "gain"),
    [
        ("higher_is_better", [3.0, 5.0], [1.0, 1.0], None, 3.0),
        ("lower_is_better", [3.0, 5.0], [1.0, 1.0], None, -3.0),
        ("match_reference", [3.0, 5.0], [1.0, 1.0], 4.0, 2.0),  # both are 1 away instead of 3
        ("match_reference", [3.0, 5.0], [1.0, 1.0], None, None),
        ("higher_is_better", [3.0], [1.0], None, None),  # one recording has no error
    ],
)
def test_paired_gain_follows_the_direction(
    direction: str, after: list[float], before: list[float], reference: float | None, gain: float | None
) -> None:
    sets = [
        score_table.mean_over_recordings(values, [f"r{n}" for n in range(len(values))]) for values in (after, before)
    ]
    found = score_table.paired_gain(sets[0], sets[1], reference, direction)
    assert (None if found is None else found.mean) == gain


@pytest.mark.usefixtures("embedded")
def test_real_music_is_told_from_a_base_that_differs_in_place_or_in_diversity() -> None:
    """A base elsewhere is told by the distance, one that repeats itself by the diversity; few recordings tell none."""
    real, rng = vectors(*[0.0] * 8, clips=1), np.random.default_rng(0)
    elsewhere, alike = vectors(*[4.0] * 8, clips=1, seed=1), ClipSet([np.full(4, 0.1)] * 8, [], real.recordings)  # type: ignore[list-item]
    same = vectors(*[0.0] * 8, clips=1, seed=2)

    def p_values(base: ClipSet) -> dict[str, float | None]:
        rows, _ = score_table.distance_rows(same, real, base, MetricCache(None), rng)
        return {row.name.removesuffix("_timbre"): row.separation_p for row in rows if row.name.endswith("timbre")}

    told = {name: p_values(base) for name, base in (("elsewhere", elsewhere), ("alike", alike), ("same", same))}
    for name, by_base in told.items():
        assert all(p is not None and 0 <= p <= 1 for p in by_base.values()), name
    assert told["elsewhere"]["kernel_distance"] < 0.01  # type: ignore[operator]
    assert told["alike"]["diversity"] < 0.01  # type: ignore[operator]
    assert told["same"]["kernel_distance"] > 0.05  # type: ignore[operator]
    assert told["same"]["diversity"] > 0.05  # type: ignore[operator]
    few = vectors(0, 0, 0)
    rows, _ = score_table.distance_rows(few, few, few, MetricCache(None), rng)
    assert {row.separation_p for row in rows} == {None}


@pytest.mark.parametrize(
    ("real", "base", "told"),
    [
        ([5.0, 6.0, 5.5, 5.2], [1.0, 2.1, 1.4, 1.2], True),  # 4 apart in each recording
        ([5.0, 1.0, 3.0, 4.0], [1.0, 5.0, 4.0, 3.0], False),
        ([5.0, 6.0], [1.0, 2.0], None),  # two recordings
    ],
)
def test_separation_of_a_score_of_single_clips_is_paired_by_recording(
    real: list[float], base: list[float], told: bool | None
) -> None:
    estimates = [
        score_table.mean_over_recordings(values, [f"r{n}" for n in range(len(values))]) for values in (real, base)
    ]
    measure = score_table.Measure("novelty", "match_reference", "fraction", "new")
    row = score_table.score_row(measure, estimates[1], estimates[0], estimates[1])
    assert (None if row.separation_p is None else row.separation_p < 0.05) is told
    assert row.per_prompt == tuple(base)


@pytest.mark.parametrize(
    ("clips", "error", "too_few"),
    [(2, 0.1, ["value", "baseline"]), (8, 0.1, ["reference"]), (12, 0.1, []), (12, 1e4, ["value"])],  # 2: no halves
)
def test_distances_of_few_clips_say_which_values_are_too_few_to_tell(
    clips: int, error: float, too_few: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    rng = np.random.default_rng(1)
    monkeypatch.setattr(score_table, "EMBEDDINGS", ["timbre"])
    monkeypatch.setattr(score_table.embeddings, "load", lambda name: name)
    monkeypatch.setattr(score_table.embeddings, "typical_spread", lambda name: 1.0)
    drawn = iter([rng.normal(shift, 1.0, (clips, 4)) for shift in (0.0, 3.0, 3.0)])
    monkeypatch.setattr(score_table.embeddings, "embed", lambda *_: next(drawn))
    silence = [Audio(np.zeros((1, 8), np.float32), 8)] * clips
    found = (error, clips - 1)
    monkeypatch.setattr(score_table.distribution_distances, "jackknife_by_recording", lambda *_: found)
    real, generated, base = (ClipSet(silence, [], [f"r{n}" for n in range(clips)]) for _ in range(3))
    rows, _ = score_table.distance_rows(real, generated, base, MetricCache(None), rng)
    distance = rows[0]
    assert list(distance.too_few_clips) == too_few
    assert distance.sentence.count("(too few clips to tell)") == len(too_few)


def test_a_distance_of_too_few_clips_says_so_beside_its_value() -> None:
    measure = score_table.Measure("kernel_distance_pitch", "lower_is_better", "0 up", "distance")
    few = ["value", "baseline"]
    row = score_table.score_row(measure, score_table.Estimate(-0.31, None, 2), 2.0, 7.0, too_few_clips=few)
    assert row.sentence == (
        "distance: too few clips to tell (0 up); real music 2, the base alone 7 (too few clips to tell)"
    )


def test_a_kernel_distance_below_zero_is_not_told_as_one() -> None:
    measure = score_table.Measure("kernel_distance_pitch", "lower_is_better", "0 up", "distance")
    row = score_table.score_row(measure, score_table.Estimate(-0.31, None, 3), 2.0, -0.1)
    assert "distance: not distinguishable from 0 (0 up); real music 2, the base alone not dist" in row.sentence
    assert row.value == -0.31  # the estimate itself is kept
    other = score_table.score_row(measure._replace(name="noise_db"), score_table.Estimate(-31.0, None, 3), None)
    assert "-31" in other.sentence
