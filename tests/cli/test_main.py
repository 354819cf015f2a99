"""The command line: help with an example everywhere, one JSON document on stdout, one line on failure."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer

import talim
from talim import cli
from talim.cli.default_command import DefaultCommandGroup
from talim.errors import TalimError, UsageError
from talim.run import Run


def talim_exits(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main([str(a) for a in arguments])
    output = capsys.readouterr()
    return int(done.value.code or 0), output.out, output.err


def commands() -> list[tuple[str, ...]]:
    group: Any = typer.main.get_command(cli.app)
    names: list[tuple[str, ...]] = []
    for name, command in group.commands.items():
        subcommands = getattr(command, "commands", None)
        names += [(name, inner) for inner in subcommands] if subcommands else [(name,)]
    return names


def test_commands_are_listed_in_the_order_of_the_work() -> None:
    names = list(dict.fromkeys(command[0] for command in commands()))
    assert [name for name in names if name not in ("listen", "ratings", "brief", "adapters")] == [
        "prepare",
        "designs",
        "plan",
        "train",
        "generate",
        "evaluate",
        "report",
        "export",
        "serve",
        "study",
        "poc",
        "demo",
        "app",
        "modes",
        "copies",
        "origin",
    ]
    assert {"listen", "ratings", "brief", "adapters"} <= {*names}
    assert {c[1] for c in commands() if c[0] == "adapters"} == {"list", "info", "check"}


def test_help_groups_the_commands(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = talim_exits(capsys, "--help")
    assert status == 0
    for panel in ("Train an adapter", "Compare designs", "Ask people", "Inspect files"):
        assert panel in out


def is_default(command: tuple[str, ...]) -> bool:
    """Whether the command is the one that its group runs where no command is named."""
    group: Any = typer.main.get_command(cli.app)
    inner = group.commands[command[0]]
    return isinstance(inner, DefaultCommandGroup) and next(iter(inner.commands)) == command[1]


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help_of_a_command_shows_an_example(capsys: pytest.CaptureFixture[str], command: tuple[str, ...]) -> None:
    status, out, err = talim_exits(capsys, *command, "--help")
    assert (status, err) == (0, "")
    assert "Example:" in out
    shown = command[:1] if is_default(command) else command
    assert f"talim {' '.join(shown)}" in " ".join(out.split())


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_help_of_a_command_cuts_no_name_at_80_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    _, out, _ = talim_exits(capsys, *command, "--help")
    assert max(map(len, out.splitlines())) == 80
    assert "…" not in out
    inner: Any = typer.main.get_command(cli.app)
    for name in command:
        inner = inner.commands[name]
    names = {name for each in inner.params for name in (*each.opts, *each.secondary_opts) if name.startswith("-")}
    assert names <= {*out.split()}


@pytest.mark.parametrize("command", commands(), ids=" ".join)
def test_example_of_a_command_can_be_parsed(command: tuple[str, ...]) -> None:
    inner: Any = typer.main.get_command(cli.app)
    for name in command:
        inner = inner.commands[name]
    words = shlex.split(inner.epilog.split("`")[1])[1:]
    assert words[0] == command[0]
    arguments = words[1:] if is_default(command) else words[len(command) :]
    with inner.make_context(" ".join(command), arguments):
        pass


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), ("train", "--help"), ("generate", "--help")])
def test_help_and_version_load_no_torch(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys\nfrom talim.cli import main\ntry:\n"
        f"    main({list(arguments)!r})\nexcept SystemExit as done:\n    assert done.code == 0, done.code\n"
        "heavy = {'torch', 'transformers', 'peft', 'librosa', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_version_prints_name_and_number(capsys: pytest.CaptureFixture[str]) -> None:
    assert talim_exits(capsys, "--version") == (0, f"talim {talim.__version__}\n", "")


def test_python_dash_m_talim_runs_the_command_line() -> None:
    done = subprocess.run([sys.executable, "-m", "talim", "--version"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"talim {talim.__version__}\n")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("trian",), 2, "No such command 'trian'"),
        (("train",), 2, "Missing option '--out'"),
        (("train", "--out", "x", "--stpes", "3"), 2, "No such option: --stpes"),
        (
            ("train", "--out", "x", "--steps", "many"),
            2,
            "value for '--steps': 'many': expected a whole number, such as 80",
        ),
        (("poc", ".", "--out", "y", "--hours", "1h"), 2, "value for '--hours': '1h': expected a number, such as 80 ("),
        (("plan", "--price-per-hour", "80円"), 2, "'--price-per-hour': '80円': expected a number, such as 80"),
        (("train", "--out", "x", "--config", "no-such"), 1, "no such recipe file"),
        (("evaluate",), 2, "either a run"),
        (("evaluate", "x", "--seconds", "0"), 2, "Invalid value for '--seconds'"),
        (("poc", ".", "--out", "y", "--hours", "0"), 2, "--hours is 0"),
        (("poc", ".", "--out", "y", "--set", "training.stepz=3"), 2, "did you mean training.steps?"),
    ],
)
def test_wrong_usage_prints_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple,
    status: int,
    words: str,
) -> None:
    """Exit status 2, or 1 where a file that was named is not there."""
    monkeypatch.chdir(tmp_path)
    found, out, err = talim_exits(capsys, *arguments)
    assert (found, out, err.count("\n")) == (status, "", 1)
    assert err.startswith("talim: ")
    assert words in err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (TalimError("it broke:\n  do this"), 1, "talim: it broke: do this\n"),
        (UsageError("say it so"), 2, "talim: say it so\n"),
        (KeyboardInterrupt(), 130, "talim: interrupted; "),
        (ZeroDivisionError("x"), 1, "talim: this is a bug in talim: ZeroDivisionError at test_main.py:"),
    ],
)
def test_failure_prints_one_line_with_its_exit_status(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int, words: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("talim.api.report", fail)
    monkeypatch.delenv("TALIM_DEBUG", raising=False)
    found, out, err = talim_exits(capsys, "report", ".")
    assert (found, out, err.count("\n")) == (status, "", 1)
    assert err.startswith(words)


def test_debug_mode_prints_the_traceback(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("talim.api.report", lambda *_, **__: 1 / 0)
    monkeypatch.setenv("TALIM_DEBUG", "1")
    status, _, err = talim_exits(capsys, "report", ".")
    assert status == 1
    assert err.startswith("Traceback (most recent call last)")


def test_json_option_prints_one_document_on_stdout(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, make_recordings: Callable[..., Path], tiny_base: Path
) -> None:
    recordings, corpus, run = make_recordings(tmp_path / "takes", seconds=2.5), tmp_path / "corpus", tmp_path / "run"
    small = ["--set", "training.batch_size=2", "--steps", "2", "--set", "training.precision=fp32"]
    for arguments in (
        ["prepare", recordings, "--out", corpus, "--clip-seconds", "2"],
        ["train", "--base", tiny_base, "--corpus", corpus, "--out", run, "--design", "linear@all:10%", *small],
        ["train", "--out", run],
        ["evaluate", run, "--seconds", "1", "--num-prompts", "1"],
        ["report", run],
        ["adapters", "list", tmp_path],
        ["adapters", "info", run / "adapter"],
        ["adapters", "check", run / "adapter", "--base", tiny_base],
        ["generate", "--run", run, "--prompt", "a", "--seconds", "1", "--out", tmp_path / "a.flac"],
    ):
        status, out, _ = talim_exits(capsys, *arguments, "--json")
        assert status == 0, arguments
        assert json.loads(out), arguments
    assert Run(run).finished


def test_closed_pipe_prints_no_traceback() -> None:
    command = f"{sys.executable} -m talim --help | head -c 1 >/dev/null"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert done.stderr == ""
