"""`talim prepare` over hundreds of faulty sound files: no traceback, and every file is used or named."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz.sound_files import FAULTS, write_sound_files


def prepare(folder: Path, out: Path, seconds: float) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "talim", "prepare", str(folder), "--out", str(out), "--sample-rate", "8000"]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=seconds, check=False)
    assert done.returncode in (0, 1, 2), done.stderr[-3000:]
    for phrase in ("Traceback", "bug in talim", "Xing stream", "[mp3", "[mov"):
        assert phrase not in done.stdout + done.stderr, (done.stdout + done.stderr)[-3000:]
    return done


def check_all_told(folder: Path, out: Path, paths: list[Path]) -> None:
    """Every file is the source of clips, or named with a reason."""
    summary = json.loads((out / "summary.json").read_text("utf-8"))
    clips = [json.loads(line) for line in (out / "corpus.jsonl").read_text("utf-8").splitlines()]
    used = {clip["source_file"] for clip in clips} | {row["file"] for row in summary["skipped"]}
    noted = " ".join(row["file"] + row["note"] for row in summary["notes"])
    missing = [path.name for path in paths if path.name not in used and path.name not in noted]
    assert missing == []


def test_write_sound_files_is_the_same_for_a_seed(tmp_path: Path) -> None:
    first, again, other = (
        [path.read_bytes() for path in write_sound_files(tmp_path / str(n), len(FAULTS), seed)]
        for n, seed in enumerate((1, 1, 2))
    )
    assert [len(data) for data in first] == [len(data) for data in again]
    assert first != other


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1])
def test_prepare_of_faulty_sound_files_uses_or_names_each(tmp_path: Path, seed: int) -> None:
    paths = write_sound_files(tmp_path / "sounds", 260, seed)
    prepare(tmp_path / "sounds", tmp_path / "corpus", 900)
    check_all_told(tmp_path / "sounds", tmp_path / "corpus", paths)


@pytest.mark.skipif(os.name != "posix", reason="pipes and sockets are files on POSIX only")
def test_prepare_of_pipes_sockets_and_loops_does_not_hang(tmp_path: Path, make_recordings) -> None:
    folder = tmp_path / "sounds"
    make_recordings(folder, count=2, seconds=3.0)
    os.mkfifo(folder / "pipe.wav")
    os.mkfifo(folder / "pipe")
    (folder / "device.wav").symlink_to("/dev/zero")
    (folder / "loop.wav").symlink_to(folder / "loop.wav")
    (folder / "round").symlink_to(folder)
    (folder / "folder.wav").mkdir()
    (folder / "empty.flac").touch()
    place = os.getcwd()
    os.chdir(folder)  # names of sockets are short
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("socket.wav")
    finally:
        os.chdir(place)
    prepare(folder, tmp_path / "corpus", 120)
    names = [folder / n for n in ("pipe.wav", "device.wav", "loop.wav", "folder.wav", "empty.flac", "socket.wav")]
    check_all_told(folder, tmp_path / "corpus", names)
