"""How a command ends: an exit status, and on failure one line on stderr."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from talim.errors import TalimError

EXIT_INTERRUPTED = 130
INTERRUPTED_MESSAGE = "stopped; what was finished is kept, and the same command goes on from there"


def exit_status(command: Callable[[], object]) -> int:
    """Run a command: 0 it worked, 1 it failed, 2 it was asked wrongly, 130 it was stopped."""
    try:
        result = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return print_error(INTERRUPTED_MESSAGE, EXIT_INTERRUPTED)
    except TalimError as error:
        return print_error(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else the interpreter complains at exit
        return 1
    except Exception as error:
        return explain_error(error)
    if result == EXIT_INTERRUPTED:  # typer swallows Ctrl-C and returns this
        return print_error(INTERRUPTED_MESSAGE, EXIT_INTERRUPTED)
    return result if isinstance(result, int) else 0


def explain_error(error: Exception) -> int:
    """One line for what typer refuses, and for bugs, which TALIM_DEBUG=1 shows whole."""
    tell = getattr(error, "format_message", None)
    if tell is not None:
        return print_error(f"{tell()} (talim --help tells what there is)", getattr(error, "exit_code", 2))
    if type(error).__name__ == "Abort":
        return print_error(INTERRUPTED_MESSAGE, EXIT_INTERRUPTED)
    if os.environ.get("TALIM_DEBUG"):
        traceback.print_exc()
        return 1
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    what = f"{type(error).__name__} at {place}: {error}"
    return print_error(f"this is a bug in talim: {what} (TALIM_DEBUG=1 shows it all)", 1)


def print_error(text: str, status: int) -> int:
    """Print one line on stderr, whatever the text holds, and return the status."""
    print("talim: " + " ".join(text.split()), file=sys.stderr)
    return status
