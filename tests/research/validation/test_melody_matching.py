"""Search for copied passages in melodies of one mode."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from research.validation import melody_matching
from talim.metrics.pitch import PitchTrack

SCALE = np.add.outer([0, 1200], [0, 150, 350, 500, 700, 850, 1050]).ravel()


def line(seed: int, seconds: float = 10.0) -> np.ndarray:
    """Cents every 20 ms of a walk on one scale with glides, vibrato and breaths."""
    rng = np.random.default_rng(seed)
    count, out, degree, last = int(seconds * 50), [], 3, 500.0
    while sum(len(o) for o in out) < count:
        frames = int(rng.uniform(9, 45))
        degree = abs(degree + int(rng.choice([-3, -2, -1, 1, 2, 4])))
        degree = degree if degree < 14 else 26 - degree
        time = np.arange(frames) * 0.02
        curve = SCALE[degree] + (last - SCALE[degree]) * np.exp(-time / 0.05) + 15 * np.sin(35 * time)
        last = float(SCALE[degree])
        if rng.random() < 0.15:
            curve[-4:] = np.nan
        out.append(curve)
    return np.concatenate(out)[:count]


def melody(cents: np.ndarray) -> PitchTrack:
    return PitchTrack(440 * 2 ** (cents / 1200), np.isfinite(cents), 0.02)


@pytest.fixture(scope="module")
def sources() -> melody_matching.ReferenceMelodies:
    return melody_matching.build_reference_melodies([melody(line(seed)) for seed in range(40)])


def with_copy(seed: int, source: np.ndarray, at: float, cents: float, ratio: float) -> tuple[np.ndarray, float]:
    """Another line with five seconds of the source from `at`, and where they begin in it."""
    rng = np.random.default_rng(seed)
    host, frames = line(1000 + seed), int(5 * ratio * 50)
    begin = int(rng.integers(0, host.size - frames + 1))
    times = at + np.arange(frames) * 0.02 / ratio
    host[begin : begin + frames] = melody_matching.sample_track(melody(source), times) + cents
    host += rng.normal(0, 6, host.size)
    host[rng.random(host.size) < 0.03] = np.nan
    return host, begin * 0.02


def test_find_melody_match_of_a_copy_gives_times_interval_and_ratio(sources: melody_matching.ReferenceMelodies) -> None:
    rng, right = np.random.default_rng(0), 0
    null = melody_matching.melody_null(sources, [str(n) for n in range(40)])
    for trial in range(20):
        source, at = int(rng.integers(40)), float(rng.uniform(0, 5))
        cents, ratio = float(rng.uniform(-300, 300)), float(np.exp(rng.uniform(np.log(0.8), np.log(1.25))))
        host, begin = with_copy(trial, line(source), at, cents, ratio)
        found = melody_matching.find_melody_match(melody(host), sources)
        assert found is not None
        offset = (found.clip_seconds[0] - begin) / ratio - (found.source_seconds[0] - at)
        right += (
            found.source == source
            and abs(offset) < 0.15
            and abs(found.ratio / ratio - 1) < 0.03
            and abs((found.cents - cents + 600) % 1200 - 600) < 20
            and found.similarity > np.quantile(null, 0.99)
        )
    assert right >= 19


def test_find_melody_match_without_a_copy_stays_below_the_null(sources: melody_matching.ReferenceMelodies) -> None:
    null = melody_matching.melody_null(sources, [str(n) for n in range(40)])
    matches = [melody_matching.find_melody_match(melody(line(5000 + n)), sources) for n in range(20)]
    alarms = [match.similarity > null.max() for match in matches if match is not None]
    assert np.mean(alarms) <= 0.1
    assert null.max() < 0.75


def test_find_melody_match_excludes_the_sources_without(sources: melody_matching.ReferenceMelodies) -> None:
    itself = melody_matching.find_melody_match(sources.tracks[7], sources)
    assert itself is not None
    assert (itself.source, round(itself.similarity, 1)) == (7, 1.0)
    another = melody_matching.find_melody_match(sources.tracks[7], sources, without=[7])
    assert another is not None
    assert another.source != 7


@settings(max_examples=20)
@given(st.floats(-340, 340), st.integers(-2, 2), st.integers(0, 1000))
def test_alignment_similarity_ignores_transposition_but_not_errors(cents: float, octaves: int, seed: int) -> None:
    there = line(seed, 4.5)
    cents += 1200 * octaves
    found, interval = melody_matching.alignment_similarity(np.stack([there + cents, there + cents]), there)
    assert found[0] == pytest.approx(1.0, abs=0.02)
    assert abs((interval[0] - cents + 600) % 1200 - 600) < 1
    rough = there + np.random.default_rng(seed).normal(0, 40, there.size)
    assert melody_matching.alignment_similarity(rough[None], there)[0][0] < 0.85


def test_alignment_similarity_beyond_350_cents_is_low() -> None:
    there = line(3, 4.5)
    assert melody_matching.alignment_similarity(there[None] + 600, there)[0][0] < 0.3


def test_alignment_similarity_of_a_held_note_is_low() -> None:
    held = np.full(225, 300.0)
    assert melody_matching.alignment_similarity(held[None], held)[0][0] < 0.35


def test_find_melody_match_with_nothing_to_compare_is_none(sources: melody_matching.ReferenceMelodies) -> None:
    assert melody_matching.find_melody_match(melody(line(0, 2.0)), sources) is None
    assert melody_matching.find_melody_match(melody(line(0)), melody_matching.build_reference_melodies([])) is None
    assert (
        melody_matching.find_melody_match(
            melody(line(0)), melody_matching.build_reference_melodies([melody(line(1, 3.0))])
        )
        is None
    )
    assert melody_matching.find_melody_match(melody(np.full(500, np.nan)), sources) is None


def test_find_melody_copy_names_source_and_interval() -> None:
    seconds = np.arange(500) * 0.02
    cents = 400 * np.sin(0.9 * seconds) + 300 * np.sin(2.3 * seconds + 1) + 200 * np.sin(4.1 * seconds)
    other = 400 * np.sin(1.3 * seconds + 2) + 300 * np.sin(3.1 * seconds) + 200 * np.sin(5.3 * seconds)
    tracks = [PitchTrack(440 * 2 ** (c / 1200), np.ones(500, bool), 0.02) for c in (other, cents)]
    sources = melody_matching.build_reference_melodies(tracks)
    higher = PitchTrack(tracks[1].hz * 2 ** (250 / 1200), np.ones(500, bool), 0.02)
    found = melody_matching.find_melody_copy(higher, sources, np.full(99, 0.5))
    assert found is not None
    assert (found.source, found.p_value) == (1, 0.01)
    assert found.detail.startswith("+250 cents, 1.0")
    with pytest.raises(ValueError, match="names of recordings"):
        melody_matching.melody_null(sources, ["a"])
