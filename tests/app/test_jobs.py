"""Commands as processes: how they end, one at a time, found again by another server, stopped, and cut off."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from talim.app.jobs import DONE, FAILED, RUNNING, STOPPED, BusyError, Job, JobRunner
from talim.app.workspace import Workspace

SERVER = ["app", "inner", "--no-browser", "--port", "0"]  # a command that goes on until it is stopped


@pytest.fixture
def runner(work: Workspace) -> JobRunner:
    return JobRunner(work.folder, work.own)


def wait(until: Callable[[], bool]) -> None:
    end = time.monotonic() + 240  # on a crowded machine
    while not until():
        assert time.monotonic() < end
        time.sleep(0.05)


def ended(runner: JobRunner) -> Job:
    wait(lambda: not runner.busy())
    job = runner.last()
    assert job is not None
    return job


def test_last_of_a_new_folder_is_none(runner: JobRunner) -> None:
    assert runner.last() is None
    assert runner.find("train") is None
    assert runner.output("plan") == ""
    assert not runner.busy()


def test_start_of_a_command_that_succeeds_and_of_one_that_fails(runner: JobRunner, work: Workspace) -> None:
    (work.folder / "talim.py").write_text("raise SystemExit('a module of the user is no part of talim')")
    runner.start("plan", ["--version"])
    wait(lambda: "status" in json.loads((work.own / "plan.json").read_text()))
    job = runner.find("plan")
    assert job is not None
    assert (job.state, job.status, job.command, job.log) == (DONE, 0, "talim --version", ())
    assert runner.output("plan").startswith("talim ")
    runner.start("prepare", ["prepare", "it's not there", "--out", "x" * 300])  # though the first may not be gone yet
    job = ended(runner)
    assert (job.name, job.state, job.status) == ("prepare", FAILED, 2)
    assert job.command.startswith("""talim prepare 'it'"'"'s not there' --out x""")
    assert "give a shorter one" in job.log[-1]


def test_stop_ends_a_command_that_another_server_started(runner: JobRunner, work: Workspace) -> None:
    runner.start("train", SERVER)
    other = JobRunner(work.folder, work.own)
    with pytest.raises(BusyError):
        other.start("make", ["--version"])
    wait(lambda: (work.folder / "inner" / ".talim-app" / "token").is_file())
    found = other.last()
    assert found is not None
    assert (found.name, found.state) == ("train", RUNNING)
    wait(lambda: "http" in other.output("train"))
    other.stop()
    assert ended(other).state == STOPPED
    other.stop()  # of nothing
    assert json.loads((work.own / "train.json").read_text())["status"] == 130


def test_command_whose_watcher_was_killed_still_counts_as_running(runner: JobRunner, work: Workspace) -> None:
    runner.start("train", SERVER)
    wait(lambda: "http" in runner.output("train"))
    watcher = json.loads((work.own / "train.json").read_text())["pid"]
    os.kill(watcher, signal.SIGKILL)
    time.sleep(0.2)
    assert runner.busy()
    runner.stop()
    job = ended(runner)
    assert (job.state, job.status) == (STOPPED, None)  # as after a machine that was switched off


def test_last_lines_of_a_log_are_short_and_printable(runner: JobRunner, work: Workspace) -> None:
    (work.own / "plan.json").write_text('{"name": "plan", "arguments": ["plan"], "began": 1.0}')
    Path(work.own / "plan.log").write_bytes(b"line\n" * 9000 + b"\xff\x1b[31mred\n\n")
    job = runner.find("plan")
    assert job is not None
    assert job.state == STOPPED
    assert len(job.log) == 12
    assert "\x1b" not in job.log[-1]
