"""Tests of talim.cli.exit_status: one line, one status, whatever went wrong."""

from __future__ import annotations

import errno
import re
from pathlib import Path

import numpy as np
import pytest

from talim import cli
from talim.cli.exit_status import EXIT_STATUSES, exit_status, machine_fault
from talim.errors import TalimError, UsageError
from talim.interrupts import Interrupted


def fail(error: BaseException) -> int:
    def command() -> None:
        raise error

    return exit_status(command)


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (TalimError("it broke:\n  do this"), 1, "talim: it broke: do this\n"),
        (UsageError("say it so"), 2, "talim: say it so\n"),
        (Interrupted("2 of 4 are done"), 130, "talim: 2 of 4 are done\n"),
        (KeyboardInterrupt(), 130, "talim: interrupted; "),
        (ZeroDivisionError("x"), 1, "talim: this is a bug in talim: ZeroDivisionError at test_exit_status.py:"),
        (FileNotFoundError(2, "No such file", "a/b"), 1, "talim: a/b: cannot be used (No such file)"),
        (OSError(errno.ENAMETOOLONG, "File name too long", "x" * 300), 1, "talim: xxx"),
        (OSError(errno.EMFILE, "Too many open files"), 1, "talim: a file or an address: cannot be used (Too many"),
        (PermissionError(13, "Permission denied", b"raw"), 1, "talim: a file or an address: cannot be used"),
        (TalimError("\x1b[2J\x9b name\udcff 録音\u3000x"), 1, "talim: \\x1b[2J\\x9b name\\udcff 録音\u3000x\n"),
    ],
)
def test_failure_prints_one_line_and_its_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str
) -> None:
    monkeypatch.delenv("TALIM_DEBUG", raising=False)
    assert fail(error) == status
    out, said = capsys.readouterr()
    assert (out, said.count("\n")) == ("", 1)
    assert said.startswith(words)


@pytest.mark.parametrize(
    ("error", "device"),
    [
        (MemoryError(), "this machine"),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:127] data. DefaultCPUAllocator: can't allocate"), "this machine"),
        (RuntimeError("std::bad_alloc"), "this machine"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "this machine"),
        (RuntimeError("CUDA error: out of memory\nCUDA kernel errors might"), "the GPU"),
        (type("OutOfMemoryError", (RuntimeError,), {})("CUDA out of memory. Tried to allocate 2 GiB"), "the GPU"),
    ],
)
def test_too_little_memory_is_no_bug_and_says_what_would_fit(
    capsys: pytest.CaptureFixture[str], error: Exception, device: str
) -> None:
    assert fail(error) == 1
    said = capsys.readouterr().err
    assert f"the memory of {device}" in said
    assert "bug in talim" not in said
    assert "batch_size=1" in said


def test_memory_that_numpy_and_torch_cannot_have_is_recognised() -> None:
    import torch

    for allocate in (lambda: np.empty(2**60, np.uint8), lambda: torch.empty(2**60, dtype=torch.uint8)):
        with pytest.raises((MemoryError, RuntimeError)) as raised:
            allocate()
        assert "the memory of this machine" in machine_fault(raised.value)


def test_machine_fault_of_a_bug_is_empty() -> None:
    assert machine_fault(ValueError("x")) == machine_fault(RuntimeError("shape mismatch")) == ""


def test_long_message_is_cut(capsys: pytest.CaptureFixture[str]) -> None:
    fail(TalimError("x" * 10**7))
    assert len(capsys.readouterr().err) <= 2010


def test_result_is_the_status_of_a_command_that_returns_one() -> None:
    assert [exit_status(lambda value=value: value) for value in (None, 0, 1, "x")] == [0, 0, 1, 0]
    assert exit_status(lambda: 130) == 130


def test_too_little_memory_behind_an_error_of_talim_is_told_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    error = TalimError("base 'x' cannot be read")
    error.__cause__ = MemoryError("Unable to allocate 3.2 GiB")
    assert fail(error) == 1
    assert "the memory of this machine is too small for this (Unable to allocate 3.2 GiB)" in capsys.readouterr().err


REFERENCE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
COMMANDS = (
    *("prepare", "designs", "plan", "train", "generate", "evaluate", "report", "study", "poc", "demo", "ratings"),
    *("modes", "copies", "listen serve", "listen power", "brief review", "brief report", "brief export"),
    *("adapters list", "adapters info", "adapters check"),
)


def printed(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    """Status, standard output and standard error of a command, both with single spaces."""
    with pytest.raises(SystemExit) as done:
        cli.main([*arguments])
    out, err = capsys.readouterr()
    return int(done.value.code or 0), " ".join(out.split()), " ".join(err.split())


def test_help_and_reference_name_the_same_commands_whose_check_may_fail(capsys: pytest.CaptureFixture[str]) -> None:
    section = REFERENCE.read_text(encoding="utf-8").partition("## Exit status")[2].partition("\n## ")[0]
    rows = section.partition("| command | status 1 where |")[2].splitlines()
    cells = [name for row in rows for name in re.findall(r"`([a-z]+(?: [a-z]+)?)", row.partition("|")[2].split("|")[0])]
    helps = {name: printed(capsys, *name.split(), "--help")[1] for name in COMMANDS}
    assert {name for name, text in helps.items() if "Exit status 1" in text} == {*cells}
    statuses = re.findall(r"^\| (\d+) \|", section, re.MULTILINE)
    assert statuses == re.findall(r"(?:: |; )(\d+) ", EXIT_STATUSES) == ["0", "1", "2", "130"]
    assert EXIT_STATUSES in printed(capsys, "--help")[1]


@pytest.mark.parametrize("name", COMMANDS)
def test_an_error_of_the_command_line_names_the_help_of_its_command(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    for arguments in ([*name.split(), "--nonsense"], [*name.split(), "--seed", "--json", "surplus", "surplus"]):
        status, out, err = printed(capsys, *arguments)
        assert (status, out) == (2, "")
        assert err.endswith(f"(see talim {name} --help)"), err


def test_an_unknown_command_names_the_help_of_its_group(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(capsys, "trian")[2].endswith("(see talim --help)")
    assert printed(capsys, "adapters", "lst")[2].endswith("(see talim adapters --help)")
    for group in ([], ["adapters"], ["brief"]):
        status, out, err = printed(capsys, *group)
        assert (status, err) == (2, "")
        assert "Usage: " in out
    status, _, err = printed(capsys, "listen", "no-such-folder", "--nonsense")
    assert (status, err[-31:]) == (2, "(see talim listen serve --help)")


@pytest.mark.parametrize(
    "command",
    [
        "prepare MISSING --out OUT",
        "prepare EMPTY --out OUT",
        "train --corpus MISSING --out OUT",
        "train --corpus EMPTY --config MISSING --out OUT",
        "generate --run MISSING --prompt a --out OUT/a.flac",
        "generate --adapter MISSING --prompt a --out OUT/a.flac",
        "evaluate MISSING",
        "evaluate EMPTY",
        "report MISSING",
        "report EMPTY",
        "study MISSING --out OUT",
        "plan MISSING",
        "poc MISSING --out OUT",
        "poc EMPTY --out OUT",
        "listen MISSING",
        "ratings MISSING",
        "ratings EMPTY",
        "brief MISSING --out OUT",
        "copies MISSING EMPTY --out OUT",
        "copies EMPTY EMPTY --out OUT",
        "modes MISSING",
        "modes EMPTY --suggest OUT",
        "adapters list MISSING",
        "adapters info EMPTY",
        "adapters check MISSING",
    ],
)
def test_what_is_not_there_is_status_1_of_every_command(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("EMPTY").mkdir()
    status, out, err = printed(capsys, *command.split())
    assert (status, out, err.count("talim: ")) == (1, "", 1), err
    assert not Path("OUT").exists() or not [path for path in Path("OUT").rglob("*") if path.name != ".lock"]
