"""Commands on pages: they run from anywhere, and a hostile name stays one word."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from fixtures.run_folder import RECIPE, make_run

from talim.reporting.commands import generate_command, reproduce_commands
from talim.reporting.run_results import read_result


def arguments(command: str) -> dict[str, str]:
    words = shlex.split(command)
    return dict(zip(words[2::2], words[3::2], strict=False))


def test_reproduce_commands_have_paths_that_exist_from_elsewhere(tmp_path: Path) -> None:
    run = make_run(tmp_path / "po c" / "x; touch PWNED #$(id)", seconds=0, recipe=RECIPE | {"corpus": "po c/corpus"})
    train, evaluate, report = reproduce_commands(read_result(run))
    given = arguments(train)
    assert Path(given["--config"]).is_absolute()
    assert Path(given["--config"]).is_file()
    assert (Path(given["--corpus"]) / "summary.json").is_file()  # the recipe's own path starts from another folder
    assert given["--out"] == f"{run}-again"
    assert shlex.split(evaluate)[2] == shlex.split(report)[2] == f"{run}-again"
    shown = subprocess.run(f"echo {train}", shell=True, cwd="/", capture_output=True, text=True, check=True).stdout
    assert str(run) in shown  # a shell takes nothing of it as a command of its own
    assert not Path("/PWNED").exists()


def test_reproduce_commands_of_a_local_base_name_its_folder(tmp_path: Path) -> None:
    base = tmp_path / "bases" / "mine"
    base.mkdir(parents=True)
    (base / "config.json").write_text("{}")
    run = make_run(tmp_path / "run", seconds=0, recipe=RECIPE | {"base": "bases/mine"})
    assert arguments(reproduce_commands(read_result(run))[0])["--base"] == str(base)


def test_reproduce_commands_without_a_recipe_are_none(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds=0, recipe=None)
    assert reproduce_commands(read_result(run)) == []


def test_generate_command_quotes_the_prompt(tmp_path: Path) -> None:
    words = shlex.split(generate_command(tmp_path / "run", {}, "-it's\n$(id)"))
    assert words[:4] == ["talim", "generate", "--run", str(tmp_path / "run")]
    assert words[4] == "--prompt=-it's $(id)"
    assert words[-1] == str(tmp_path / "music" / "run.flac")
