"""How a command ends: an exit status, and on failure one line on stderr."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from talim.errors import TalimError

STOPPED = 130
STOPPED_LINE = "stopped; what was finished is kept, and the same command goes on from there"


def exit_status(command: Callable[[], object]) -> int:
    """Run a command: 0 it worked, 1 it failed, 2 it was asked wrongly, 130 it was stopped."""
    try:
        result = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return complain(STOPPED_LINE, STOPPED)
    except TalimError as error:
        return complain(str(error), error.exit_code)
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else the interpreter complains at exit
        return 1
    except Exception as error:
        return explain(error)
    if result == STOPPED:  # typer swallows Ctrl-C and returns this
        return complain(STOPPED_LINE, STOPPED)
    return result if isinstance(result, int) else 0


def explain(error: Exception) -> int:
    """One line for what typer refuses, and for bugs, which TALIM_DEBUG=1 shows whole."""
    tell = getattr(error, "format_message", None)
    if tell is not None:
        return complain(f"{tell()} (talim --help tells what there is)", getattr(error, "exit_code", 2))
    if type(error).__name__ == "Abort":
        return complain(STOPPED_LINE, STOPPED)
    if os.environ.get("TALIM_DEBUG"):
        traceback.print_exc()
        return 1
    frame = traceback.extract_tb(error.__traceback__)[-1]
    place = f"{Path(frame.filename).name}:{frame.lineno}"
    what = f"{type(error).__name__} at {place}: {error}"
    return complain(f"this is a bug in talim: {what} (TALIM_DEBUG=1 shows it all)", 1)


def complain(text: str, status: int) -> int:
    """Print one line on stderr, whatever the text holds, and return the status."""
    print("talim: " + " ".join(text.split()), file=sys.stderr)
    return status
