"""Accuracy of pitch tracking: scores by hand, estimation of lags, and a small run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.validation import pitch_tracking


def test_judge_of_a_known_track_gives_its_error_rates() -> None:
    truth = np.array([220.0] * 60 + [np.nan] * 40)
    hz = np.concatenate([np.full(30, 222.0), np.full(15, 440.0), np.full(15, np.nan), np.full(40, 300.0)])
    hz[90:] = np.nan
    scores = pitch_tracking.judge(hz, truth)
    assert scores["accuracy"] == pytest.approx(0.5)
    assert scores["octave_errors_ignored"] == pytest.approx(0.75)
    assert scores["false_alarm"] == pytest.approx(0.75)
    assert np.isnan(pitch_tracking.judge(hz[:60], truth[:60])["false_alarm"])


def test_judge_agrees_with_the_reference_implementation() -> None:
    """The rates of mir_eval.melody 0.8.2, with the pitch at the unvoiced estimate taken out; 50 cents are too many."""
    truth = np.array([np.nan, 220, 220, 220, 330, 330, np.nan, 440])
    hz = np.array([np.nan, 221, 440, np.nan, 335, 347, 150, 440])
    scores = pitch_tracking.judge(np.tile(hz, 25), np.tile(truth, 25))
    assert scores == pytest.approx({"accuracy": 1 / 2, "octave_errors_ignored": 2 / 3, "false_alarm": 1 / 2})
    edge = pitch_tracking.judge(np.full(50, 440 * 2 ** (50.0001 / 1200)), np.full(50, 440.0))
    assert edge["accuracy"] == 0


def test_lag_seconds_of_a_late_annotation_is_its_delay() -> None:
    seconds = np.arange(1200) / 100
    curve = 300 * 2 ** (np.sin(3 * seconds) / 2)
    late = pitch_tracking._lookup(curve, 0.01, 1.0)
    track = late(0.06)
    assert pitch_tracking.lag_seconds([track], [late]) == pytest.approx(0.06)


def test_main_with_synthetic_excerpts_writes_both_kinds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pitch_tracking, "SECONDS", 3.0)
    out = tmp_path / "page.md"
    pitch_tracking.main(["--performances", "1", "--trackers", "salience (default)", "--out", str(out)])
    rows = [line for line in out.read_text().splitlines() if line.startswith("| salience")]
    assert [row.split(" | ")[1] for row in rows] == ["chords and drums", "drone"]
    assert all(float(row.split(" | ")[4].split()[0]) > 70 for row in rows)
    assert "--performances 1" in out.read_text()


def test_real_excerpts_without_recordings_is_empty(tmp_path: Path) -> None:
    assert pitch_tracking.real_excerpts(tmp_path) == []
