"""Tests of talim.interrupts: the first signal is a request, the second one interrupts, handlers are restored."""

from __future__ import annotations

import signal
import threading

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
