"""The benchmark of scores runs on a few clips."""

from __future__ import annotations

import pytest

from benchmarks import evaluate_time


@pytest.mark.slow
def test_main_times_every_part(capsys: pytest.CaptureFixture[str]) -> None:
    evaluate_time.main(["--clips", "10", "--num-workers", "1"])
    lines = capsys.readouterr().out.splitlines()
    parts = ["analysis of 10 clips", "distances", "mode and cycle", "prompt adherence", "copies", "all"]
    assert [line[:32].strip() for line in lines[1:]] == parts
    seconds = [float(line[32:].split()[0]) for line in lines[1:]]
    assert seconds[-1] == pytest.approx(sum(seconds[:-1]), abs=0.5)
