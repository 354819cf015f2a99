"""The benchmark of memory and time on seconds of sound, and its page."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import memory_and_time
from talim import audio
from talim.atomic_io import read_jsonl


@pytest.mark.parametrize("name", ["a.flac", "a.m4a"])
def test_write_recording_has_the_length_and_is_made_once(tmp_path: Path, name: str) -> None:
    path = memory_and_time.write_recording(tmp_path / name, 3 / 60, 0)
    assert audio.read(path).seconds == pytest.approx(3.0, abs=0.05)
    written = path.stat().st_mtime_ns
    assert memory_and_time.write_recording(path, 3 / 60, 0).stat().st_mtime_ns == written
    assert [*tmp_path.iterdir()] == [path]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="wait4 is POSIX")
def test_main_measures_what_is_missing_and_writes_the_page(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    arguments = ["--folder", str(tmp_path / "work"), "--minutes", "0.25", "--page", str(page)]
    memory_and_time.main([*arguments, "--only", "modes"])
    (row,) = read_jsonl(tmp_path / "work" / "measured.jsonl")
    assert 20e6 < row["peak_bytes"] < memory_and_time.BOUND_BYTES
    assert row["cpu_seconds"] > 0
    memory_and_time.main([*arguments, "--only", "modes"])
    assert [row] == [*read_jsonl(tmp_path / "work" / "measured.jsonl")]
    text = page.read_text("utf-8")
    assert f"| `modes` | {row['peak_bytes'] / 1e6:.0f} MB, {row['cpu_seconds']:.0f} s | yes |" in text
    assert "| `generate` | not measured |" in text
    page.write_text(text + "\n## Known limits\n\nBy hand: ünder a\n\n## table.\n", encoding="utf-8")
    memory_and_time.main([*arguments, "--only", "modes"])
    memory_and_time.main([*arguments, "--only", "modes"])
    assert page.read_text("utf-8") == text + "\n## Known limits\n\nBy hand: ünder a\n\n## table.\n"


@pytest.mark.skipif(sys.platform == "win32", reason="wait4 is POSIX")
def test_talim_measures_the_command_and_not_who_started_it() -> None:
    ballast = np.ones(80_000_000)  # 640 MB, resident
    assert memory_and_time.talim("--version")["peak_bytes"] < 500e6 < ballast.nbytes


def test_talim_that_fails_says_why() -> None:
    with pytest.raises(RuntimeError, match="no such"):
        memory_and_time.talim("modes", "/nowhere.wav")


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="wait4 is POSIX")
def test_random_codes_are_decoded_and_written(tmp_path: Path) -> None:
    row = memory_and_time.BY_LENGTH["generate from random codes"](tmp_path, 3 / 60)
    assert audio.read(tmp_path / "piece.flac").seconds == pytest.approx(3.0, abs=0.02)
    assert row["peak_bytes"] < memory_and_time.BOUND_BYTES


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="wait4 is POSIX")
def test_memory_of_decoding_and_writing_does_not_follow_the_length(tmp_path: Path) -> None:
    decode = memory_and_time.BY_LENGTH["generate from random codes"]
    minute, half_hour = (decode(tmp_path / f"{minutes}", minutes)["peak_bytes"] for minutes in (1, 30))
    assert half_hour < 1.1 * minute


def test_page_names_what_is_above_the_bound_and_the_growth() -> None:
    rows = [
        {"table": "length", "command": "modes", "size": 1.0, "peak_bytes": 2e9, "cpu_seconds": 3, "wall_seconds": 4},
        *(
            {"table": "number", "command": "ratings", "size": n, "peak_bytes": 1, "cpu_seconds": s, "wall_seconds": s}
            for n, s in ((20, 2.0), (200, 9.0))
        ),
    ]
    text = memory_and_time.page(rows, "the command")
    assert "| `modes` | 2000 MB, 3 s | **no** |" in text
    assert "| `ratings` | 20 listeners | 2.0 s | 9.0 s | 4.5 | 2.0 s | 9.0 s |" in text
    assert "the command" in text
