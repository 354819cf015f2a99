"""What the shell hands over, made usable: closed or narrow output streams, and signals that end a command."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any, TextIO

AGAIN_SECONDS = 0.3


def usable_streams() -> None:
    """Closed streams discard what is written; letters that an encoding lacks are written as escapes."""
    for name in ("stdout", "stderr"):
        stream: TextIO | None = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  (open as long as the process)
        elif hasattr(stream, "reconfigure"):
            with contextlib.suppress(OSError, ValueError):
                stream.reconfigure(errors="backslashreplace")  # pyright: ignore[reportAttributeAccessIssue]


@contextlib.contextmanager
def stop_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP end a command as Ctrl-C does, so that it can say what is saved; nohup stays nohup."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    owner = os.getpid()

    def stop(number: int, frame: FrameType | None) -> None:
        if os.getpid() != owner:  # a forked worker ends at once, without a word
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        raise KeyboardInterrupt

    def again(unraisable: Any) -> None:
        """Where a library's callback cannot pass an interrupt on, it comes again when the callback has returned."""
        if isinstance(unraisable.exc_value, KeyboardInterrupt):
            timer = threading.Timer(AGAIN_SECONDS, os.kill, (owner, signal.SIGINT))
            timer.daemon = True
            timer.start()
        else:
            before(unraisable)

    before = sys.unraisablehook
    sys.unraisablehook = again
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    numbers = [number for name in names if signal.getsignal(number := getattr(signal, name)) is signal.SIG_DFL]
    for number in numbers:
        signal.signal(number, stop)
    try:
        yield
    finally:
        sys.unraisablehook = before
        for number in numbers:
            signal.signal(number, signal.SIG_DFL)
