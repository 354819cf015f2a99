"""What a server prints: one line for a kind of fault, no tracebacks."""

from __future__ import annotations

import logging
import sys

from talim.listening.server_log import QUIET_SECONDS, OneLineFormatter, QuietFilter


def record_of(message: str, *values: object, error: BaseException | None = None) -> logging.LogRecord:
    info = (type(error), error, error.__traceback__) if error else None
    return logging.LogRecord("uvicorn.error", logging.ERROR, "x.py", 1, message, values, info)


def test_formatter_prints_an_exception_in_one_line_with_its_place() -> None:
    try:
        raise ValueError("first\nsecond \x1b[31m")
    except ValueError as error:
        text = OneLineFormatter().format(record_of("Exception in ASGI application\n", error=error))
    assert text.startswith("talim: Exception in ASGI application: ValueError at test_server_log.py:")
    assert "first second" in text
    assert "\n" not in text
    assert "\x1b" not in text
    assert sys.exc_info() == (None, None, None)


def test_filter_holds_equal_messages_back_and_counts_them() -> None:
    now = [0.0]
    quiet = QuietFilter(lambda: now[0])
    assert quiet.filter(record_of("out of sockets: %s", 1))
    assert not any(quiet.filter(record_of("out of sockets: %s", number)) for number in range(1000))
    assert quiet.filter(record_of("another message"))
    assert quiet.filter(record_of("out of sockets: %s", error=OSError("full")))  # of another kind
    now[0] = QUIET_SECONDS + 1
    late = record_of("out of sockets: %s", 7)
    assert quiet.filter(late)
    assert late.getMessage() == "out of sockets: 7 (and 1\u202f000 times since it was said)"
