"""The same sound is known again after coding, gain, trim and resampling; other sounds are not.

Copies of single tones, which have few landmarks: found in every coding, and different melodies never joined.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from fixtures.prepared_corpus import make
from scipy.signal import lfilter

from talim.audio import Audio, is_audio_name, read, write
from talim.corpus.near_duplicates import (
    MIN_DENSITY,
    RATE_HZ,
    find_near_duplicates,
    fingerprint_landmarks,
    pack_landmarks,
    same_waveform,
    unpack_landmarks,
    waveform_correlation,
)

MELODY_HZ = 22050
SOURCE_HZ = 44100


def music(seed: int, seconds: float = 20.0) -> Audio:
    """Notes of random pitch and length with harmonics over a low drone: something like a melody."""
    rng = np.random.default_rng(seed)
    total = np.zeros(round(seconds * MELODY_HZ))
    at = 0.0
    while at < seconds - 0.1:
        length = float(rng.uniform(0.1, 0.6))
        time = np.arange(round(min(length, seconds - at) * MELODY_HZ)) / MELODY_HZ
        f0 = 220 * 2 ** (rng.integers(0, 24) / 12 + rng.normal(0, 0.01))
        tone = sum(np.sin(2 * np.pi * k * f0 * time) / k for k in range(1, 8)) * np.exp(-3 * time)
        start = round(at * MELODY_HZ)
        total[start : start + time.size] += tone[: total.size - start]
        at += length
    drone = np.sin(2 * np.pi * 110 * np.arange(total.size) / MELODY_HZ)
    noise = lfilter([1], [1, -0.9], rng.standard_normal(total.size))
    return Audio((0.1 * total + 0.05 * drone + 0.001 * noise).astype(np.float32), MELODY_HZ)


def mp3(audio: Audio) -> Audio:
    buffer = io.BytesIO()
    soundfile.write(
        buffer, audio.samples.T, audio.rate_hz, format="MP3", subtype="MPEG_LAYER_III", compression_level=0.9
    )
    buffer.seek(0)
    samples, rate_hz = soundfile.read(buffer, dtype="float32", always_2d=True)
    return Audio(samples.T.copy(), rate_hz)


def part(audio: Audio, start: float, stop: float) -> Audio:
    return Audio(audio.samples[:, round(start * audio.rate_hz) : round(stop * audio.rate_hz)], audio.rate_hz)


def ogg(audio: Audio) -> Audio:
    buffer = io.BytesIO()
    with soundfile.SoundFile(
        buffer, "w", audio.rate_hz, 1, format="OGG", subtype="VORBIS", compression_level=0.9
    ) as file:
        for at in range(0, audio.frames, 4096):  # in one piece a long one ends libsndfile
            file.write(audio.samples[0, at : at + 4096])
    buffer.seek(0)
    samples, rate_hz = soundfile.read(buffer, dtype="float32", always_2d=True)
    return Audio(samples.T.copy(), rate_hz)


def noisy(audio: Audio) -> Audio:
    level = 0.1 * float(np.sqrt(np.mean(audio.samples**2)))  # 20 dB below
    noise = np.random.default_rng(1).normal(0, level, audio.samples.shape)
    return Audio((audio.samples + noise).astype(np.float32), audio.rate_hz)


CHANGES: dict[str, Callable[[Audio], Audio]] = {
    "rate": lambda audio: audio.resample(16000),
    "gain": lambda audio: Audio(0.1 * audio.samples, audio.rate_hz),
    "mp3": mp3,
    "trim": lambda audio: part(audio, 1.234, 18.9),
    "excerpt": lambda audio: part(audio, 7.01, 13.5),
    "all": lambda audio: mp3(Audio(0.3 * part(audio, 4.5, 14.2).samples, audio.rate_hz).resample(32000)),
    "ogg": ogg,
    "noise": noisy,
    "clipped": lambda audio: Audio(np.clip(3 * audio.samples, -0.3, 0.3), audio.rate_hz),
}


@pytest.fixture(scope="module")
def takes() -> dict[str, np.ndarray]:
    """Landmarks of six melodies (read only by agreement)."""
    return {f"take-{seed}": fingerprint_landmarks(music(seed)) for seed in range(6)}


@pytest.mark.parametrize("change", CHANGES)
def test_find_near_duplicates_of_changed_copies_finds_them(takes: dict[str, np.ndarray], change: str) -> None:
    copies = {f"copy-{seed}": fingerprint_landmarks(CHANGES[change](music(seed))) for seed in range(3)}
    pairs = find_near_duplicates(takes | copies)
    assert [(pair.first, pair.second) for pair in pairs] == [(f"copy-{i}", f"take-{i}") for i in range(3)]


def test_find_near_duplicates_measures_offset_and_length() -> None:
    (pair,) = find_near_duplicates(
        {"a": fingerprint_landmarks(music(1)), "b": fingerprint_landmarks(part(music(1), 7.0, 15.0))}
    )
    assert pair.offset_seconds == pytest.approx(7.0, abs=0.1)
    assert pair.seconds == pytest.approx(8.0, abs=0.6)
    assert 0.3 < pair.shared_fraction <= 1


def test_find_near_duplicates_of_other_parts_finds_none() -> None:
    whole = music(3, 40.0)
    landmarks = {
        name: fingerprint_landmarks(part(whole, at, at + 20)) for name, at in (("first", 0.0), ("second", 20.0))
    }
    assert find_near_duplicates(landmarks) == []


def test_find_near_duplicates_of_silence_and_noise_finds_none() -> None:
    noise = {
        f"n{i}": fingerprint_landmarks(
            Audio(np.random.default_rng(i).normal(0, 0.1, 8 * 8000).astype(np.float32), 8000)
        )
        for i in range(4)
    }
    assert find_near_duplicates(noise) == []
    silent = fingerprint_landmarks(Audio(np.zeros(80000, np.float32), 8000))
    assert find_near_duplicates({"a": silent, "b": silent}) == []
    assert fingerprint_landmarks(Audio(np.zeros(10, np.float32), 8000)).shape == (0, 2)
    assert find_near_duplicates({}) == []


def test_unpack_landmarks_returns_packed_ones_and_refuses_damage() -> None:
    landmarks = fingerprint_landmarks(music(0))
    assert np.array_equal(unpack_landmarks(pack_landmarks(landmarks)), landmarks)
    assert landmarks.dtype == np.uint32
    with pytest.raises(ValueError, match="pickled"):
        unpack_landmarks(b"truncated")


REAL = Path(__file__).parents[3] / "shared" / "data" / "audio"


@pytest.fixture(scope="module")
def real() -> dict[str, tuple[Audio, np.ndarray]]:
    """Twelve real recordings, up to 30 s of each, with their landmarks."""
    paths = sorted(path for path in REAL.glob("*/*") if is_audio_name(path))
    if not paths:
        pytest.skip("the real recordings (shared/data/audio) are not here")
    sounds = {path.stem: part(read(path).to_channels(1), 0, 30) for path in paths}
    return {name: (audio, fingerprint_landmarks(audio)) for name, audio in sounds.items()}


@pytest.mark.real
@pytest.mark.parametrize(
    "change", [name if name in ("all", "noise") else pytest.param(name, marks=pytest.mark.slow) for name in CHANGES]
)
def test_find_near_duplicates_of_real_recordings_finds_exactly_the_copies(
    real: dict[str, tuple[Audio, np.ndarray]], change: str
) -> None:
    landmarks = {f"{name} as it is": marks for name, (_, marks) in real.items()}
    landmarks |= {f"{name} changed": fingerprint_landmarks(CHANGES[change](audio)) for name, (audio, _) in real.items()}
    pairs = {(pair.first, pair.second) for pair in find_near_duplicates(landmarks)}
    assert pairs == {(f"{name} as it is", f"{name} changed") for name in real}


@pytest.mark.real
def test_find_near_duplicates_of_parts_of_a_real_recording_finds_none(
    real: dict[str, tuple[Audio, np.ndarray]],
) -> None:
    halves = {}
    for name, (audio, _) in real.items():
        halves[f"{name} 1"] = fingerprint_landmarks(part(audio, 0, audio.seconds / 2))
        halves[f"{name} 2"] = fingerprint_landmarks(part(audio, audio.seconds / 2, audio.seconds))
    assert find_near_duplicates(halves) == []


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
