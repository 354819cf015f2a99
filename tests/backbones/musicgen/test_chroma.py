"""Pitch classes of sounds against those of transformers' feature extractor and against librosa's."""

from __future__ import annotations

import numpy as np
import pytest

from talim.audio.load_librosa import load_librosa
from talim.backbones.musicgen.chroma import ChromaSettings, pitch_classes

RELEASED, TINY = ChromaSettings(), ChromaSettings(800, 64, 256)
# from MusicgenMelodyFeatureExtractor of transformers 5.23 with torchaudio 2.11, on `notes` of the same arguments
TRANSFORMERS = {
    (
        8,
        5.0,
        RELEASED,
    ): "1 1 1 1 11 11 11 8 8 8 11 11 11 6 6 6 11 11 11 11 11 11 4 4 4 11 11 11 11 7 7 7 1 1 1 2 2 2 8 8",
    (5, 0.3, RELEASED): "0 0 0 0 0",
    (4, 3.0, TINY): "8 8 8 8 8 8 4 4 4 3 3 11 11 11 6 6 6 6 6 6 6 4 4 4 4 6 6 6 6 6 6 0 0 0 0 2 2 2",
}


def notes(seed: int, seconds: float, rate_hz: int) -> np.ndarray:
    """Harmonic tones of 0.4 s on random notes in a little noise, float32 [T]; the first 0.1 s are silent."""
    rng = np.random.default_rng(seed)
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    pitches = rng.integers(48, 84, int(np.ceil(seconds / 0.4)))
    hz = 440 * 2 ** ((pitches[np.minimum((time / 0.4).astype(int), len(pitches) - 1)] - 69) / 12)
    phase = 2 * np.pi * np.cumsum(hz) / rate_hz
    sound = sum(np.sin(k * phase) / k for k in (1, 2, 3)) * 0.2 + 0.01 * rng.standard_normal(len(time))
    sound[: int(0.1 * rate_hz)] = 0
    return sound.astype(np.float32)


@pytest.mark.parametrize(("seed", "seconds", "settings"), TRANSFORMERS)
def test_pitch_classes_equal_transformers(seed: int, seconds: float, settings: ChromaSettings) -> None:
    expected = np.array(TRANSFORMERS[seed, seconds, settings].split(), np.int8)
    found = pitch_classes(notes(seed, seconds, settings.rate_hz), settings)
    assert found.dtype == np.int8
    assert np.array_equal(found, expected)


def test_pitch_classes_of_half_a_minute_equal_librosa() -> None:
    """Several blocks, and the released number of frames: librosa computes its own spectrogram and filters."""
    librosa = load_librosa()

    sound = notes(1, 31.0, 32000)
    chroma = librosa.feature.chroma_stft(
        y=sound, sr=32000, n_fft=16384, hop_length=4096, tuning=0, norm=np.inf, pad_mode="reflect"
    )
    found = pitch_classes(sound, RELEASED)
    assert len(found) == chroma.shape[1] == 1 + len(sound) // 4096
    assert np.mean(found == chroma.argmax(axis=0)) > 0.98
    assert len(pitch_classes(sound[: 30 * 32000], RELEASED)) == 235
    assert pytest.approx(7.8125) == RELEASED.frame_rate_hz


@pytest.mark.parametrize("name", range(12))
def test_pitch_classes_of_a_tone_is_its_note(name: int) -> None:
    time = np.arange(64000) / 32000
    tone = np.sin(2 * np.pi * 440 * 2 ** ((60 + name - 69) / 12) * time)
    assert set(pitch_classes(tone, RELEASED)) == {name}


def test_pitch_classes_at_the_ends_are_those_of_the_sound_and_its_reflection() -> None:
    """In the reflection a sine that begins at zero cancels, and a cosine does not."""
    time = np.arange(64000) / 32000
    sine, cosine = (2 * np.pi * 440 * 2 ** ((note - 69) / 12) * time for note in (60, 66))
    found = pitch_classes(np.sin(sine) + 0.9 * np.cos(cosine), RELEASED)
    assert (found[0], set(found[4:-4])) == (6, {0})


@pytest.mark.parametrize("length", [0, 1, 100, 16383, 16384, 70000])
def test_pitch_classes_of_silence_are_the_first(length: int) -> None:
    found = pitch_classes(np.zeros(length), RELEASED)
    assert len(found) == 1 + max(length, 16384) // 4096
    assert not found.any()


def test_settings_of_a_preprocessor_file_or_the_released_ones() -> None:
    assert ChromaSettings.of({}, 32000, 12) == RELEASED
    file = {"sampling_rate": 800, "hop_length": 64, "n_fft": 256, "feature_size": 12, "chunk_length": 30}
    assert ChromaSettings.of(file, 16000, 12) == TINY
    assert TINY.to_json() == {"rate_hz": 800, "hop_length": 64, "n_fft": 256, "num_chroma": 12}
