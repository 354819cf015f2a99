"""The import of librosa: one process at a time compiles its functions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from filelock import FileLock

from talim.audio import load_librosa as module

USED = """
import numpy as np, sys, time
from talim.audio.load_librosa import load_librosa
time.sleep(max(0.0, float(sys.argv[1]) - time.time()))
librosa = load_librosa("librosa.beat")
sound = np.random.default_rng(0).standard_normal(32000).astype(np.float32)
strength = librosa.onset.onset_strength(y=sound, sr=32000)
librosa.beat.beat_track(onset_envelope=strength, sr=32000)
librosa.onset.onset_detect(onset_envelope=strength, sr=32000)
librosa.yin(sound, fmin=60, fmax=1000, sr=32000)
"""


def start(code: str, folder: Path, *args: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", code, *args]
    return subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True)


def test_load_librosa_waits_for_the_process_that_compiles_and_says_so(tmp_path: Path) -> None:
    code = "from talim.audio import load_librosa as m; m.QUIET_SECONDS = 0.0; m.COMPILED_MODULES = (); m.load_librosa()"
    with FileLock(tmp_path / "talim-compiles-librosa.lock"):
        waiting = start(code, tmp_path)
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(2)
    assert waiting.wait(30) == 0
    assert waiting.stderr is not None
    assert waiting.stderr.read() == "compiling librosa's functions, once in this installation ...\n"
    again = start(code, tmp_path)
    assert again.wait(30) == 0
    assert again.stderr is not None
    assert again.stderr.read() == ""  # however slowly what is compiled is loaded


def test_load_librosa_without_locks_on_the_file_system_imports_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no locks available")

    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path / "new"))
    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr(module, "COMPILED_MODULES", ())
    module.load_librosa.cache_clear()
    assert module.load_librosa().__name__ == "librosa"
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_processes_that_start_with_nothing_compiled_do_not_crash(tmp_path: Path) -> None:
    started = [start(USED, tmp_path, str(time.time() + 8)) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert start(USED, tmp_path, "0").wait() == 0
