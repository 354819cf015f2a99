"""A stop on request: what a signal asks for, and what is said when the work has been put away."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from talim.errors import TalimError

RESUME_PREFIX = "To go on: "


class Interrupted(TalimError):  # noqa: N818 (stopping on request is no error)
    """The user stopped the work; what was done is kept and the message says how to go on."""

    exit_code = 130

    @classmethod
    def saved(cls, done: str, command: str) -> Interrupted:
        """After a checkpoint, with the command that goes on from it."""
        return cls(f"{done}; a checkpoint is saved. {RESUME_PREFIX}{command}")

    def for_outer_command(self) -> Interrupted:
        """The same where a larger command ran that work, and goes on with it by itself."""
        return Interrupted(str(self).split(RESUME_PREFIX)[0] + RESUME_PREFIX + "run the same command again")


class InterruptHandler:
    """The first Ctrl-C (or SIGTERM) asks for a stop after the current step; the second one is immediate."""

    def __init__(self) -> None:
        self.asked = False
        self._old: dict[int, Any] = {}

    def __enter__(self) -> InterruptHandler:
        if threading.current_thread() is threading.main_thread():
            self._old = {
                number: signal.signal(number, self._handle_signal)
                for number in (signal.SIGINT, signal.SIGTERM)
            }
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._old.items():
            signal.signal(number, handler)
        self._old = {}

    def _handle_signal(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        self.__exit__()
