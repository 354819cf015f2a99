"""The exit status of a command, and one line on standard error where it fails."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from talim.errors import TalimError

INTERRUPTED = 130
INTERRUPTED_MESSAGE = "interrupted; finished work is saved, and the same command resumes it"


def exit_status(command: Callable[[], object]) -> int:
    """Run a command and return its exit status: 0 success, 1 error, 2 usage error, 130 interrupted."""
    try:
        result = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail(INTERRUPTED_MESSAGE, INTERRUPTED)
    except TalimError as error:
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        # Without this the interpreter reports the closed pipe again when it exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as error:
        return _fail_unexpectedly(error)
    if result == INTERRUPTED:  # typer catches Ctrl-C and returns this
        return _fail(INTERRUPTED_MESSAGE, INTERRUPTED)
    return result if isinstance(result, int) else 0


def _fail_unexpectedly(error: Exception) -> int:
    """One line for errors of the command line itself and for bugs; TALIM_DEBUG=1 prints the traceback."""
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        return _fail(f"{format_message()} (see talim --help)", getattr(error, "exit_code", 2))
    if type(error).__name__ == "Abort":
        return _fail(INTERRUPTED_MESSAGE, INTERRUPTED)
    if os.environ.get("TALIM_DEBUG"):
        traceback.print_exc()
        return 1
    frame = traceback.extract_tb(error.__traceback__)[-1]
    position = f"{Path(frame.filename).name}:{frame.lineno}"
    message = f"{type(error).__name__} at {position}: {error}"
    return _fail(f"this is a bug in talim: {message} (TALIM_DEBUG=1 prints the traceback)", 1)


def _fail(text: str, status: int) -> int:
    """Print `text` as one line on standard error and return the status."""
    print("talim: " + " ".join(text.split()), file=sys.stderr)
    return status
