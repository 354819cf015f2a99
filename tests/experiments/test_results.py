"""Reading a study's results: last line counts, failures apart, other settings in no table, damage named."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.simulated_study import lines, study, write

from talim.errors import TalimError
from talim.experiments.results import is_study, read_study


def test_what_is_written_is_read(tmp_path: Path) -> None:
    found = study(tmp_path)
    assert len(found.rows) == 12 * 3 * 2
    assert [table.name for table in found.tables] == [
        "nano-musicgen, hindustani-solo",
        "nano-musicgen, makam-solo",
    ]
    table = found.tables[0]
    assert [row.seed for row in table.of("conv@all:2.7%")] == [0, 1, 2]
    assert table.designs[0].endswith(":0.53%")  # the smallest first
    assert is_study(tmp_path)
    assert not is_study(tmp_path / "none")


def test_the_last_line_of_an_id_counts(tmp_path: Path) -> None:
    some = lines()[:4]
    again = some[1] | {"status": "failed", "error": "power cut"}
    found = read_study(write(tmp_path, [*some, again]))
    assert len(found.rows) == 3
    assert [row.error for row in found.failed] == ["power cut"]


def test_other_settings_never_share_a_table(tmp_path: Path) -> None:
    changed = lines()
    changed[0]["settings_hash"] = "elsewhere"
    found = read_study(write(tmp_path, changed))
    assert [row.id for row in found.set_aside] == [changed[0]["id"]]
    assert all({row.settings_hash for row in table.rows} == {table.settings} for table in found.tables)
    halves = [line | {"settings_hash": "new"} if n % 2 else line for n, line in enumerate(lines()[:6])]
    assert read_study(write(tmp_path, halves)).tables[0].settings == "new"  # of equals the later one


def test_pairs_are_of_one_setting_and_corpus(tmp_path: Path) -> None:
    factors = study(tmp_path).rows[0].trial.factors
    assert factors["settings"] == "hindustani-solo-0"
    assert factors["corpus"] == "hindustani-solo"


def test_an_empty_and_a_torn_file(tmp_path: Path) -> None:
    assert read_study(write(tmp_path, [])).rows == []
    path = write(tmp_path, lines()[:2]) / "results.jsonl"
    path.write_text(path.read_text("utf-8")[:-9], encoding="utf-8")
    assert len(read_study(tmp_path).rows) == 1


def test_holes_in_measures_are_no_numbers(tmp_path: Path) -> None:
    first = lines()[0]
    first["measures"]["fall"] = dict.fromkeys(first["measures"]["fall"])
    first["measures"]["return_gain"]["hindustani-solo-00"] = float("nan")
    trial = read_study(write(tmp_path, [first])).trials[0]
    assert "fall" not in trial.measures
    assert len(trial.measures["return_gain"]) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"seed": "x"}, "seed"),
        ({"status": "maybe"}, "status"),
        ({"measures": 3}, "measures"),
        ({"cost": []}, "cost"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, change: dict[str, object], says: str) -> None:
    folder = write(tmp_path, [lines()[0], lines()[1] | change])
    with pytest.raises(TalimError, match=f"trial 2: {says}"):
        read_study(folder)
