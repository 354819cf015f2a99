"""Tests of talim.interrupts: the first signal is a request, the second one interrupts, handlers are restored."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
import time

import pytest

from talim.interrupts import Interrupted, InterruptHandler, deferred_interrupt


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupt_handler_first_signal_sets_requested(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with InterruptHandler() as handler:
        assert not handler.requested
        signal.raise_signal(number)
        assert handler.requested
    assert signal.getsignal(number) is before


def test_interrupt_handler_second_sigint_raises_keyboard_interrupt() -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with InterruptHandler():
            signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_interrupt_handler_outside_the_main_thread_installs_nothing() -> None:
    before = signal.getsignal(signal.SIGINT)
    during = []

    def run() -> None:
        with InterruptHandler():
            during.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert during == [before]


def test_interrupted_for_outer_command_replaces_the_command() -> None:
    inner = Interrupted.saved("stopped after step 3 of 9", "talim train --out run")
    assert str(inner) == "stopped after step 3 of 9; a checkpoint is saved. To resume: talim train --out run"
    assert str(inner.for_outer_command()).endswith("To resume: run the same command again")
    assert inner.exit_code == 130


def test_deferred_interrupt_lets_the_block_finish() -> None:
    reached = []

    def work() -> None:
        with deferred_interrupt():
            signal.raise_signal(signal.SIGINT)
            reached.append("end")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert reached == ["end"]
    with deferred_interrupt():
        reached.append("undisturbed")
    assert reached == ["end", "undisturbed"]


def test_deferred_interrupt_second_one_ends_the_block_at_once() -> None:
    def work() -> None:
        with deferred_interrupt():
            signal.raise_signal(signal.SIGINT)
            signal.raise_signal(signal.SIGINT)
            pytest.fail("the block went on")

    with pytest.raises(KeyboardInterrupt):
        work()


END = """
import atexit, sys, threading, time
from talim import interrupts
atexit.register(lambda: print("at exit"))
threading.Thread(target=time.sleep, args=(60,)).start()  # the interpreter would wait for it
print("said", end="")
interrupts.CLEANUP_SECONDS = 1.0
{slow}
interrupts.end_process(130)
"""


@pytest.mark.parametrize("slow", ["", "atexit.register(time.sleep, 60)"])
def test_end_process_waits_for_no_thread_and_not_long_for_cleanup(slow: str) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", END.format(slow=slow)], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 130
    assert done.stderr == ""
    if not slow:
        assert done.stdout == "saidat exit\n"  # nothing that was printed is lost
    assert time.monotonic() - began < 30.0


IMPATIENT = """
import signal, time
from talim import interrupts
interrupts.PATIENCE_SECONDS = 0.2
with interrupts.command_process(), interrupts.deferred_interrupt():
    signal.raise_signal(signal.SIGINT)
    time.sleep(60)
"""


def test_deferred_interrupt_of_a_command_has_patience_for_seconds_only() -> None:
    done = subprocess.run([sys.executable, "-c", IMPATIENT], capture_output=True, text=True, check=False, timeout=50)
    assert done.returncode == 130
    assert done.stderr == "talim: interrupted; the same command goes on with what is saved\n"


def test_deferred_interrupt_outside_a_command_never_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("talim.interrupts.PATIENCE_SECONDS", 0.01)
    monkeypatch.setattr("talim.interrupts._end_interrupted", lambda: pytest.fail("it would have ended"))

    def work() -> None:
        with deferred_interrupt():
            signal.raise_signal(signal.SIGINT)
            time.sleep(0.1)

    with pytest.raises(KeyboardInterrupt):
        work()
