"""Graceful interruption: Ctrl-C and SIGTERM end a long task after its current step, with its state saved."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

from talim.errors import TalimError

RESUME_PREFIX = "To resume: "
INTERRUPTED = 130  # exit status
INTERRUPTED_MESSAGE = "interrupted; the same command goes on with what is saved"
CLEANUP_SECONDS = 3.0  # for what libraries do when a process ends
PATIENCE_SECONDS = 5.0  # for a deferred interrupt, in a command


class Interrupted(TalimError):  # noqa: N818 (stopping on request is no error)
    """The user interrupted; finished work is saved and the message says how to resume."""

    exit_code = 130

    @classmethod
    def saved(cls, done: str, command: str) -> Interrupted:
        """For use after a checkpoint: what is done and the command that resumes from it."""
        return cls(f"{done}; a checkpoint is saved. {RESUME_PREFIX}{command}")

    def for_outer_command(self) -> Interrupted:
        """The same message for a command that ran the task as a part and resumes it by itself."""
        return Interrupted(str(self).split(RESUME_PREFIX)[0] + RESUME_PREFIX + "run the same command again")


class InterruptHandler:
    """Context manager: the first Ctrl-C (or SIGTERM) sets `requested`; the second one interrupts at once.

    Outside the main thread, where Python cannot handle signals, it does nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> InterruptHandler:
        if threading.current_thread() is threading.main_thread():
            signals = (signal.SIGINT, signal.SIGTERM)
            self._previous = {number: signal.signal(number, self._handle_signal) for number in signals}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        self.__exit__()


@contextlib.contextmanager
def deferred_interrupt() -> Iterator[None]:
    """Ctrl-C and SIGTERM raise KeyboardInterrupt at the end of the block; a second one at once.

    For work inside libraries whose C++ code calls Python: an exception that arises there ends the whole process. Where
    the block takes longer than PATIENCE_SECONDS, a command ends all the same, so nothing that is to be kept may be
    written in it.
    """
    with _ImpatientHandler() as handler:
        yield
    if handler.requested:
        raise KeyboardInterrupt


class _ImpatientHandler(InterruptHandler):
    """Ends a command's process if the block goes on for PATIENCE_SECONDS after the first signal."""

    in_command = False  # a library's user may have other work in the same process
    _timer: threading.Timer | None = None

    def __exit__(self, *_: object) -> None:
        super().__exit__()
        if self._timer is not None:
            self._timer.cancel()

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        super()._handle_signal(number, frame)
        if self.in_command:
            self._timer = threading.Timer(PATIENCE_SECONDS, _end_interrupted)
            self._timer.daemon = True
            self._timer.start()


@contextlib.contextmanager
def command_process() -> Iterator[None]:
    """This process runs one command and nothing else, so an interrupt may end it."""
    _ImpatientHandler.in_command = True
    try:
        yield
    finally:
        _ImpatientHandler.in_command = False


def _end_interrupted() -> None:
    with contextlib.suppress(OSError, ValueError):
        print(f"talim: {INTERRUPTED_MESSAGE}", file=sys.stderr)
    end_process(INTERRUPTED)


def end_process(status: int) -> NoReturn:
    """End this process now: without the interpreter's last garbage collection, and without waiting for threads.

    With millions of objects, as after tracing a model, these take up to a minute on a busy machine. Functions that
    libraries registered for the exit run, for CLEANUP_SECONDS at most.
    """
    gc.disable()
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    watchdog = threading.Timer(CLEANUP_SECONDS, os._exit, (status,))
    watchdog.daemon = True
    watchdog.start()
    with contextlib.suppress(BaseException):
        atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError, AttributeError):
            stream.flush()
    os._exit(status)
