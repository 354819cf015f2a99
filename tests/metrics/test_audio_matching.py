"""A passage inserted in another performance is found; another performance of the same mode is not."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.signal import butter, sosfilt

from research.validation.copy_detection import audio_null
from talim.metrics import audio_matching, copy_detection
from talim.metrics.audio_matching import RATE_HZ
from talim.synthesis.performer import perform

CLIPS = 12


def clip(seed: int) -> np.ndarray:
    return perform(seed, "demo", 10.0).samples


def faster(samples: np.ndarray, factor: float) -> np.ndarray:
    """Played faster and higher at once, as a tape is: exact, and foreign to any vocoder."""
    from soxr import resample

    return resample(samples, RATE_HZ * factor, RATE_HZ).astype(np.float32)


@pytest.fixture(scope="module")
def sources() -> audio_matching.ReferenceAudio:
    return audio_matching.build_reference_audio([audio_matching.audio_fingerprint(clip(seed)) for seed in range(CLIPS)])


@pytest.fixture(scope="module")
def strangers(sources: audio_matching.ReferenceAudio) -> np.ndarray:
    return audio_null(sources, [str(n) for n in range(CLIPS)])


@pytest.mark.parametrize(
    ("source", "factor"),
    [(2, 0.87), pytest.param(5, 1.0, marks=pytest.mark.slow), pytest.param(9, 1.15, marks=pytest.mark.slow)],
)
def test_find_audio_match_of_inserted_passage_gives_times_shift_and_tempo(
    sources: audio_matching.ReferenceAudio, strangers: np.ndarray, source: int, factor: float
) -> None:
    host = clip(100 + source)
    part = faster(clip(source)[2 * RATE_HZ : 7 * RATE_HZ], factor)
    host[3 * RATE_HZ : 3 * RATE_HZ + part.size] = part
    low = sosfilt(butter(2, 2000, fs=RATE_HZ, output="sos"), host)
    found = copy_detection.find_audio_copy(audio_matching.audio_fingerprint(low), sources, strangers)
    assert found is not None
    assert (found.kind, found.source) == ("sound", source)
    assert found.p_value <= copy_detection.FALSE_POSITIVE_RATE
    assert found.tempo == pytest.approx(factor, abs=0.01)
    assert found.cents == pytest.approx(1200 * np.log2(factor), abs=15)
    assert (found.clip_seconds[0] - 3.0) * factor == pytest.approx(found.source_seconds[0] - 2.0, abs=0.05)
    assert np.diff(found.clip_seconds)[0] * factor == pytest.approx(4.0, abs=0.05)


def test_find_audio_match_of_other_performances_gives_no_copy(
    sources: audio_matching.ReferenceAudio, strangers: np.ndarray
) -> None:
    alone = [
        copy_detection.find_audio_copy(audio_matching.audio_fingerprint(clip(200 + n)), sources, strangers)
        for n in range(6)
    ]
    assert all(finding is not None and finding.p_value > copy_detection.FALSE_POSITIVE_RATE for finding in alone)
    assert strangers.max() < 0.5


def test_similarity_of_same_notes_performed_anew_is_below_that_of_a_copy() -> None:
    """A copy shares what a second performance cannot: here only the notes' moments differ, by some 60 ms."""
    rng, steps = np.random.default_rng(0), np.arange(10 * RATE_HZ) / RATE_HZ

    def played(moments: np.ndarray) -> np.ndarray:
        hz = np.array([220, 247, 262, 294, 330, 262, 247, 294] * 3)[np.searchsorted(moments, steps)]
        since = steps - np.concatenate([[0], moments])[np.searchsorted(moments, steps)]
        phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
        return np.sum([np.sin(k * phase) / k for k in range(1, 6)], axis=0) * np.exp(-3 * since)

    moments = np.cumsum(rng.uniform(0.35, 0.6, 20))
    again = np.sort(moments + rng.normal(0, 0.06, 20))
    library = audio_matching.build_reference_audio([audio_matching.audio_fingerprint(played(moments))])
    copy = audio_matching.find_audio_match(audio_matching.audio_fingerprint(played(moments)), library)
    anew = audio_matching.find_audio_match(audio_matching.audio_fingerprint(played(again)), library)
    assert copy is not None
    assert anew is not None
    assert copy.similarity > 0.95
    assert anew.similarity < 0.9


def test_find_audio_match_with_excluded_source_skips_it(sources: audio_matching.ReferenceAudio) -> None:
    itself = audio_matching.find_audio_match(sources.prints[7], sources)
    assert itself is not None
    assert itself.source == 7
    assert itself.similarity > 0.95
    assert (itself.cents, itself.ratio) == (pytest.approx(0, abs=6), pytest.approx(1, abs=0.006))
    another = audio_matching.find_audio_match(sources.prints[7], sources, exclude=[7])
    assert another is not None
    assert another.source != 7
    assert audio_matching.find_audio_match(sources.prints[7], sources, exclude=range(CLIPS)) is None


@settings(max_examples=10, deadline=None)
@given(st.floats(0.01, 100))
def test_audio_fingerprint_with_gain_is_unchanged(gain: float) -> None:
    samples = clip(3)[: 2 * RATE_HZ]
    plain, louder = (audio_matching.audio_fingerprint(samples), audio_matching.audio_fingerprint(samples * gain))
    np.testing.assert_allclose(louder.astype(float), plain.astype(float), atol=0.02)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000))
def test_similarity_with_filter_is_unchanged_and_symmetric(seed: int) -> None:
    rng = np.random.default_rng(seed)
    here, there = rng.standard_normal((2, 97, 200)).astype(np.float32)
    bands = rng.normal(0, 3, (97, 1)).astype(np.float32)
    assert audio_matching.similarity(here + bands, here) == pytest.approx(1.0, abs=1e-3)
    assert audio_matching.similarity(here, there) == pytest.approx(audio_matching.similarity(there, here), abs=1e-5)
    assert audio_matching.similarity(here, there) < 0.2


def test_similarity_is_that_of_the_least_similar_segments() -> None:
    rng = np.random.default_rng(0)
    here, there = rng.standard_normal((2, 97, 200)).astype(np.float32)
    half = np.concatenate([here[:, :100], there[:, 100:]], axis=1)
    assert audio_matching.similarity(here, half) < 0.2
    noisy = here + 0.5 * there
    assert audio_matching.similarity(here, noisy) == pytest.approx(1 / np.sqrt(1.25), abs=0.05)


def test_find_audio_match_without_passages_is_none(sources: audio_matching.ReferenceAudio) -> None:
    short = audio_matching.audio_fingerprint(clip(0)[: 2 * RATE_HZ])
    assert audio_matching.find_audio_match(short, sources) is None
    mixed = audio_matching.build_reference_audio([short, sources.prints[4], short])
    found = audio_matching.find_audio_match(sources.prints[4], mixed)
    assert found is not None
    assert found.source == 1
    for prints in ([], [short]):
        empty = audio_matching.build_reference_audio(prints)
        assert audio_matching.find_audio_match(sources.prints[0], empty) is None
    silent = audio_matching.find_audio_match(audio_matching.audio_fingerprint(np.zeros(10 * RATE_HZ)), sources)
    assert silent is None or silent.similarity < 0.2


@pytest.mark.parametrize("samples", [np.zeros(0), np.zeros((2, 100)), np.array([0.0, np.nan])])
def test_audio_fingerprint_of_unusable_samples_raises(samples: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one non-empty channel"):
        audio_matching.audio_fingerprint(samples)


@pytest.mark.parametrize("sizes", [[7], [1, 40_000, 3], [320, 2048, 100_001], [0, 5, 0]])
def test_audio_fingerprint_of_blocks_equals_that_of_the_whole(sizes: list[int]) -> None:
    samples = np.random.default_rng(0).normal(size=sum(sizes)).astype(np.float32)
    blocks = np.split(samples, np.cumsum(sizes)[:-1])
    whole = audio_matching.audio_fingerprint(samples)
    assert whole.shape == (audio_matching.BINS, 1 + max(samples.size, audio_matching.FRAME) // 320)
    # stored with 16 bits: a transform of more frames at once may round a last digit otherwise
    found = audio_matching.audio_fingerprint_of_blocks(blocks)
    np.testing.assert_allclose(found.astype(np.float32), whole.astype(np.float32), rtol=2e-3, atol=1e-3)


def test_find_audio_match_in_small_steps_finds_the_same(
    sources: audio_matching.ReferenceAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = audio_matching.find_audio_match(sources.prints[5], sources, exclude=[5])
    monkeypatch.setattr(audio_matching, "_MAX_SCORES", 1)
    monkeypatch.setattr(audio_matching, "BATCH_PASSAGES", 1)
    in_steps = audio_matching.find_audio_match(sources.prints[5], sources, exclude=[5])
    assert at_once is not None
    assert in_steps is not None
    assert (in_steps.source, in_steps.similarity) == (at_once.source, pytest.approx(at_once.similarity))


@pytest.mark.parametrize("ratio", [1.0, 0.8, 1.2342])
@pytest.mark.parametrize("frames", [0, 1, 4, 5, 6, 35, 400])
def test_coarse_columns_are_means_over_time_whatever_is_computed_at_once(
    frames: int, ratio: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    fingerprint = np.random.default_rng(0).normal(size=(3, frames))
    size = audio_matching.COARSE_FRAMES * ratio
    counted = max(0, int((frames + 1e-6) / size))
    expected = np.zeros((3, counted))
    for column in range(counted):  # the overlap of each frame with the column
        low, high = column * size, (column + 1) * size
        overlap = np.clip(np.minimum(high, np.arange(1, frames + 1)) - np.maximum(low, np.arange(frames)), 0, None)
        expected[:, column] = fingerprint @ overlap / size
    for at_once in (4096, 7, 1):
        monkeypatch.setattr(audio_matching, "_COLUMNS", at_once)
        np.testing.assert_allclose(audio_matching._coarse(fingerprint, ratio), expected, atol=1e-6)


def test_coarse_columns_of_an_hour_take_little_more_memory_than_they_have() -> None:
    hour = np.zeros((audio_matching.BINS, 3600 * 50), np.float16)
    tracemalloc.start()
    columns = audio_matching._coarse(hour, 1.0)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert columns.shape == (audio_matching.BINS, 36_000)
    assert peak < 3 * columns.nbytes + 60e6


def test_sources_in_small_blocks_give_the_same_match(
    sources: audio_matching.ReferenceAudio, monkeypatch: pytest.MonkeyPatch
) -> None:
    at_once = audio_matching.find_audio_match(sources.prints[5], sources, exclude=[5])
    monkeypatch.setattr(audio_matching, "_BLOCK_PASSAGES", 50)
    blocks = audio_matching.build_reference_audio(sources.prints)
    assert len(blocks.passages) > 3
    in_blocks = audio_matching.find_audio_match(blocks.prints[5], blocks, exclude=[5])
    assert at_once is not None
    assert in_blocks is not None
    assert (in_blocks.source, in_blocks.similarity) == (at_once.source, pytest.approx(at_once.similarity))


def test_memory_of_the_index_does_not_follow_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audio_matching, "PCA_FIT_PASSAGES", 50)
    monkeypatch.setattr(audio_matching, "_BLOCK_PASSAGES", 500)

    def peak(count: int) -> int:
        prints = (np.random.default_rng(n).normal(size=(111, 500)).astype(np.float16) for n in range(count))
        tracemalloc.start()
        built = audio_matching.build_reference_audio(prints)
        audio_matching.find_audio_match(built.prints[0], built)
        bytes_held = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return bytes_held

    peak(10)  # imports
    assert peak(80) < peak(20) + 1e6  # 60 prints are 6.7 MB, their passages 2.8 MB
