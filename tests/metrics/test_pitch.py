"""The pitch tracker on tones and performances of known pitch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.pretraining.western_style import perform as perform_western
from talim.audio import Audio
from talim.metrics import pitch
from talim.metrics.cache import MetricCache

RATE_HZ = 16000


def tone(f0_hz: np.ndarray, harmonics: int = 5, noise: float = 0.01) -> np.ndarray:
    phase = 2 * np.pi * np.cumsum(f0_hz) / RATE_HZ
    sound = sum(np.sin(k * phase) / k for k in range(1, harmonics + 1))
    return sound + noise * np.random.default_rng(0).standard_normal(f0_hz.size)


@pytest.mark.parametrize("cents", [0.0, 3.0, -4.4, 37.5])
def test_track_pitch_of_steady_tone_is_accurate_to_a_tenth_of_a_cent(cents: float) -> None:
    track = pitch.track_pitch(tone(np.full(RATE_HZ, 220 * 2 ** (cents / 1200))), RATE_HZ)
    assert np.nanmedian(track.cents[5:-5]) == pytest.approx(cents - 1200, abs=0.1)


def test_track_pitch_of_glide_follows_it() -> None:
    seconds = np.arange(2 * RATE_HZ) / RATE_HZ
    curve = 300 * 2 ** (np.sin(2 * np.pi * seconds) / 6)
    track = pitch.track_pitch(tone(curve, 1), RATE_HZ)
    at = np.minimum(np.arange(track.hz.size) * round(track.hop_seconds * RATE_HZ), curve.size - 1)
    errors = np.abs(1200 * np.log2(track.hz / curve[at]))
    assert np.nanmedian(errors) < 1
    assert np.nanpercentile(errors, 90) < 5


def written_out(frame: np.ndarray, rate_hz: int, coarse_hz: float) -> float:
    """The estimate of `refine_f0` for one frame, each Fourier sum term by term (Auger and Flandrin 1995)."""
    steps = np.arange(frame.size) - frame.size / 2
    hann = 0.5 + 0.5 * np.cos(2 * np.pi * steps / frame.size)
    slope = -np.pi / frame.size * np.sin(2 * np.pi * steps / frame.size)
    fine = coarse_hz
    for _ in range(2):
        estimates, weights = [], []
        for order in range(1, 9):
            wave = np.exp(-2j * np.pi * order * fine / rate_hz * steps)
            plain, derived = (frame * hann * wave).sum(), (frame * slope * wave).sum()
            estimate = fine - (derived / plain).imag * rate_hz / (2 * np.pi) / order
            if order * fine < 0.45 * rate_hz and abs(1200 * np.log2(max(estimate, 1.0) / coarse_hz)) < 40:
                estimates.append(estimate)
                weights.append(order**2 * abs(plain) ** 2)
        fine = float(np.average(estimates, weights=weights)) if estimates else fine
    return fine


@pytest.mark.parametrize("rate_hz", [8000, 16000, 22050])  # frames of 512, 1024 and 1410 samples
def test_refine_f0_equals_the_sums_written_out(rate_hz: int) -> None:
    rng, hop = np.random.default_rng(1), 80
    seconds = np.arange(4 * rate_hz) / rate_hz
    curve_hz = 300 * 2 ** (np.sin(2 * np.pi * seconds) / 2)
    sound = np.sin(2 * np.pi * np.cumsum(curve_hz) / rate_hz) + 0.1 * rng.standard_normal(seconds.size)
    count = seconds.size // hop
    coarse_hz = curve_hz[::hop][:count] * 2 ** (rng.uniform(-60, 60, count) / 1200)
    coarse_hz[rng.random(count) < 0.2] = np.nan
    fine_hz = pitch.refine_f0(sound, rate_hz, coarse_hz, hop)
    assert np.array_equal(np.isnan(fine_hz), np.isnan(coarse_hz))
    size = int(pitch.FRAME_SECONDS * rate_hz) // 2 * 2
    padded = np.pad(sound, (size // 2, size))
    for n in np.flatnonzero(np.isfinite(coarse_hz))[::7]:
        expected = written_out(padded[n * hop : n * hop + size], rate_hz, float(coarse_hz[n]))
        assert fine_hz[n] == pytest.approx(expected, rel=1e-9), n
    assert np.isnan(pitch.refine_f0(sound, rate_hz, np.full(count, np.nan), hop)).all()


def test_track_pitch_with_second_tone_is_not_biased() -> None:
    melody, other = (tone(np.full(RATE_HZ, 440.0)), 0.2 * np.sin(2 * np.pi * 1200 * np.arange(RATE_HZ) / RATE_HZ))
    track = pitch.track_pitch(melody + other, RATE_HZ)
    assert np.nanmedian(track.hz) == pytest.approx(440.0, rel=2e-4)


def test_track_pitch_of_silence_is_unvoiced_and_of_noise_mostly() -> None:
    """Noise has chance peaks, a tone in the same noise is voiced throughout."""
    noise = np.random.default_rng(0).standard_normal(3 * RATE_HZ)
    assert not pitch.track_pitch(np.zeros(RATE_HZ), RATE_HZ).voiced.any()
    assert pitch.track_pitch(noise, RATE_HZ).voiced.mean() < 0.5
    assert pitch.track_pitch(tone(np.full(3 * RATE_HZ, 300.0)) + 0.1 * noise, RATE_HZ).voiced.mean() > 0.95


@pytest.mark.parametrize("bad", [np.zeros(0), np.zeros((2, 100)), np.array([np.nan] * 100)])
def test_track_pitch_of_unusable_samples_raises(bad: np.ndarray) -> None:
    with pytest.raises(ValueError, match="finite samples"):
        pitch.track_pitch(bad, RATE_HZ)


def test_track_pitch_with_drone_an_octave_below_follows_the_melody() -> None:
    """A melody of four notes over a plucked-like drone 12 dB down, steady through all of it."""
    notes = np.repeat([330.0, 392.0, 440.0, 294.0], RATE_HZ // 2)
    drone = tone(np.full(notes.size, 110.0), 8) + tone(np.full(notes.size, 165.0), 8)
    track = pitch.track_pitch(tone(notes) + 0.25 * drone, RATE_HZ)
    truth = np.append(notes, notes[-1])[:: round(track.hop_seconds * RATE_HZ)]
    assert (np.abs(1200 * np.log2(track.hz / truth)) < 50).mean() > 0.93


def test_track_pitch_of_performances_with_chords_and_drums_follows_the_melody() -> None:
    pieces = [perform_western(seed, "western", 5.0) for seed in (902, 905, 918)]  # voice, blown, voice, in full company
    for piece in pieces:
        assert piece.facts["chords"]
        assert piece.facts["drums"]
        track = pitch.track_pitch(piece.samples, RATE_HZ)
        truth = np.full(track.hz.size, np.nan)
        seconds = np.arange(truth.size) * track.hop_seconds
        for note in piece.notes:
            held = (seconds >= note.onset_seconds + 0.05) & (seconds < note.onset_seconds + note.seconds)
            truth[held] = note.cents - 900
        gaps = np.abs(track.cents - truth)[np.isfinite(truth)]
        assert (np.abs((gaps + 600) % 1200 - 600) < 50).mean() > 0.85


def test_track_pitch_cached_tracks_a_clip_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = Audio(tone(np.full(RATE_HZ, 250.0)).astype(np.float32), RATE_HZ)
    once = pitch.track_pitch_cached(clip, MetricCache(tmp_path))
    monkeypatch.setattr(pitch, "track_pitch", None)
    again = pitch.track_pitch_cached(clip, MetricCache(tmp_path))
    np.testing.assert_array_equal(once.hz, again.hz)
    assert np.nanmedian(again.hz) == pytest.approx(250.0, rel=1e-4)
    assert again.voiced.mean() > 0.95
