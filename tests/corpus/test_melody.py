"""Melodies of sounds and clips: pitch classes from a chromagram or the tracked pitch, cached by what decides them."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.audio import Audio
from talim.corpus.feature_cache import FeatureCache
from talim.corpus.manifest import Corpus
from talim.corpus.melody import CHROMA, PITCH, Melody, classes_of_track, clip_melody, melody_of, tracked_classes
from talim.errors import UsageError

RATE_HZ = 7.8125


def hz(midi: float) -> float:
    return 440 * 2 ** ((midi - 69) / 12)


def sung(pitches: list[float], seconds: float, rate_hz: int = 16000) -> np.ndarray:
    """A tone with harmonics for each pitch (MIDI; NaN is silence), float32 [T]."""
    time = np.arange(int(seconds * rate_hz)) / rate_hz
    parts = [
        sum(np.sin(2 * np.pi * k * hz(p) * time) / k for k in range(1, 6)) * 0.2 if np.isfinite(p) else 0 * time
        for p in pitches
    ]
    return np.concatenate(parts).astype(np.float32)


def test_classes_of_track_are_the_most_frequent_note_around_each_moment() -> None:
    track = np.array([hz(60)] * 30 + [hz(64)] * 30 + [hz(71.4)] * 40)  # 20 ms each
    found = classes_of_track(track, 0.02, 16, RATE_HZ)
    assert found.dtype == np.int8
    # moments 0, 0.128, ...: around those up to 0.512 most is the first note, up to 1.152 the second
    assert found.tolist() == [0] * 5 + [4] * 5 + [11] * 6


def test_classes_of_track_hold_the_last_note_and_fill_the_beginning() -> None:
    track = np.full(100, np.nan)
    track[20:30], track[60:70] = hz(62), hz(69)
    found = classes_of_track(track, 0.02, 17, RATE_HZ).tolist()
    assert set(found[:9]) == {2}  # before the first note, and until the second
    assert set(found[10:]) == {9}
    assert not classes_of_track(np.full(100, np.nan), 0.02, 17, RATE_HZ).any()
    assert len(classes_of_track(np.zeros(0), 0.02, 1, RATE_HZ)) == 1


def test_tracked_classes_follow_a_melody_over_a_drone() -> None:
    """Each note is another pitch class than the drone's, which the chromagram of the mix gives instead."""
    from talim.backbones.musicgen.chroma import ChromaSettings, pitch_classes

    melody = sung([74, 77, 81, 79], 1.0)
    time = np.arange(len(melody)) / 16000
    drone = 0.15 * sum(np.sin(2 * np.pi * k * hz(p) * time) / k for p in (36, 48, 60) for k in range(1, 5))
    mix = Audio(((melody + drone) / 2)[None].astype(np.float32), 16000)
    expected = np.repeat([2, 5, 9, 7], 8)
    inside = [frame for frame in range(31) if 1 <= frame % 7.8125 <= 6.8]  # away from the changes
    tracked = tracked_classes(mix, RATE_HZ)
    chroma = pitch_classes(mix.resample(32000).samples[0], ChromaSettings())
    truth = np.array([expected[min(int(frame / 7.8125), 3) * 8] for frame in range(31)])
    assert len(tracked) == len(chroma) == 32
    assert np.mean(tracked[inside] == truth[inside]) > 0.9
    assert np.mean(chroma[inside] == truth[inside]) < 0.5
    assert np.mean(chroma[inside] == 0) > 0.9


def test_cut_gives_the_frames_of_an_excerpt() -> None:
    melody = Melody(np.arange(40, dtype=np.int8), RATE_HZ)
    assert melody.cut(0.0, 1.0).classes.tolist() == list(range(8))
    assert melody.cut(1.28, 1.0).classes.tolist() == list(range(10, 18))
    assert melody.cut(99.0, 1.0).classes.tolist() == [39]
    assert melody.cut(0.0, 30.0).classes.tolist() == list(range(40))


class FakeBase:
    """Counts what it is asked for."""

    melody_rate_hz, melody_settings, calls = 10.0, {"hop_length": 64}, 0

    def encode_melody(self, audio: Audio) -> np.ndarray:
        self.calls += 1
        return np.full(1 + int(audio.seconds * 10), 3, np.int8)


def test_clip_melody_is_computed_once_per_source_and_settings(corpus_folder: Path, tmp_path: Path) -> None:
    corpus, base = Corpus.load(corpus_folder), FakeBase()
    cache, clip = FeatureCache(tmp_path), Corpus.load(corpus_folder).clips[0]
    first, again = (clip_melody(cache, corpus, clip, base, CHROMA) for _ in range(2))  # type: ignore[arg-type]
    assert base.calls == 1
    assert first.rate_hz == 10.0
    assert np.array_equal(first.classes, again.classes)
    assert set(first.classes) == {3}
    tracked = clip_melody(cache, corpus, clip, base, PITCH)  # type: ignore[arg-type]
    assert base.calls == 1
    assert not np.array_equal(tracked.classes, first.classes)
    base.melody_settings = {"hop_length": 32}
    clip_melody(cache, corpus, clip, base, CHROMA)  # type: ignore[arg-type]
    assert base.calls == 2
    assert len(list(tmp_path.rglob("*.safetensors"))) == 3


@pytest.mark.parametrize("source", [CHROMA, PITCH])
def test_melody_of_a_base_without_melodies_is_refused(source: str) -> None:
    def refuse(audio: Any) -> None:
        raise UsageError("takes no melody")

    base: Any = SimpleNamespace(melody_rate_hz=0.0, encode_melody=refuse)
    with pytest.raises(UsageError, match="takes no melody"):
        melody_of(Audio(np.zeros((1, 800), np.float32), 800), base, source)
