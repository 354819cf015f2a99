"""A small measurement of copy detection, and its page."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.validation import copy_detection
from research.validation.inserted_copies import RATE_HZ, draw_copy
from talim.audio import Audio, write


@pytest.fixture(scope="module")
def setting() -> copy_detection.SearchSetting:
    return copy_detection.performed(12)


def test_measure_with_audio_search_finds_copies_at_few_false_alarms(setting: copy_detection.SearchSetting) -> None:
    result = copy_detection.measure(setting, copy_detection.SEARCHES[0])
    assert (result["copies"], result["hosts"]) == (12, 12)
    assert result["found"] >= 11
    assert result["located"] >= 11
    assert result["false_alarms"] <= 1
    assert result["null_similarity"][1] < result["copy_similarity"][1] - 0.2
    text = copy_detection.page([result], "the command")
    assert "the command" in text
    assert text.count("| performances of one mode and cycle | audio |") == 1
    assert "Found by transformation, audio" in text


def test_measure_with_a_search_that_matches_nothing_finds_none() -> None:
    match = copy_detection.CopyMatch("sound", 0, (0, 4), (0, 4), 0.1, 0.5, "")
    search = copy_detection.SearchMethod("none", lambda s: s, list, lambda *_: np.zeros(3), lambda *_: match)
    result = copy_detection.measure(copy_detection.performed(2), search)
    assert (result["found"], result["false_alarms"], len(result["missed"])) == (0, 0, 2)


def test_is_located_requires_source_times_shift_and_tempo() -> None:
    copy = draw_copy(np.random.default_rng(0), [4])
    begin = (copy.source_seconds + 0.5, copy.clip_seconds + 0.5 * copy.ratio)

    def located(source: int = 4, late: float = 0.0, cents: float = 0.0, tempo: float = 1.0) -> bool:
        times = (begin[1] + late, begin[1] + late + 4), (begin[0], begin[0] + 4)
        shift = 100 * copy.semitones + cents
        return copy_detection._is_located(
            copy_detection.CopyMatch("sound", source, *times, 0.5, 0.01, "", shift, tempo / copy.ratio), copy
        )

    assert located()
    assert not located(source=3)
    assert not located(late=0.8)
    assert not located(cents=100.0)
    assert not located(tempo=1.1)
    assert not copy_detection._is_located(None, copy)


def test_real_with_fewer_than_two_recordings_is_none(tmp_path: Path) -> None:
    def tone(hz: float, seconds: float) -> Audio:
        steps = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
        return Audio(0.3 * np.sin(2 * np.pi * hz * steps).astype(np.float32)[None], RATE_HZ)

    assert copy_detection.real([tmp_path]) is None
    write(tmp_path / "one.wav", tone(200.0, 25.0))
    assert copy_detection.real([tmp_path]) is None
    write(tmp_path / "two.wav", tone(250.0, 10.0))
    others, same = copy_detection.real([tmp_path]), copy_detection.real([tmp_path], same=True)
    assert others is not None
    assert same is not None
    assert others.recordings == ["one", "one", "two"]
    assert len(set(same.recordings)) == 3


def test_load_or_compute_twice_computes_once(tmp_path: Path) -> None:
    calls = []
    for _ in range(2):
        assert copy_detection.load_or_compute(tmp_path / "parts" / "a.json", lambda: calls.append(1) or {"a": 1}) == {
            "a": 1
        }
    assert len(calls) == 1


def test_speed_measures_every_part() -> None:
    seconds = copy_detection.speed(4)
    assert seconds["clips"] == 4
    assert all(seconds[part] > 0 for part in ("fingerprints", "index", "search", "megabytes"))
