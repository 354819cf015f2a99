"""`talim origin`: marks of files, and certificates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from talim import cli
from talim.audio import Audio, credentials


def origin(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main(["origin", *map(str, arguments)])
    out, said = capsys.readouterr()
    return int(done.value.code or 0), out, said


def test_certificate_then_a_signed_piece_is_shown(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, _ = origin(capsys, "certificate", tmp_path / "studio.pem", "--name", "My Studio")
    assert (status, out.splitlines()[-1]) == (0, f"export TALIM_CERTIFICATE={tmp_path / 'studio.pem'}")
    monkeypatch.setenv(credentials.VARIABLE, str(tmp_path / "studio.pem"))
    tags = {"ai_generated": "AI-generated", "software": "talim 9.9", "seed": "1", "title": "a\nb"}
    for name in ("one.flac", "two.wav"):
        Audio(np.zeros((1, 800), np.float32), 8000, tags).save(tmp_path / name)
    status, out, _ = origin(capsys, tmp_path / "one.flac", tmp_path / "two.wav")
    assert (status, out.count("made by a model"), out.count("signed by My Studio")) == (0, 2, 2)
    assert len(out.splitlines()) == 6
    status, out, _ = origin(capsys, tmp_path / "one.flac", "--json")
    (row,) = json.loads(out)
    assert (status, row["credentials"]["intact"], row["ai_generated"]) == (0, True, True)


def test_show_names_the_file_that_is_missing(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, out, said = origin(capsys, tmp_path / "none.flac")
    assert (status, out, said.count("\n")) == (1, "", 1)
    assert "none.flac" in said


def test_wrong_certificate_ends_any_command_before_its_work(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(credentials.VARIABLE, str(tmp_path / "none.pem"))
    with pytest.raises(SystemExit) as done:
        cli.main(["generate", "--base", "nano-musicgen", "--prompt", "x", "--out", str(tmp_path / "x.flac")])
    assert (done.value.code, "TALIM_CERTIFICATE=" in capsys.readouterr().err) == (2, True)
