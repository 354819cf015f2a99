"""The import of librosa: one process at a time compiles its functions."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from talim.audio.load_librosa import load_librosa

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


@pytest.mark.slow
def test_load_librosa_imports_the_named_modules_too() -> None:
    assert load_librosa("librosa.beat").__name__ == "librosa"
    assert "librosa.beat" in sys.modules


@pytest.mark.slow
def test_processes_that_start_with_nothing_compiled_do_not_crash(tmp_path: Path) -> None:
    started = [start(USED, tmp_path, str(time.time() + 8)) for _ in range(3)]
    assert [process.wait() for process in started] == [0, 0, 0]
    assert start(USED, tmp_path, "0").wait() == 0
