"""Drafted protocols."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from talim.errors import TalimError
from talim.listening import protocol as p
from talim.listening.draft_protocol import protocol_folder, write_draft
from talim.listening.stimuli import prepare

Make = Callable[..., Path]


def test_write_draft_over_runs_is_a_valid_protocol(make_test: Make) -> None:
    folder = make_test() / "runs"
    assert write_draft(folder) == folder / "listening" == protocol_folder(folder)
    protocol = p.load(folder / "listening")
    assert protocol.names == ["conv", "linear", "untrained", "real"]
    assert protocol.reference == "untrained"
    assert len(prepare(folder / "listening", protocol).items) == 4


def test_write_draft_without_runs_raises_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="talim evaluate"):
        write_draft(tmp_path)
