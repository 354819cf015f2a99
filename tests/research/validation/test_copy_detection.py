"""A small benchmark finds what it planted, and the page says what was measured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.validation import copy_detection as report
from research.validation.inserted_copies import RATE_HZ, draw_copy
from talim.audio import Audio, write


@pytest.fixture(scope="module")
def setting() -> report.SearchSetting:
    return report.performed(12)


def test_copies_are_found_by_their_sound_at_few_false_alarms(setting: report.SearchSetting) -> None:
    found = report.measure(setting, report.SEARCHES[0])
    assert (found["plants"], found["hosts"]) == (12, 12)
    assert found["found"] >= 11
    assert found["found_and_told"] >= 11
    assert found["false_alarms"] <= 1
    assert found["strangers_likeness"][1] < found["plants_likeness"][1] - 0.2
    text = report.page([found], "the command")
    assert "the command" in text
    assert text.count("| performances of one mode and cycle | sound |") == 1
    assert "Found by change, sound" in text


def test_strangers_of_a_setting_are_not_found() -> None:
    """The same report over hosts that hold no plant finds none: the share found can fall."""
    finding = report.CopyMatch("sound", 0, (0, 4), (0, 4), 0.1, 0.5, "")
    search = report.SearchMethod("deaf", lambda s: s, list, lambda *_: np.zeros(3), lambda *_: finding)
    tiny = report.performed(2)
    found = report.measure(tiny, search)
    assert (found["found"], found["false_alarms"], len(found["missed"])) == (0, 0, 2)


def test_a_finding_is_told_right_only_with_source_times_shift_and_tempo() -> None:
    how = draw_copy(np.random.default_rng(0), [4])
    begin = (how.source_seconds + 0.5, how.clip_seconds + 0.5 * how.ratio)

    def told(source: int = 4, late: float = 0.0, cents: float = 0.0, tempo: float = 1.0) -> bool:
        times = (begin[1] + late, begin[1] + late + 4), (begin[0], begin[0] + 4)
        shift = 100 * how.semitones + cents
        return report._is_located_correctly(
            report.CopyMatch("sound", source, *times, 0.5, 0.01, "", shift, tempo / how.ratio), how
        )

    assert told()
    assert not told(source=3)
    assert not told(late=0.8)
    assert not told(cents=100.0)
    assert not told(tempo=1.1)
    assert not report._is_located_correctly(None, how)


def test_a_folder_of_one_recording_is_no_setting(tmp_path: Path) -> None:
    def tone(hz: float, seconds: float) -> Audio:
        steps = np.arange(round(seconds * RATE_HZ)) / RATE_HZ
        return Audio(0.3 * np.sin(2 * np.pi * hz * steps).astype(np.float32)[None], RATE_HZ)

    assert report.real([tmp_path]) is None
    write(tmp_path / "one.wav", tone(200.0, 25.0))
    assert report.real([tmp_path]) is None
    write(tmp_path / "two.wav", tone(250.0, 10.0))
    others, same = report.real([tmp_path]), report.real([tmp_path], same=True)
    assert others is not None
    assert same is not None
    assert others.recordings == ["one", "one", "two"]
    assert len(set(same.recordings)) == 3


def test_finished_parts_are_kept(tmp_path: Path) -> None:
    calls = []
    for _ in range(2):
        assert report.load_or_compute(tmp_path / "parts" / "a.json", lambda: calls.append(1) or {"a": 1}) == {
            "a": 1
        }
    assert len(calls) == 1


def test_speed_is_measured() -> None:
    found = report.speed(4)
    assert found["clips"] == 4
    assert all(found[part] > 0 for part in ("print", "index", "search", "megabytes"))
