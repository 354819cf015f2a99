"""Inserted copies are transformed as stated."""

from __future__ import annotations

import numpy as np
import pytest

from research.validation import inserted_copies
from research.validation.inserted_copies import RATE_HZ, InsertedCopy
from talim.metrics import pitch
from talim.synthesis.performer import perform


def make_copy(**changes: object) -> InsertedCopy:
    plain = {"source": 0, "source_seconds": 1.0, "clip_seconds": 2.0, "semitones": 0.0, "ratio": 1.0}
    unchanged = {"stretch": "phase vocoder", "filtering": "none", "drone": "none", "coding": "none"}
    return InsertedCopy(**(plain | unchanged | changes))  # type: ignore[arg-type]


def tone(hz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(10 * RATE_HZ) / RATE_HZ)).astype(np.float32)


@pytest.mark.parametrize("stretch", inserted_copies.STRETCHES)
def test_insert_copy_places_the_fragment_at_its_pitch_and_length(stretch: str) -> None:
    copy = make_copy(semitones=3.0, ratio=0.8, stretch=stretch)
    made = inserted_copies.insert_copy(tone(300.0), tone(440.0), copy, np.random.default_rng(0))
    hz = pitch.track_pitch(made, RATE_HZ).hz
    assert made.shape == (10 * RATE_HZ,)
    assert copy.end_seconds == pytest.approx(6.0)
    assert np.nanmedian(hz[:95]) == pytest.approx(300.0, rel=1e-3)
    assert np.nanmedian(hz[110:290]) == pytest.approx(440 * 2 ** (3 / 12), rel=3e-3)
    assert np.nanmedian(hz[310:]) == pytest.approx(300.0, rel=1e-3)
    assert np.sqrt(np.mean(made**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("stretch", inserted_copies.STRETCHES)
@pytest.mark.parametrize(("semitones", "ratio"), [(-3.0, 1.25), (0.0, 0.8), (2.5, 1.1)])
def test_transpose_and_stretch_changes_the_length_by_the_ratio(stretch: str, semitones: float, ratio: float) -> None:
    samples = perform(1, "demo", 5.0).samples
    assert inserted_copies.transpose_and_stretch(samples, semitones, ratio, stretch).size == pytest.approx(
        samples.size * ratio, rel=0.02
    )


@pytest.mark.parametrize("coding", inserted_copies.CODINGS[1:])
def test_apply_codec_changes_the_samples_and_keeps_the_music(coding: str) -> None:
    samples = perform(1, "demo", 3.0).samples
    coded = inserted_copies.apply_codec(samples, coding)
    assert coded.shape == samples.shape
    assert not np.array_equal(coded, samples)
    lags = np.correlate(coded[8000:24000], samples[8000:24000], "full")
    scale = np.linalg.norm(coded[8000:24000]) * np.linalg.norm(samples[8000:24000])
    assert lags.max() / scale > 0.8


def test_apply_filter_attenuates_the_other_band() -> None:
    both = tone(100.0) + tone(5000.0)
    for name, weaker in (("low-pass 2 kHz", 5000), ("high-pass 300 Hz", 100)):
        spectrum = np.abs(np.fft.rfft(inserted_copies.apply_filter(both, name)))
        stronger = 5100 - weaker
        assert spectrum[weaker * 10 - 20 : weaker * 10 + 20].max() < 0.25 * spectrum[stronger * 10]


def test_insert_copy_with_drone_adds_it_10_db_below() -> None:
    host = tone(300.0)
    made = inserted_copies.insert_copy(host, host, make_copy(drone="drone 10 dB under"), np.random.default_rng(0))
    plain = inserted_copies.insert_copy(host, host, make_copy(), np.random.default_rng(0))
    under = 20 * np.log10(np.std(made - plain) / np.std(plain))
    assert under == pytest.approx(-10.0, abs=0.5)


def test_draw_copy_stays_in_the_clip_and_uses_every_transformation() -> None:
    rng = np.random.default_rng(0)
    copies = [inserted_copies.draw_copy(rng, [3, 5]) for _ in range(200)]
    assert all(p.clip_seconds >= 0 and p.end_seconds <= inserted_copies.SECONDS + 1e-9 for p in copies)
    assert all(0.8 <= p.ratio <= 1.25 and abs(p.semitones) <= 3 for p in copies)
    for name, values in (
        ("filtering", inserted_copies.FILTERS),
        ("coding", inserted_copies.CODINGS),
        ("source", (3, 5)),
    ):
        assert {getattr(p, name) for p in copies} == set(values)
