"""Tests of `talim copies`: exit status 1 where there is a copy, or nothing could be checked."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from talim import cli
from talim.metrics import audio_matching


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
    assert len(list((tmp_path / "out" / "metrics_cache").glob("print-*/*.npy"))) == 6  # a clip that is a recording
    assert list((tmp_path / "out" / "metrics_cache").glob("null-*/*.npy"))


def test_copies_goes_on_where_it_was_interrupted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    search, searched = audio_matching.find_audio_match, []

    def stops(*arguments: object) -> object:
        searched.append(arguments)
        if len(searched) == 3:
            raise KeyboardInterrupt
        return search(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(audio_matching, "find_audio_match", stops)
    command = recordings / "take-0.wav", recordings, "--out", tmp_path / "out", "--json"
    status, _, said = copies(capsys, *command)
    assert status == 130
    assert said.endswith("interrupted; the same command goes on with what is saved\n")
    copies(capsys, *command)
    assert len(searched) == 3 + 4 + 1  # two of six comparisons were there


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
