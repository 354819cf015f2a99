"""Tests of talim.cli.options: what `show` prints, in every encoding, and what `begin` says before heavy imports."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from talim.cli.options import show

DOCUMENT = {
    "file": "録音\u3000フォルダ/rāga.flac",
    "bad": "\x1b[31m\x9b\u202e\x7f",
    "name": "t\udcfcrk",
    "loss": float("nan"),
}
BEGUN = """
import sys

import talim.progress
from talim.cli.main import app


class Begun(BaseException):
    pass


def log(self, text):
    raise Begun


talim.progress.PlainProgress.log = log
place, told = sys.argv[1], 0
for arguments in (
    ["train", "--corpus", f"{place}/corpus", "--out", f"{place}/run"],
    ["evaluate", "--real", place, "--generated", place],
    ["copies", place, place, "--out", f"{place}/out"],
    ["report", place],
    ["poc", place, "--out", f"{place}-out"],
    ["export", place, "--to", "folder", "--out", f"{place}-out"],
    ["export", place, "--to", "hub", "--repo", "me/adapter"],
):
    try:
        app(arguments, standalone_mode=False)
    except Begun:
        told += 1
    assert "torch" not in sys.modules, arguments
print(told)
"""


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "shift_jis"])
def test_show_json_is_one_document_with_the_same_values(monkeypatch: pytest.MonkeyPatch, encoding: str) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    monkeypatch.setattr(sys, "stdout", stream)
    show(DOCUMENT, True, "unused")
    stream.flush()
    data = stream.buffer.getvalue()  # type: ignore[attr-defined]
    assert json.loads(data.decode(encoding)) == DOCUMENT | {"loss": None}
    assert not any(byte in data for byte in (0x1B, 0x7F))


def test_show_json_keeps_letters_where_they_can_be_written(capsys: pytest.CaptureFixture[str]) -> None:
    show({"file": "録音\u3000x"}, True, "")
    assert "録音\u3000x" in capsys.readouterr().out


def test_show_text_escapes_control_codes_and_keeps_lines(capsys: pytest.CaptureFixture[str]) -> None:
    show({}, False, "one\ttab\nlicence \x1b]0;x\x07\n録音\u3000x")
    assert capsys.readouterr().out == "one\ttab\nlicence \\x1b]0;x\\x07\n録音\u3000x\n"


def test_show_path_objects_are_refused_by_json() -> None:
    with pytest.raises(TypeError):
        show({"file": Path("x")}, True, "")


def test_long_commands_say_what_begins_before_torch_is_loaded(tmp_path: Path, corpus_folder: Path) -> None:
    """So a log in a pipe begins at once, whatever loading libraries and models takes."""
    (tmp_path / "corpus").symlink_to(corpus_folder)
    done = subprocess.run([sys.executable, "-c", BEGUN, str(tmp_path)], capture_output=True, text=True, check=False)
    assert (done.stdout, done.returncode) == ("7\n", 0), done.stderr
