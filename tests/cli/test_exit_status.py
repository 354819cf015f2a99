"""Tests of talim.cli.exit_status: one line, one status, whatever went wrong."""

from __future__ import annotations

import errno

import numpy as np
import pytest

from talim.cli.exit_status import exit_status, machine_fault
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
