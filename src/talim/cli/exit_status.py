"""The exit status of a command, and one line on standard error where it fails."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from talim.errors import TalimError
from talim.interrupts import INTERRUPTED, INTERRUPTED_MESSAGE
from talim.out_of_memory import memory_detail, memory_that_ran_out
from talim.terminal_text import one_line

EXIT_STATUSES = (  # docs/reference/cli.md has the same, with the checks of each command
    "Exit status: 0 done; 1 it could not be done, or a check that the command makes was not met; 2 the command line is "
    "wrong; 130 stopped by Ctrl-C."
)
OUT_OF_MEMORY = (
    "{device} is too small for this ({detail}): make the work smaller (shorter --seconds, fewer --num-workers, or for "
    "training --set training.batch_size=1, a shorter training.crop_seconds, a smaller design or base), close other "
    "programs, or use a larger machine; talim plan tells what training takes"
)


def exit_status(command: Callable[[], object]) -> int:
    """Run a command and return its exit status, as `EXIT_STATUSES` says; a failure prints one line."""
    try:
        result = command()
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _fail(INTERRUPTED_MESSAGE, INTERRUPTED)
    except TalimError as error:
        if error.__cause__ is not None and memory_that_ran_out(error):
            return _fail(machine_fault(error), 1)
        return _fail(str(error), error.exit_code)
    except BrokenPipeError:
        _drop_output()
        return 1
    except Exception as error:
        return _fail_unexpectedly(error)
    if result == INTERRUPTED:  # typer catches Ctrl-C and returns this
        return _fail(INTERRUPTED_MESSAGE, INTERRUPTED)
    return result if isinstance(result, int) else 0


def _drop_output() -> None:
    """Nobody reads standard output any more: without this the interpreter says so again when it exits."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail_unexpectedly(error: Exception) -> int:
    """One line for errors of the command line, of the machine and for bugs; TALIM_DEBUG=1 prints the traceback."""
    format_message = getattr(error, "format_message", None)
    if format_message is not None:
        if getattr(error.__cause__, "errors", None) is not None:  # pydantic's, in the words of settings files
            from talim.strict_yaml import expected, shown_value

            fault = error.__cause__.errors()[0]  # type: ignore[union-attr]
            error.message = f"{shown_value(fault['input'])}: {expected(fault)}"  # type: ignore[attr-defined]
        status, message = getattr(error, "exit_code", 2), format_message()
        return _fail(f"{message} (see {_help_command(error)})", status) if message else status  # the help was printed
    if type(error).__name__ == "Abort":
        return _fail(INTERRUPTED_MESSAGE, INTERRUPTED)
    if os.environ.get("TALIM_DEBUG"):
        traceback.print_exc()
        return 1
    if line := machine_fault(error):
        return _fail(line, 1)
    frame = traceback.extract_tb(error.__traceback__)[-1]
    position = f"{Path(frame.filename).name}:{frame.lineno}"
    message = f"{type(error).__name__} at {position}: {error}"
    return _fail(f"this is a bug in talim: {one_line(message, 1500)} (TALIM_DEBUG=1 prints the traceback)", 1)


def _help_command(error: Exception) -> str:
    """The command whose help explains an error of the command line: that of the subcommand it was found in."""
    context, names = getattr(error, "ctx", None), ["--help"]
    while context is not None and context.parent is not None:  # the outermost is the program, whatever started it
        names.insert(0, str(context.info_name))
        context = context.parent
    return " ".join(["talim", *names])


def machine_fault(error: BaseException) -> str:
    """What a machine could not do, in one line: too little memory, a file it cannot read; empty for other errors."""
    if device := memory_that_ran_out(error):
        return OUT_OF_MEMORY.format(device=device, detail=memory_detail(error))
    if not isinstance(error, OSError) or isinstance(error, EOFError):
        return ""
    if error.errno == errno.ENOSPC and error.filename is None:
        _drop_output()
    reason = error.strerror or str(error) or type(error).__name__
    place = error.filename if isinstance(error.filename, str) else "a file or an address"
    return f"{place}: cannot be used ({reason}); check its name, its permissions and the free space"


def _fail(text: str, status: int) -> int:
    """Print `text` as one line on standard error and return the status."""
    with contextlib.suppress(OSError, ValueError):
        print(f"talim: {one_line(text)}", file=sys.stderr)
    return status
