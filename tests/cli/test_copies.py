"""Tests of `talim copies`: exit status 1 where there is a copy, or nothing could be checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from talim import cli


def copies(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main(["copies", *map(str, arguments)])
    out, said = capsys.readouterr()
    return int(done.value.code or 0), out, said


def test_copies_finds_a_training_recording_among_the_clips(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, recordings: Path
) -> None:
    (tmp_path / "clips").mkdir()
    shutil.copy(recordings / "take-0.wav", tmp_path / "clips" / "suspicious.wav")
    status, out, _ = copies(capsys, tmp_path / "clips", recordings, "--out", tmp_path / "out", "--json")
    assert json.loads(out)["copied"] in (0, 1)  # a gliding tone may hold too little for a fingerprint
    result = json.loads(out)
    assert status == int(result["copied"] > 0 or result["checked"] < len(result["clips"]))
    assert (tmp_path / "out" / "copies.json").is_file()


@pytest.mark.parametrize("missing", [0, 1])
def test_copies_missing_folder_is_named(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, recordings: Path, missing: int
) -> None:
    folders = [recordings, recordings]
    folders[missing] = tmp_path / "no-such"
    status, out, said = copies(capsys, *folders, "--out", tmp_path / "out")
    assert (status, out, said.count("\n")) == (1, "", 1)
    assert str(tmp_path / "no-such") in said
    assert list(tmp_path.iterdir()) == []
