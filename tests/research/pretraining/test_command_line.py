"""The command line of a dataclass of settings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from research.pretraining.command_line import parse_config


@dataclass(frozen=True)
class Config:
    out: Path = Path("training")
    learning_rate: float = 1e-3
    crop_frames: tuple[int, int] = (50, 150)
    only_pieces: bool = False


def test_parse_config_without_arguments_gives_the_defaults() -> None:
    assert parse_config(Config, __doc__, []) == Config()


def test_parse_config_reads_every_type() -> None:
    arguments = ["--out", "a", "--learning-rate", "2", "--crop-frames", "1", "2", "--only-pieces"]
    assert parse_config(Config, __doc__, arguments) == Config(Path("a"), 2.0, (1, 2), True)


def test_parse_config_with_an_unknown_flag_exits() -> None:
    with pytest.raises(SystemExit):
        parse_config(Config, __doc__, ["--other", "1"])
