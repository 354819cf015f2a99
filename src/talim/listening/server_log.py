"""What a server says on the terminal: one line for each kind of fault, not one for each request."""

from __future__ import annotations

import logging
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path

from talim.html.formatting import format_counted
from talim.terminal_text import one_line

QUIET_SECONDS = 60.0
_NAMES = ("uvicorn.error", "asyncio", "talim.listening", "talim.serving")


class OneLineFormatter(logging.Formatter):
    """An exception as its type, message and place; no traceback."""

    def format(self, record: logging.LogRecord) -> str:
        """`talim: MESSAGE`, as one printable line."""
        text = record.getMessage().strip()
        error = record.exc_info[1] if record.exc_info else None
        if error is not None:
            frames = traceback.extract_tb(error.__traceback__)
            place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
            text = f"{text}: {type(error).__name__}{place}: {error}"
        return f"talim: {one_line(text, 500)}"


class QuietFilter(logging.Filter):
    """Lets a kind of message through once, and then again after `QUIET_SECONDS` with the number of those held back."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._clock = clock
        self._last: dict[tuple[str, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the record is printed; its kind is its message before values are put in, and its exception's type."""
        error = record.exc_info[1] if record.exc_info else None
        key = (str(record.msg)[:200], type(error).__name__)
        last, held_back = self._last.get(key, (None, 0))
        if last is not None and self._clock() - last < QUIET_SECONDS:
            self._last[key] = (last, held_back + 1)
            return False
        if held_back:
            record.msg, record.args = (
                (f"{record.getMessage().strip()} (and {format_counted(held_back, 'time')} since it was said)"),
                (),
            )
        if len(self._last) > 1000:
            self._last.clear()
        self._last[key] = (self._clock(), 0)
        return True


def install_log() -> None:
    """Send warnings of the server to standard error, filtered and as single lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(OneLineFormatter())
    handler.addFilter(QuietFilter())
    for name in _NAMES:
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.WARNING)
