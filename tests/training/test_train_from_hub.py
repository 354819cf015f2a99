"""Training on a base of the Hub: its commit is recorded, and later loads of the run and the adapter use it."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from fixtures.log_lines import Lines
from stand_in_hub.server import StandInHub, read_folder

from talim import recipe as recipes
from talim.adapters import serialization
from talim.backbones.load import load
from talim.errors import TalimError
from talim.generation.sources import choose_source
from talim.interrupts import Interrupted
from talim.progress import Progress
from talim.run import Run
from talim.training.train import train

NAME = "someone/musicgen-tiny"


def test_run_on_a_hub_base_keeps_to_its_commit(
    stand_in_hub: StandInHub, tiny_base: Path, make_base: Any, quick_recipe: Any, tmp_path: Path
) -> None:
    first = stand_in_hub.publish(NAME, tiny_base)
    recipe = quick_recipe(base=NAME, training__steps=2, training__eval_every=2)
    run = train(recipe, tmp_path / "run", device="cpu")
    assert json.loads(run.facts_file.read_text())["base"]["revision"] == first
    assert run.recipe.base == NAME
    info = serialization.read_info(run.adapter)["base"]
    assert (info["name"], info["revision"], info.get("local")) == (NAME, first, None)
    assert json.loads((run.adapter / "adapter_config.json").read_text())["revision"] == first
    card = (run.adapter / "README.md").read_text()
    assert f"revision='{first}'" in card
    assert f"--base {NAME}@{first}" in card

    other = stand_in_hub.publish(NAME, read_folder(make_base(tmp_path / "musicgen-tiny", seed=1)))
    assert other != first
    assert run.base == f"{NAME}@{first}"
    assert choose_source(run.folder, None, [], False).base == f"{NAME}@{first}"
    assert choose_source(None, None, [run.adapter], False).base == f"{NAME}@{first}"
    serialization.load(load(run.base, device="cpu"), run.adapter)
    with pytest.raises(TalimError, match=f"trained on base {NAME}@{first} .* but this is {NAME}@{other}"):
        serialization.load(load(f"{NAME}@main", device="cpu"), run.adapter)
    assert Run(run.folder).base == f"{NAME}@{first}"


class StopAfterOneStep(Progress):
    """Ctrl-C at the first step."""

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        if title == "training" and done == 1:
            signal.raise_signal(signal.SIGINT)


def test_a_run_that_was_begun_on_another_commit_names_both(
    stand_in_hub: StandInHub, tiny_base: Path, make_base: Any, quick_recipe: Any, tmp_path: Path
) -> None:
    first = stand_in_hub.publish(NAME, tiny_base)
    recipe, log = quick_recipe(base=NAME, training__steps=2), Lines()
    with pytest.raises(Interrupted):
        train(recipe, tmp_path / "run", StopAfterOneStep(), device="cpu")
    other = stand_in_hub.publish(NAME, read_folder(make_base(tmp_path / "musicgen-tiny", seed=1)))
    another = load(f"{NAME}@main", device="cpu")
    with pytest.raises(TalimError, match=rf"has \w+ \(commit {other} instead of {first}\); choose another --out"):
        train(recipe, tmp_path / "run", log, backbone=another)
    train(recipe, tmp_path / "run", log, device="cpu")  # by its name the run finds the commit that it was begun on
    assert any(line.startswith(f"base: {NAME} (commit {first}), ") for line in log.lines)


def test_base_of_a_run_on_a_folder_is_that_of_its_recipe(quick_recipe: Any, tiny_base: Path, tmp_path: Path) -> None:
    run = Run(tmp_path)
    run.recipe_file.write_text(recipes.dump(quick_recipe()), encoding="utf-8")
    run.facts_file.write_text(json.dumps({"base": {"name": "tiny", "fingerprint": "f"}}), encoding="utf-8")
    assert run.base == str(tiny_base)
