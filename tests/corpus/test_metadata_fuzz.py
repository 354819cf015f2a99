"""Metadata tables with random faults (fuzz/metadata_tables.py): refused in one line, or every row used or named."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzz.metadata_tables import make_recordings, prepare_case, read_case, table_cases


@pytest.fixture(scope="module")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "recordings"
    make_recordings(folder)
    return folder


def test_read_metadata_uses_or_names_every_row(recordings: Path) -> None:
    outcomes = [read_case(case, recordings) for case in table_cases(seed=1, count=60)]
    assert [outcome.fault for outcome in outcomes if outcome.fault] == []
    assert {outcome.how for outcome in outcomes} == {"read", "refused"}
    assert sum(outcome.used for outcome in outcomes) > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 2])
def test_read_metadata_uses_or_names_every_row_of_many_tables(recordings: Path, seed: int) -> None:
    outcomes = {case.number: read_case(case, recordings) for case in table_cases(seed, count=600)}
    assert {number: outcome.fault for number, outcome in outcomes.items() if outcome.fault} == {}


@pytest.mark.slow
def test_prepare_uses_or_names_every_row(recordings: Path, tmp_path: Path) -> None:
    outcomes = {
        case.number: prepare_case(case, recordings, tmp_path / str(case.number))
        for case in table_cases(seed=3, count=40)
    }
    assert {number: outcome.fault for number, outcome in outcomes.items() if outcome.fault} == {}
    assert {outcome.how for outcome in outcomes.values()} >= {"status 0", "status 1"}
