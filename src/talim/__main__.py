"""The command `talim`, also as `python -m talim`: interrupted while it starts, it ends without a traceback."""

import contextlib
import os
import signal
from types import FrameType


def main() -> None:
    """Run the command line and exit."""
    interrupts = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # not where they are ignored
    if interrupts:
        signal.signal(signal.SIGINT, _end_at_once)
    from talim.cli import main as run

    if interrupts:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


def _end_at_once(number: int, frame: FrameType | None) -> None:
    """Nothing is begun that could be left behind; an exception might be lost in a callback of Python's imports."""
    with contextlib.suppress(OSError):
        os.write(2, b"talim: interrupted\n")
    os._exit(128 + number)


if __name__ == "__main__":
    main()
