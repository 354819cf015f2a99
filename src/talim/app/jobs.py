"""Commands as child processes, one at a time in a folder; what is known of them lies on disk.

Each step of the app has NAME.json (its last command, process and exit status), NAME.log (standard error) and NAME.out
(standard output) in the app's own folder. A command runs as long as the lock of the folder is held, whoever asks.
"""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from talim.atomic_io import read_json, write_json
from talim.errors import TalimError
from talim.terminal_text import printable

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

LOG_LINES, LOG_BYTES = 12, 20_000
ENDING_SECONDS = 10.0  # that a process which has written how it ended may still take
RUNNING, DONE, FAILED, STOPPED = "running", "done", "failed", "stopped"
STOP_STATUSES = (130, -signal.SIGTERM)


class BusyError(TalimError):
    """Another command is running in this folder."""


@dataclass(frozen=True)
class Job:
    """The last command of a step: its name, arguments and state, and when it began and ended (seconds of the epoch)."""

    name: str
    arguments: tuple[str, ...]
    state: str  # running, done, failed, stopped (also by a machine that was switched off)
    status: int | None
    began: float
    ended: float | None
    log: tuple[str, ...]  # the last lines

    @property
    def command(self) -> str:
        """What a terminal user types in the same folder."""
        return shlex.join(["talim", *self.arguments])


class JobRunner:
    """Starts, stops and finds commands of the folder `work`; `own` is the app's folder in it."""

    def __init__(self, work: Path, own: Path) -> None:
        if fcntl is None:
            raise TalimError("talim app needs file locks that Windows lacks: run it in WSL (Linux inside Windows)")
        self.work, self.own = work, own
        self._mutex = threading.Lock()
        self._children: list[subprocess.Popen[bytes]] = []

    def start(self, name: str, arguments: Sequence[str], before: Callable[[], None] = lambda: None) -> None:
        """Start `talim ARGUMENTS` in the folder after calling `before`; BusyError while another command runs there."""
        with self._mutex, self._open_lock() as lock:
            end = time.monotonic() + ENDING_SECONDS
            while not _take(lock):
                if not self._has_ended() or time.monotonic() > end:
                    raise BusyError("busy")
                time.sleep(0.05)
            before()
            record = self._path(name, "json")
            write_json(record, {"name": name, "arguments": [*arguments], "began": time.time()})
            write_json(self.own / "last.json", {"name": name})
            command = [sys.executable, "-P", "-m", "talim.app.child", str(record), str(lock.fileno()), *arguments]
            with open(self._path(name, "out"), "wb") as out, open(self._path(name, "log"), "wb") as log:
                child = subprocess.Popen(
                    command, cwd=self.work, stdin=subprocess.DEVNULL, stdout=out, stderr=log,
                    start_new_session=True, pass_fds=[lock.fileno()],
                )  # fmt: skip
            self._children = [each for each in self._children if each.poll() is None] + [child]  # ended ones are reaped

    def stop(self) -> None:
        """Ask the running command to end: a training saves a checkpoint first."""
        job = self.last()
        pid = None if job is None else read_json(self._path(job.name, "json")).get("pid")
        if job is not None and job.state == RUNNING and isinstance(pid, int):
            os.killpg(pid, signal.SIGTERM)

    def busy(self) -> bool:
        """Whether a command runs in the folder, whichever server started it."""
        for child in self._children:
            child.poll()
        with self._mutex, self._open_lock() as lock:
            return not _take(lock)

    def last(self) -> Job | None:
        """The command that was started last."""
        last = self.own / "last.json"
        return self.find(read_json(last)["name"]) if last.is_file() else None

    def find(self, name: str) -> Job | None:
        """The last command of a step; None where it had none."""
        record = self._path(name, "json")
        if not record.is_file():
            return None
        last = self.own / "last.json"
        running = self.busy() and last.is_file() and read_json(last)["name"] == name
        # after the lock was looked at: else one that just ended looks stopped
        facts: dict[str, Any] = read_json(record)
        status = facts.get("status")
        if running and status is None:
            state = RUNNING
        else:
            state = DONE if status == 0 else STOPPED if status is None or status in STOP_STATUSES else FAILED
        return Job(
            name, tuple(facts["arguments"]), state, status, facts["began"], facts.get("ended"),
            _last_lines(self._path(name, "log")),
        )  # fmt: skip

    def output(self, name: str) -> str:
        """What the last command of a step printed on standard output; empty where there is nothing."""
        path = self._path(name, "out")
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""

    def _has_ended(self) -> bool:
        """Whether the last command has written its status, after which its process goes away at once."""
        last = self.own / "last.json"
        return last.is_file() and "status" in read_json(self._path(read_json(last)["name"], "json"))

    def _path(self, name: str, ending: str) -> Path:
        return self.own / f"{name}.{ending}"

    def _open_lock(self) -> IO[str]:
        return open(self.own / "lock", "a", encoding="utf-8")


def _take(lock: IO[str]) -> bool:
    """Take the lock, which every holder of this descriptor keeps; False where another one has it."""
    assert fcntl is not None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _last_lines(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    with open(path, "rb") as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        lines = file.read().decode("utf-8", errors="replace").splitlines()
    return tuple(printable(line) for line in lines if line.strip())[-LOG_LINES:]
