"""The commands of the steps: what a terminal user would type, and what is written before they start."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from fixtures.run_folder import make_run

from talim.app.commands import REQUESTS
from talim.app.workspace import Workspace
from talim.briefs import brief as briefs
from talim.cli.main import app


def command(work: Workspace, name: str, **asked: Any) -> str:
    return shlex.join(REQUESTS[name].model_validate(asked).arguments(work))


@pytest.mark.parametrize(
    ("name", "asked", "expected"),
    [
        ("suggest", {}, "modes recordings --suggest suggested-1.csv"),
        ("prepare", {"caption": "  "}, "prepare recordings --out corpus"),
        ("train", {"resume": True}, "train --out run-1"),
        (
            "train",
            {"length": "base", "steps": 9, "seed": 3, "design": "conv@all:2.7%"},
            "train --corpus corpus --config base --base nano-musicgen --design conv@all:2.7% --seed 3 --steps 9 "
            "--out run-2",
        ),
        ("evaluate", {"num_prompts": 1, "seconds": 2}, "evaluate run-1 --num-prompts 1 --seconds 2"),
        ("report", {}, "report run-1"),
        ("make", {"prompt": "-loud"}, "generate --run run-1 --prompt=-loud --seconds 10 --seed 0 --out music-1.flac"),
        (
            "make",
            {"strength": 0.5, "count": 2, "phrase": "my phrase.wav"},
            "generate --run run-1 --prompt '' --continue 'phrases/my phrase.wav' --adapter-scale 0.5 --seconds 10 "
            "--seed 0 --num-samples 2 --out music-1",
        ),
        ("listening-test", {"listeners": 2}, "listen serve run-1 --invites 2 --port 0"),
        ("ratings", {}, "ratings run-1"),
        ("brief", {"prompt": "calm"}, "brief review brief-1.yaml --out brief-1 --run run-1 --invites 1 --port 0"),
        ("share", {"to": "transformers"}, "export run-1 --to transformers --out shared-1"),
        ("share", {"to": "space"}, "export run-1 --to space --out shared-1"),
    ],
)
def test_arguments_are_those_of_a_terminal(work: Workspace, name: str, asked: dict[str, Any], expected: str) -> None:
    make_run(work.folder / "run-1", seconds=0)
    (work.folder / "phrases").mkdir()
    (work.folder / "phrases" / "my phrase.wav").touch()
    found = command(work, name, **asked)
    assert found == expected
    import typer.main

    first, *rest = shlex.split(found)
    group: Any = typer.main.get_command(app)
    one = group.commands[first]
    if rest[0] in getattr(one, "commands", {}):
        one = one.commands[rest.pop(0)]
    one.make_context(first, rest)  # parses


def test_plan_asks_for_as_many_steps_as_the_training_takes(work: Workspace) -> None:
    found = command(work, "plan", base="musicgen-small", length="base", steps=90, gpu="l4", price_per_hour=0.5)
    assert "--base musicgen-small --design linear@all:2.7% --design conv@all:2.7%" in found
    assert "--steps 90 --batch-size 8 --clip-seconds 10 --gpu l4 --price-per-hour 0.5 --json" in found
    work.choose(design="conv@deep:1M")
    assert "--design conv@deep:1M" in command(work, "plan")


def test_brief_is_written_before_its_command_and_can_be_read(work: Workspace) -> None:
    make_run(work.folder / "run-1", seconds=0)
    work.choose(price_per_hour=2.0)
    request = REQUESTS["brief"].model_validate(
        {"title": "朝のジングル: 1", "prompt": "calm", "seconds": 8, "person_hour": 30}
    )
    request.write(work)
    brief = briefs.load(work.folder / "brief-1.yaml")
    assert (brief.title["ja"], brief.prompt, brief.seconds) == ("朝のジングル: 1", "calm", 8)
    assert (brief.prices.machine_hour, brief.prices.person_hour) == (2.0, 30)
    assert command(work, "brief", resume=True) == "brief review brief-1.yaml --out brief-1 --invites 1 --port 0"
    assert command(work, "brief-report") == "brief report brief-1.yaml --out brief-1"
    assert command(work, "brief").startswith("brief review brief-2.yaml")
