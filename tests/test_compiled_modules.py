"""Modules whose functions are compiled: one process at a time does that."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from filelock import FileLock

from talim import compiled_modules

IMPORT = """
from talim import compiled_modules as m
m.QUIET_SECONDS = 0.0
m.import_compiled("json", ("json.tool",), "what is needed")
"""


def start(folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    return subprocess.Popen([sys.executable, "-c", IMPORT], env=environment, stderr=subprocess.PIPE, text=True)


def test_import_compiled_waits_for_the_process_that_compiles_and_says_so(tmp_path: Path) -> None:
    with FileLock(tmp_path / "talim-compiles.lock"):
        waiting = start(tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
    assert waiting.wait(60) == 0
    assert waiting.stderr is not None
    assert waiting.stderr.read() == "compiling what is needed, once in this installation ...\n"
    again = start(tmp_path)
    assert again.wait(60) == 0
    assert again.stderr is not None
    assert again.stderr.read() == ""  # however slowly what is compiled is loaded


def test_import_compiled_without_locks_on_the_file_system_imports_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "new"))
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.delitem(sys.modules, "json.tool", raising=False)
    compiled_modules.import_compiled("json", ("json.tool",), "what is needed")
    assert "json.tool" in sys.modules
    assert capsys.readouterr().err == ""
