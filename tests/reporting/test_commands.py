"""Commands on pages: they run from anywhere, and a hostile name stays one word."""

from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

from fixtures.run_folder import RECIPE, make_run

from talim.atomic_io import write_json
from talim.planning.plan import music_to_train_on
from talim.planning.training_job import FULL_PASSES, full_training_job
from talim.poc.options import PocOptions, build_recipes
from talim.recipe import Recipe, parse_setting
from talim.reporting import commands
from talim.reporting.commands import generate_command, reproduce_commands
from talim.reporting.run_results import RunResults, read_result


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


def test_full_training_is_the_same_in_the_poc_command_and_the_plan_command_of_a_page(tmp_path: Path) -> None:
    """25 clips of 9.65 s, two a step: by the length of a full clip 30 passes would be 362 steps."""
    corpus = tmp_path / "po c" / "corpus"
    corpus.mkdir(parents=True)
    summary = {"clip_seconds": 10.0, "split": {"train": {"seconds": 241.25, "clips": 25}}}
    write_json(corpus / "summary.json", summary)
    training = {"batch_size": 2, "crop_seconds": 9.8, "gradient_checkpointing": True, "steps": 7}
    recipe = Recipe(corpus="out/corpus", design="linear@all:2.7%", training=training).model_dump(mode="json")
    result = RunResults(corpus.parent / "linear", recipe=recipe, corpus=summary)
    job = commands.full_training(result, "mustango")
    assert job
    assert job.steps == 375
    plan = commands.plan_command(result, "mustango").replace(" --gradient-checkpointing", "")
    given = arguments(plan)
    seconds, batch_size = float(given["--clip-seconds"]), int(given["--batch-size"])
    assert Path(given["--corpus"]) == corpus
    music, _ = music_to_train_on("mustango", None, given["--corpus"], seconds)
    assert music
    assert music.full_steps(batch_size, seconds) == int(given["--steps"]) == job.steps
    assert job.steps / music.steps_per_pass(batch_size, seconds) == FULL_PASSES
    words = shlex.split(commands.poc_training(job))
    settings = tuple(parse_setting(words[at + 1]) for at, word in enumerate(words) if word == "--set")
    options = PocOptions(base="mustango", designs=(words[words.index("--design") + 1],), settings=settings)
    (typed,) = build_recipes(options, tmp_path).values()
    again = full_training_job(typed.model_dump(mode="json"), options.clip_seconds, "mustango", music)
    assert again == job
    assert typed.training.steps == job.steps
    assert words[-2:] == ["--no-learning-curve", "--no-tune"]


def test_plan_command_names_no_music_that_would_give_other_steps(tmp_path: Path) -> None:
    summary = {"clip_seconds": 10.0, "split": {"train": {"seconds": 241.25, "clips": 25}}}
    recipe = Recipe(corpus="corpus").model_dump(mode="json")
    result = RunResults(tmp_path / "run", recipe=recipe, corpus=summary)
    assert "--steps 94 " in commands.plan_command(result, "mustango")
    assert "--corpus" not in commands.plan_command(result, "mustango")
