"""Time that is counted over several sessions."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path

import pytest

from talim.progress import Progress
from talim.time_log import TimeLog


def test_time_log_counts_over_sessions_by_purpose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    time_log = TimeLog(tmp_path / "time_log.json", "all k")
    with time_log.counting(Progress()) as progress:
        now += 4
        progress.step("training", 1, 9)
        assert time_log.seconds == 0  # too short to be saved
        now += 4
        progress.step("training", 2, 9)
        assert TimeLog(tmp_path / "time_log.json", "all k").seconds == 8  # what a kill would leave
        now += 1
    now += 1000  # between sessions
    again = TimeLog(tmp_path / "time_log.json", "all k")
    with contextlib.suppress(KeyboardInterrupt), again.counting(Progress()):
        now += 2
        raise KeyboardInterrupt
    assert again.seconds == 11
    assert TimeLog(tmp_path / "time_log.json", "extend k").seconds == 0
    assert again.other_seconds == 0
    assert TimeLog(tmp_path / "time_log.json", "all k-2h").other_seconds == 11  # and not that of other work
    assert TimeLog(tmp_path / "time_log.json", "extend k").other_seconds == 0
    TimeLog(tmp_path / "time_log.json", "extend k").add(5.0)
    TimeLog(tmp_path / "time_log.json", "all k-2h").add(7.0)
    assert again.plan_seconds == 16  # with what continued, and not with another budget
