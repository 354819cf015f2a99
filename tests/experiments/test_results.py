"""Reading results.jsonl: the last line of an id counts, failed trials and other settings are kept apart."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.simulated_study import lines, study, write

from talim.errors import TalimError
from talim.experiments.results import is_study, read_study


def test_read_study_groups_trials_by_base_and_corpus(tmp_path: Path) -> None:
    found = study(tmp_path)
    assert len(found.trials) == 12 * 3 * 2
    assert [table.name for table in found.tables] == ["nano-musicgen, hindustani-solo", "nano-musicgen, makam-solo"]
    table = found.tables[0]
    assert [trial.seed for trial in table.of_design("conv@all:2.7%")] == [0, 1, 2]
    assert table.designs[0].endswith(":0.53%")  # the smallest first
    assert is_study(tmp_path)
    assert not is_study(tmp_path / "none")


def test_read_study_repeated_id_uses_the_last_line(tmp_path: Path) -> None:
    some = lines()[:4]
    again = some[1] | {"status": "failed", "error": "power cut"}
    found = read_study(write(tmp_path, [*some, again]))
    assert len(found.trials) == 3
    assert [trial.error for trial in found.failed] == ["power cut"]


def test_read_study_other_settings_are_excluded(tmp_path: Path) -> None:
    changed = lines()
    changed[0]["settings_hash"] = "elsewhere"
    found = read_study(write(tmp_path, changed))
    assert [trial.id for trial in found.excluded] == [changed[0]["id"]]
    assert all({trial.settings_hash for trial in table.trials} == {table.settings} for table in found.tables)
    halves = [line | {"settings_hash": "new"} if n % 2 else line for n, line in enumerate(lines()[:6])]
    assert read_study(write(tmp_path, halves)).tables[0].settings == "new"  # of equals the later one


def test_read_study_trials_in_another_precision_are_excluded(tmp_path: Path) -> None:
    rows = [line | {"precision": "fp32"} for line in lines()]
    rows[0]["precision"] = "bf16"
    control = rows[1] | {"id": "c", "control": "planted", "inserted": "half", "precision": "bf16"}
    found = read_study(write(tmp_path, [*rows, control]))
    assert [trial.id for trial in found.excluded] == [rows[0]["id"], "c"]
    assert not found.controls
    assert {trial.precision for trial in found.trials} == {"fp32"}


def test_read_study_has_each_trial_once_though_its_design_was_tuned_anew(tmp_path: Path) -> None:
    again = lines()[0] | {"id": "again", "tuned": {"training.learning_rate": 3e-4}}
    seed = lines()[0] | {"id": "other seed", "seed": 99}
    found = read_study(write(tmp_path, [*lines(), again, seed]))
    assert [trial.id for trial in found.excluded] == [lines()[0]["id"]]
    assert {"again", "other seed"} <= {trial.id for trial in found.trials}
    assert len(found.trials) == len(lines()) + 1


def test_read_study_scores_of_different_protocols_on_one_corpus_raise(tmp_path: Path) -> None:
    rows = [line | {"protocol_hash": "0123"} for line in lines()[:4]]
    assert len(read_study(write(tmp_path, rows)).trials) == 4
    rows[2]["protocol_hash"] = "4567"
    with pytest.raises(TalimError) as error:
        read_study(write(tmp_path, rows))
    for part in (rows[1]["id"], rows[2]["id"], "protocol 0123", "protocol 4567", "cannot be compared"):
        assert part in str(error.value)
    rows[2]["measures"] = {"loss_reduction": rows[2]["measures"]["loss_reduction"]}
    assert len(read_study(write(tmp_path, rows)).trials) == 4  # losses do not depend on the protocol


def test_all_factors_contain_settings_and_corpus(tmp_path: Path) -> None:
    factors = study(tmp_path).trials[0].all_factors
    assert factors["settings"] == "hindustani-solo-0"
    assert factors["corpus"] == "hindustani-solo"


def test_read_study_empty_or_truncated_file_has_the_complete_lines(tmp_path: Path) -> None:
    assert read_study(write(tmp_path, [])).trials == []
    path = write(tmp_path, lines()[:2]) / "results.jsonl"
    path.write_text(path.read_text("utf-8")[:-9], encoding="utf-8")
    assert len(read_study(tmp_path).trials) == 1


def test_read_study_missing_and_nan_values_are_dropped(tmp_path: Path) -> None:
    first = lines()[0]
    first["measures"]["loss_reduction"] = dict.fromkeys(first["measures"]["loss_reduction"])
    first["measures"]["repeat_gain"]["hindustani-solo-00"] = float("nan")
    trial = read_study(write(tmp_path, [first])).trials[0]
    assert "loss_reduction" not in trial.measures
    assert len(trial.measures["repeat_gain"]) == 5


@pytest.mark.parametrize(
    ("change", "message"),
    [({"seed": "x"}, "seed"), ({"status": "maybe"}, "status"), ({"measures": 3}, "measures"), ({"cost": []}, "cost")],
)
def test_read_study_damaged_line_is_named(tmp_path: Path, change: dict[str, object], message: str) -> None:
    folder = write(tmp_path, [lines()[0], lines()[1] | change])
    with pytest.raises(TalimError, match=f"trial 2: {message}"):
        read_study(folder)


def test_read_study_keeps_control_trials_out_of_tables(tmp_path: Path) -> None:
    from fixtures.simulated_study import SMALL, lines, write, write_with_controls

    plain = read_study(write(tmp_path / "plain", lines(SMALL)))
    study = read_study(write_with_controls(tmp_path / "controls", SMALL))
    assert [table.trials for table in study.tables] == [table.trials for table in plain.tables]
    assert {trial.control for trial in study.controls} == {"planted", "equal"}
    assert not study.excluded
    other = [{**row, "settings_hash": "older"} for row in lines(SMALL)[:1]]
    mixed = write(tmp_path / "older", [*lines(SMALL), {**other[0], "id": "older", "control": "planted"}])
    assert [trial.id for trial in read_study(mixed).excluded] == ["older"]
    assert not read_study(mixed).controls
