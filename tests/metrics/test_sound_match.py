"""A performance planted in another is found where it is; another performance of the same mode is not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from talim.metrics import originality, sound_match
from talim.metrics.sound_match import RATE_HZ
from talim.traditions.performer import perform

CLIPS = 12


def clip(seed: int) -> np.ndarray:
    return perform(seed, "demo", 10.0).samples


def faster(samples: np.ndarray, factor: float) -> np.ndarray:
    """Played faster and higher at once, as a tape is: exact, and foreign to any vocoder."""
    from soxr import resample

    return resample(samples, RATE_HZ * factor, RATE_HZ).astype(np.float32)


@pytest.fixture(scope="module")
def sources() -> sound_match.SoundLibrary:
    return sound_match.sound_library([sound_match.sound_print(clip(seed)) for seed in range(CLIPS)])


@pytest.fixture(scope="module")
def strangers(sources: sound_match.SoundLibrary) -> np.ndarray:
    return originality.sound_strangers(sources, [str(n) for n in range(CLIPS)])


@pytest.mark.parametrize(("source", "factor"), [(2, 0.87), (5, 1.0), (9, 1.15)])
def test_a_planted_passage_is_named_with_times_shift_and_tempo(
    sources: sound_match.SoundLibrary, strangers: np.ndarray, source: int, factor: float
) -> None:
    host = clip(100 + source)
    part = faster(clip(source)[2 * RATE_HZ : 7 * RATE_HZ], factor)
    host[3 * RATE_HZ : 3 * RATE_HZ + part.size] = part
    low = sosfilt(butter(2, 2000, fs=RATE_HZ, output="sos"), host)
    found = originality.copied_sound(sound_match.sound_print(low), sources, strangers)
    assert found is not None
    assert (found.kind, found.source) == ("sound", source)
    assert found.p_value <= originality.FALSE_ALARMS
    assert found.tempo == pytest.approx(factor, abs=0.01)
    assert found.cents == pytest.approx(1200 * np.log2(factor), abs=15)
    assert (found.clip_seconds[0] - 3.0) * factor == pytest.approx(found.source_seconds[0] - 2.0, abs=0.05)
    assert np.diff(found.clip_seconds)[0] * factor == pytest.approx(4.0, abs=0.05)


def test_other_performances_of_the_mode_raise_no_alarm(
    sources: sound_match.SoundLibrary, strangers: np.ndarray
) -> None:
    alone = [
        originality.copied_sound(sound_match.sound_print(clip(200 + n)), sources, strangers) for n in range(6)
    ]
    assert all(finding is not None and finding.p_value > originality.FALSE_ALARMS for finding in alone)
    assert strangers.max() < 0.5


def test_the_same_notes_played_again_are_less_alike_than_a_copy() -> None:
    """A copy shares what a second performance cannot: here only the notes' moments differ, by some 60 ms."""
    rng, steps = np.random.default_rng(0), np.arange(10 * RATE_HZ) / RATE_HZ

    def played(moments: np.ndarray) -> np.ndarray:
        hz = np.array([220, 247, 262, 294, 330, 262, 247, 294] * 3)[np.searchsorted(moments, steps)]
        since = steps - np.concatenate([[0], moments])[np.searchsorted(moments, steps)]
        phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
        return np.sum([np.sin(k * phase) / k for k in range(1, 6)], axis=0) * np.exp(-3 * since)

    moments = np.cumsum(rng.uniform(0.35, 0.6, 20))
    again = np.sort(moments + rng.normal(0, 0.06, 20))
    library = sound_match.sound_library([sound_match.sound_print(played(moments))])
    copy = sound_match.search(sound_match.sound_print(played(moments)), library)
    anew = sound_match.search(sound_match.sound_print(played(again)), library)
    assert copy is not None
    assert anew is not None
    assert copy.likeness > 0.95
    assert anew.likeness < 0.9


def test_a_clip_is_not_compared_with_its_own_recording(sources: sound_match.SoundLibrary) -> None:
    itself = sound_match.search(sources.prints[7], sources)
    assert itself is not None
    assert itself.source == 7
    assert itself.likeness > 0.95
    assert (itself.cents, itself.ratio) == (pytest.approx(0, abs=6), pytest.approx(1, abs=0.006))
    another = sound_match.search(sources.prints[7], sources, without=[7])
    assert another is not None
    assert another.source != 7
    assert sound_match.search(sources.prints[7], sources, without=range(CLIPS)) is None


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 100))
def test_a_print_ignores_gain(gain: float) -> None:
    samples = clip(3)[: 2 * RATE_HZ]
    plain, louder = sound_match.sound_print(samples), sound_match.sound_print(samples * gain)
    np.testing.assert_allclose(louder.astype(float), plain.astype(float), atol=0.02)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_likeness_ignores_a_filter_and_is_symmetric(seed: int) -> None:
    rng = np.random.default_rng(seed)
    here, there = rng.standard_normal((2, 97, 200)).astype(np.float32)
    bands = rng.normal(0, 3, (97, 1)).astype(np.float32)
    assert sound_match.likeness(here + bands, here) == pytest.approx(1.0, abs=1e-3)
    assert sound_match.likeness(here, there) == pytest.approx(sound_match.likeness(there, here), abs=1e-5)
    assert sound_match.likeness(here, there) < 0.2


def test_likeness_is_that_of_the_least_alike_parts() -> None:
    rng = np.random.default_rng(0)
    here, there = rng.standard_normal((2, 97, 200)).astype(np.float32)
    half = np.concatenate([here[:, :100], there[:, 100:]], axis=1)
    assert sound_match.likeness(here, half) < 0.2
    noisy = here + 0.5 * there
    assert sound_match.likeness(here, noisy) == pytest.approx(1 / np.sqrt(1.25), abs=0.05)


def test_nothing_to_compare(sources: sound_match.SoundLibrary) -> None:
    short = sound_match.sound_print(clip(0)[: 2 * RATE_HZ])
    assert sound_match.search(short, sources) is None
    mixed = sound_match.sound_library([short, sources.prints[4], short])
    found = sound_match.search(sources.prints[4], mixed)
    assert found is not None
    assert found.source == 1
    for prints in ([], [short]):
        empty = sound_match.sound_library(prints)
        assert sound_match.search(sources.prints[0], empty) is None
    silent = sound_match.search(sound_match.sound_print(np.zeros(10 * RATE_HZ)), sources)
    assert silent is None or silent.likeness < 0.2


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros((2, 100)), np.array([0.0, np.nan])])
def test_a_print_needs_one_finite_channel(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one non-empty channel"):
        sound_match.sound_print(samples)
