"""Graceful interruption: Ctrl-C and SIGTERM end a long task after its current step, with its state saved."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from talim.errors import TalimError

RESUME_PREFIX = "To resume: "


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
    """Ctrl-C and SIGTERM raise KeyboardInterrupt at the end of the block, which takes seconds; a second one at once.

    For work inside libraries whose C++ code calls Python: an exception that arises there ends the whole process.
    """
    with InterruptHandler() as handler:
        yield
    if handler.requested:
        raise KeyboardInterrupt
