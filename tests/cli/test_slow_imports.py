"""What a command says before PyTorch is loaded, and an interrupt meanwhile."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from talim.cli import slow_imports
from talim.cli.slow_imports import announced_loading

LOADING = """
import sys

import talim.progress
from talim.cli.main import main


class Told(BaseException):
    pass


def log(self, text):
    if "loading PyTorch" in text:
        raise Told


talim.progress.PlainProgress.log = log
place = sys.argv[1]
for arguments in (
    ["designs", "--base", "nano-musicgen", "--design", "linear@all:2.5%"],
    ["plan", "--base", "nano-musicgen", "--design", "linear@all:2.5%"],
    ["generate", "--base", "nano-musicgen", "--prompt", "x", "--out", f"{place}/x.wav"],
    ["train", "--corpus", f"{place}/corpus", "--out", f"{place}/run"],
    ["poc", f"{place}/corpus", "--out", f"{place}-out"],
    ["demo", "--out", f"{place}-demo"],
    ["serve", "--base", "nano-musicgen", "--port", "0"],  # any that is free
):
    try:
        main(arguments)
    except Told:
        print(arguments[0], "torch" in sys.modules)
    except SystemExit:
        print(arguments[0], "was silent")
"""


def test_commands_say_that_torch_is_loading_before_it_is(tmp_path: Path, corpus_folder: Path) -> None:
    (tmp_path / "corpus").symlink_to(corpus_folder)
    command = [sys.executable, "-c", LOADING, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    said = dict(line.split(" ", 1) for line in done.stdout.splitlines())
    assert set(said.values()) == {"False"}, (said, done.stderr)
    assert len(said) == 7


def test_announced_loading_is_said_once_and_by_the_process_that_runs_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = [*sys.meta_path]
    with announced_loading("plan"):
        finder = sys.meta_path[0]
        assert finder.find_spec("json", None) is None
        assert capsys.readouterr().err == ""
        monkeypatch.setattr("talim.cli.slow_imports.os.getpid", lambda: -1)  # a forked worker
        finder.find_spec("torch", None)
        assert capsys.readouterr().err == ""
        monkeypatch.undo()
        for name in ("torch", "librosa"):
            assert finder.find_spec(name, None) is not None
        assert capsys.readouterr().err.splitlines() == ["plan: loading PyTorch, which takes a while on a busy machine"]
    assert sys.meta_path == before


def test_interrupt_while_a_library_is_loaded_comes_when_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Raised within PyTorch's own C++ code, it ends the process with an abort."""
    lines = "import os, signal", "os.kill(os.getpid(), signal.SIGINT)", f"open({str(tmp_path / 'whole')!r}, 'w')"
    (tmp_path / "slow_one.py").write_text("\n".join(lines))
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(slow_imports, "SLOW_TO_LOAD", {"slow_one": "a slow library"})
    with announced_loading("plan"), pytest.raises(KeyboardInterrupt):
        importlib.import_module("slow_one")
    assert (tmp_path / "whole").exists()
    assert "slow_one" not in sys.modules
