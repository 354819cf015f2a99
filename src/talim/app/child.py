"""`python -m talim.app.child RECORD LOCK ARGUMENTS`: runs one talim command and writes how it ended.

A process of its own, so that a command goes on, and its end is known, when the server that started it is gone. It and
the command hold the lock of the folder, by the descriptor LOCK, as long as one of them lives.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from talim.atomic_io import read_json, write_json


def run(record: Path, lock: int, arguments: list[str]) -> int:
    """Run `talim ARGUMENTS` here and write its exit status into the JSON file `record`; returns the status."""
    # The signal that stops the command reaches its whole group: it ends, and this process tells how. Not SIG_IGN,
    # which the command would inherit.
    signal.signal(signal.SIGTERM, lambda *_: None)
    facts = read_json(record) | {"pid": os.getpid()}
    write_json(record, facts)
    command = [sys.executable, "-P", "-m", "talim", *arguments]  # -P: no module of the user's folder is imported
    status = subprocess.call(command, pass_fds=[lock])
    write_json(record, facts | {"status": status, "ended": time.time()})
    return status


if __name__ == "__main__":
    sys.exit(run(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
