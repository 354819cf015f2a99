"""Random command lines end in 0, 1, 2 or 130, in bounded time, without a traceback and without a bug's words."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.command_lines import Outcome, command_lines, make_files, run_as_processes, run_lines


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the lines name their files in."""
    folder = tmp_path_factory.mktemp("fuzz")
    make_files(folder)
    return folder


def told(outcomes: list[Outcome]) -> list[str]:
    return [f"{outcome.fault}: {outcome.arguments}: {outcome.said[-400:]}" for outcome in outcomes if outcome.fault]


def test_lines_of_a_seed_are_always_the_same_and_name_every_command() -> None:
    lines = list(command_lines(3, 400))
    assert lines == list(command_lines(3, 400))
    assert {line[0] for line in lines} >= {"prepare", "train", "generate", "evaluate", "listen", "brief", "adapters"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(8))
def test_random_lines_in_forked_children_end_as_they_may(place: Path, seed: int) -> None:
    outcomes = list(run_lines(list(command_lines(seed, 250)), place, parallel=2))
    assert len(outcomes) == 250
    assert told(outcomes) == []
    assert {outcome.status for outcome in outcomes} >= {0, 1, 2}


@pytest.mark.slow
def test_random_lines_as_processes_end_as_they_may(place: Path) -> None:
    outcomes = list(run_as_processes(list(command_lines(100, 40)), place))
    assert told(outcomes) == []


FELL = [
    [
        "generate",
        "--base",
        "nano-mustango",
        "--seconds",
        "1e7",
        "--beats",
        "400 bpm",
        "--prompt",
        "a",
        "--out",
        "a.flac",
    ],
    ["generate", "--base", "!!python/object:x", "--prompt", "a", "--out", "a.flac"],
    ["generate", "--base", "x" * 300, "--prompt", "a", "--out", "a.flac"],
    ["generate", "--base", "nano-musicgen", "--prompt", "\udcff", "--out", "a.flac"],
    ["generate", "--base", "nano-musicgen", "--prompt", "a", "--out", "x" * 300 + ".flac"],
    ["train", "--out", "OUT", "--corpus", "x" * 300],
    ["train", "--out", "OUT", "--config", "x" * 300],
    ["train", "--out", "OUT", "--config", "ALIASES.yaml"],
    ["train", "--out", "OUT", "--config", "DEEP.yaml"],
    ["train", "--out", "OUT", "--config", "FIFO"],
    ["train", "--out", "OUT", "--config", "/dev/zero"],
    ["train", "--out", "OUT", "--corpus", "CORPUS", "--base", "BASE", "--set", "base=" + "[" * 5000],
    ["train", "--out", "OUT", "--corpus", "CORPUS", "--base", "BASE", "--device", "tpu"],
    ["study", "DEEP.yaml", "--out", "OUT"],
    ["brief", "report", "DEEP.yaml", "--out", "OUT"],
    ["modes", "TAKES/take-0.wav", "--tonic", "1e308"],
    ["modes", "TAKES/take-0.wav", "--tradition", "x" * 300],
    ["report", "x" * 300],
    ["prepare", "TAKES", "--out", "LOOP"],
    ["report", "STUDY"],
    ["report", "POC"],
    ["ratings", "TEST"],
    ["listen", "TEST", "--no-serve"],
    ["adapters", "list", "LOOP"],
    ["generate", "--run", "POC", "--prompt", "a", "--out", "a.flac"],
]


def test_lines_that_once_fell_end_as_they_may(place: Path) -> None:
    outcomes = list(run_lines(FELL, place))
    assert told(outcomes) == []
    assert [outcome.arguments for outcome in outcomes if outcome.interrupted or outcome.status not in (1, 2)] == []
