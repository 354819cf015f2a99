"""Copies of single tones, which have few landmarks: found in every coding, and different melodies never joined."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.prepared_corpus import make

from talim.audio import Audio, write
from talim.corpus.near_duplicates import RATE_HZ, fingerprint_landmarks
from talim.corpus.waveform_copies import MIN_DENSITY, same_waveform, waveform_correlation

SOURCE_HZ = 44100


def tone(hz: Any, seconds: float, rate_hz: int = RATE_HZ) -> np.ndarray:
    """One partial; `hz` is its frequency, at equal steps."""
    size = round(seconds * rate_hz)
    steps = np.atleast_1d(hz)
    frequency = np.interp(np.linspace(0, 1, size), np.linspace(0, 1, steps.size), steps)
    return 0.4 * np.sin(2 * np.pi * np.cumsum(frequency) / rate_hz)


def melody(seed: int, drone: np.ndarray, gain: float) -> np.ndarray:
    """Forty tones of a scale over a drone."""
    notes = np.random.default_rng(seed).choice([0, 2, 4, 5, 7, 9, 11, 12], 40)
    frequency = np.repeat(240 * 2 ** (notes / 12), drone.size // 40 + 1)[: drone.size]
    return drone + gain * np.sin(2 * np.pi * np.cumsum(frequency) / RATE_HZ)


def convert(samples: np.ndarray, path: Path, codec: str, rate_hz: int, **options: str) -> None:
    import av

    with av.open(str(path), "w", options=options) as made:
        stream: Any = made.add_stream(codec, rate=rate_hz, bit_rate=64_000)
        stream.layout = "mono"
        resampler = av.AudioResampler(stream.format, "mono", rate_hz, stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples[None].astype(np.float32), format="fltp", layout="mono")
        frame.rate, frame.pts = SOURCE_HZ, 0
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            made.mux(stream.encode(part))


@pytest.mark.parametrize(
    "octaves", [0.1, pytest.param(0, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.slow)]
)
def test_prepare_of_a_glide_in_many_codings_tells_one_recording(folder: Path, out: Path, octaves: float) -> None:
    glide = tone(200 * 2 ** np.linspace(0, octaves, 100), 10, SOURCE_HZ)
    write(folder / "glide.flac", Audio(glide[None], SOURCE_HZ))
    convert(glide, folder / "a.mp3", "libmp3lame", SOURCE_HZ)
    convert(glide, folder / "b.m4a", "aac", SOURCE_HZ, use_editlist="0")  # begins late
    convert(glide, folder / "c.opus", "libopus", 48000)
    write(folder / "d.ogg", Audio(glide[None], SOURCE_HZ))
    for number, hz in enumerate((150, 310)):
        write(folder / f"other-{number}.flac", Audio(tone([hz, 2 * hz, hz], 10, SOURCE_HZ)[None], SOURCE_HZ))
    summary = make(folder, out).summary
    assert {row["file"]: row["copy_of"] for row in summary["skipped"]} == dict.fromkeys(
        ("a.mp3", "b.m4a", "c.opus", "d.ogg"), "glide.flac"
    )
    assert summary["recordings"] == 3


@pytest.mark.parametrize("harmonics", [0, 1, 4, 11])
@pytest.mark.parametrize("gain", [0.4, 0.1, 0.04])
def test_same_waveform_of_different_melodies_over_one_drone_is_false(harmonics: int, gain: float) -> None:
    drone = sum((tone(120 * n, 8) / n for n in range(1, harmonics + 1)), np.zeros(8 * RATE_HZ))
    melodies = [melody(seed, drone, gain).astype(np.float32) for seed in range(4)]
    assert not any(same_waveform(*pair) for pair in itertools.combinations(melodies, 2))
    assert all(same_waveform(sound, 0.5 * np.roll(sound, 200)) for sound in melodies)


def test_same_waveform_of_other_tones_glides_and_silence_is_false() -> None:
    sounds = [tone(hz, 8) for hz in (200, 200.3, 220, [200, 400], [200, 410], [400, 200], [200, 300, 200])]
    assert not any(same_waveform(*pair) for pair in itertools.combinations(sounds, 2))
    assert not same_waveform(np.zeros(8 * RATE_HZ), sounds[0])
    noise = np.random.default_rng(0).normal(size=(2, 8 * RATE_HZ))
    assert not same_waveform(*noise)


def test_same_waveform_of_one_changed_second_is_false() -> None:
    first = tone([200, 300, 250, 400, 220], 8)
    second = first.copy()
    second[3 * RATE_HZ : 4 * RATE_HZ] = tone(500, 1)
    assert waveform_correlation(first, second)[0] > 0.85
    assert not same_waveform(first, second)


def test_single_tones_are_sparse() -> None:
    """Else nothing here would be compared."""
    sound = Audio(tone([200, 400], 8)[None], RATE_HZ)
    assert len(fingerprint_landmarks(sound)) < 8 * MIN_DENSITY
