"""Tests of talim.cli.streams: closed and narrow streams, signals, missing homes: never a traceback."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from talim.cli.streams import stop_signals

SAY = f"{sys.executable} -m talim"
TABLE = "designs --base musicgen-small --budget 2%"  # loads torch, as `adapters list` does


def shell(command: str, folder: Path, **environment: str | None) -> subprocess.CompletedProcess[bytes]:
    variables = {**os.environ, "HF_HUB_OFFLINE": "1", **environment}
    return subprocess.run(
        ["bash", "-c", command],
        capture_output=True,
        check=False,
        cwd=folder,
        env={name: value for name, value in variables.items() if value is not None},
    )


@pytest.mark.parametrize(
    "command",
    [
        f"{SAY} {TABLE} | head -c 1",
        f"{SAY} {TABLE} >/dev/full",
        pytest.param(f"{SAY} {TABLE} >&-", marks=pytest.mark.slow),
        pytest.param(f"{SAY} {TABLE} 2>&-", marks=pytest.mark.slow),
        f"{SAY} listen power >&-",
        f"{SAY} --help 2>&-",
        f"{SAY} report no-such-folder 2>&-",
        f"{SAY} report no-such-folder >&- 2>&-",
        f"{SAY} --help >&-",
        f"{SAY} --help | true",
        f"{SAY} modes no-such.wav < /dev/null | true",
        pytest.param(f"{SAY} adapters list . < /dev/null | true", marks=pytest.mark.slow),
    ],
)
def test_closed_and_full_streams_end_without_a_traceback(tmp_path: Path, command: str) -> None:
    done = shell(f"{command}; exit ${{PIPESTATUS[0]}}", tmp_path)
    assert done.returncode in (0, 1)
    assert b"Traceback" not in done.stderr
    assert b"Exception ignored" not in done.stderr
    assert b"bug in talim" not in done.stderr


ENVIRONMENTS: list[dict[str, str | None]] = [
    {"HOME": None, "XDG_CACHE_HOME": None},
    {"HOME": "/proc/no-such-home"},
    {"TERM": None},
    {"TERM": "dumb", "COLUMNS": "1"},
    {"LANG": "C", "LC_ALL": "C"},
    {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "cp1252"},
    {"PYTHONIOENCODING": "ascii"},
    {"LANG": "ja_JP.SJIS"},
]


def check_in_poor_environment(command: str, status: int, folder: Path, environment: dict[str, str | None]) -> None:
    done = shell(f"{SAY} {command}", folder, **environment)
    assert done.returncode in (status, 2), done.stderr  # 2: an argument that this locale cannot read
    assert b"Traceback" not in done.stderr
    assert b"bug in talim" not in done.stderr


SOME_ENVIRONMENTS = [
    pytest.param(each, marks=() if {*each.values()} & {"/proc/no-such-home", "C", "ascii"} else pytest.mark.slow)
    for each in ENVIRONMENTS
]


@pytest.mark.parametrize("environment", SOME_ENVIRONMENTS, ids=str)
def test_poor_environments_end_without_a_traceback(tmp_path: Path, environment: dict[str, str | None]) -> None:
    for command, status in (
        ("--help", 0),
        ("report 録音\u3000フォルダ", 1),
        ("generate --base nope --prompt 静かな --out 曲.flac", 1),
    ):
        check_in_poor_environment(command, status, tmp_path, environment)


@pytest.mark.parametrize(
    "environment",
    [pytest.param(each, marks=() if "ascii" in each.values() else pytest.mark.slow) for each in ENVIRONMENTS],
    ids=str,
)
def test_table_in_a_poor_environment_ends_without_a_traceback(
    tmp_path: Path, environment: dict[str, str | None]
) -> None:
    """The table has lines that are not ASCII."""
    check_in_poor_environment(TABLE, 0, tmp_path, environment)


def test_stop_signals_become_keyboard_interrupts_and_are_put_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)]
    for number in (signal.SIGTERM, signal.SIGHUP):
        with pytest.raises(KeyboardInterrupt), stop_signals():
            signal.raise_signal(number)
    assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)] == before


def test_interrupt_that_a_callback_swallows_comes_again() -> None:
    callback = ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))
    before = sys.unraisablehook

    def work() -> None:
        with stop_signals():
            callback()
            time.sleep(20.0)

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        work()
    assert time.monotonic() - began < 10.0
    assert sys.unraisablehook is before


def test_ignored_hangup_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_signals():
            os.kill(os.getpid(), signal.SIGHUP)
            assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_forked_child_ends_by_the_signal_without_a_word() -> None:
    ready, begun = os.pipe()
    with stop_signals():
        child = os.fork()
        if not child:
            try:
                os.write(begun, b"1")
                time.sleep(20.0)
            finally:
                os._exit(0)
        os.read(ready, 1)  # Python drops signals that arrive within fork()
        os.kill(child, signal.SIGTERM)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGTERM


@pytest.mark.parametrize(
    "delay_seconds", [0.05, 0.3, 1.2, *(pytest.param(delay, marks=pytest.mark.slow) for delay in (0.15, 0.6, 2.5))]
)
def test_interrupt_at_any_moment_is_130_without_a_traceback(tmp_path: Path, delay_seconds: float) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "talim", "demo", "--out", str(tmp_path / "demo")], stderr=subprocess.PIPE, text=True
    )
    try:
        time.sleep(delay_seconds)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    finally:
        process.kill()
    # or Python itself was still starting
    starting = ("Fatal Python error: init_", "Could not import runpy module")
    if not any(words in said for words in starting) and process.returncode != -signal.SIGINT:
        assert process.returncode == 130, said
        assert "Traceback" not in said


INTERRUPT_IN_A_CALLBACK_OF_IMPORTS = """
import signal, sys, weakref

class Finder:
    def find_spec(self, name, path, target=None):
        if name == "talim.cli":
            lock = type("Lock", (), {})()
            reference = weakref.ref(lock, lambda _: signal.raise_signal(signal.SIGINT))
            del lock

sys.meta_path.insert(0, Finder())
sys.argv = ["talim", "--version"]
from talim.__main__ import main
main()
"""


def test_interrupt_in_a_callback_of_imports_ends_the_command() -> None:
    """Python ignores what such callbacks raise: an interrupt was lost there, and the command went on."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPT_IN_A_CALLBACK_OF_IMPORTS], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "talim: interrupted\n")


@pytest.mark.slow
@pytest.mark.parametrize("line", ["tracing conv", "measuring the memory", "base: nano-musicgen", "training "])
def test_demo_ends_soon_after_an_interrupt(tmp_path: Path, line: str) -> None:
    """Wherever it is: while it traces, waits for another process, loads or trains."""
    process = subprocess.Popen(
        [sys.executable, "-m", "talim", "demo", "--out", str(tmp_path / "demo")],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TALIM_CACHE": str(tmp_path / "cache")},
    )
    try:
        assert process.stderr is not None
        assert any(said.startswith(line) for said in process.stderr)
        interrupted = time.monotonic()
        process.send_signal(signal.SIGINT)
        said = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 130, said
    assert "Traceback" not in said
    assert "the same command" in said  # goes on with what is saved, or from the checkpoint of a training
    assert time.monotonic() - interrupted < 20.0  # 10 on a machine that does nothing else
