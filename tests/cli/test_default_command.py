"""Tests of talim.cli.default_command: a group runs its first command where none is named."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from talim.cli.default_command import DefaultCommandGroup

app = typer.Typer(cls=DefaultCommandGroup, no_args_is_help=True)


@app.command()
def serve(folder: str, port: int = 1) -> None:
    print("serve", folder, port)


@app.command()
def power(folder: str = "none") -> None:
    print("power", folder)


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["my-poc"], "serve my-poc 1"),
        (["my-poc", "--port", "2"], "serve my-poc 2"),
        (["--port", "2", "my-poc"], "serve my-poc 2"),
        (["serve", "power"], "serve power 1"),
        (["power"], "power none"),
        (["./power"], "serve ./power 1"),
    ],
)
def test_first_argument_that_names_no_command_is_given_to_the_first_one(arguments: list[str], printed: str) -> None:
    result = CliRunner().invoke(app, arguments)
    assert (result.exit_code, result.stdout.strip()) == (0, printed)


def test_help_is_that_of_the_group() -> None:
    for arguments in (["--help"], []):
        output = CliRunner().invoke(app, arguments).output
        assert "serve" in output
        assert "power" in output


def test_a_misspelt_option_of_the_default_command_is_a_usage_error() -> None:
    result = CliRunner().invoke(app, ["my-poc", "--prot", "2"])
    assert result.exit_code == 2
