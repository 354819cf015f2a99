"""Truncated containers, the stated length of MP3 files, hidden sound, and comments of WAV files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talim.audio import Audio, write
from talim.audio.containers import add_wav_comment, mp3_stated_seconds, truncation_reason, wav_comment

NOISE = Audio(0.1 * np.random.default_rng(0).standard_normal(44100), 44100)


@pytest.mark.parametrize("suffix", [".wav", ".ogg", ".mp3"])
def test_truncation_reason_of_whole_and_truncated_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, NOISE)
    assert truncation_reason(path) is None
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3 + 1])
    assert "are there" in str(truncation_reason(path)) or "breaks off" in str(truncation_reason(path))


def test_mp3_stated_seconds_of_mp3_and_other_files(tmp_path: Path) -> None:
    write(tmp_path / "a.mp3", NOISE)
    write(tmp_path / "a.wav", NOISE)
    assert mp3_stated_seconds(tmp_path / "a.mp3") == pytest.approx(1.0, abs=0.08)
    assert mp3_stated_seconds(tmp_path / "a.wav") is None


def test_wav_comment_of_file_with_and_without_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, NOISE)
    assert wav_comment(path) is None
    with path.open("r+b") as file:
        add_wav_comment(file, "made by hand")
    assert wav_comment(path) == "made by hand"
    assert truncation_reason(path) is None
