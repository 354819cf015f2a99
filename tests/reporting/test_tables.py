"""Tables of a run: all rows, and missing values."""

from __future__ import annotations

from pathlib import Path

from fixtures.run_folder import COST, FACTS, make_run

from talim.reporting.run_results import RunResults, read_result
from talim.reporting.tables import cost_table, data_table, folder_bytes, provenance_table


def test_cost_table_of_a_complete_run(tmp_path: Path) -> None:
    rows = dict(cost_table(read_result(make_run(tmp_path / "run", seconds=0))))
    assert rows["Wall time"] == "3 min 44 s"
    assert rows["Peak memory"] == "1.4 GB"
    assert "Energy" not in rows  # the cost sentence says once why it is not known
    assert rows["Trained fraction"] == "2.5\u202f%"
    assert rows["Adapter on disk"] == "860 kB"


def test_cost_table_has_energy_and_early_stop() -> None:
    cost = COST | {"energy_joules": 7200.0, "energy_note": None, "stopped_early": True, "best_step": 150}
    rows = dict(cost_table(RunResults(Path("run"), cost=cost)))
    assert rows["Energy"] == "2 Wh"
    assert rows["Training steps"] == "300, stopped early; best step 150"


def test_cost_table_missing_values_are_not_measured() -> None:
    assert cost_table(RunResults(Path("run"))) == []
    rows = dict(cost_table(RunResults(Path("nowhere"), cost={"wall_seconds": 1})))
    assert {value for name, value in rows.items() if name != "Wall time"} == {"not measured"}


def test_data_table_names_split_rights_and_unknowns(tmp_path: Path) -> None:
    rights = {"licences": {"CC BY 4.0": 8, "unknown": 3}, "consent": {"given in writing": 8, "unknown": 3}}
    kept_out = {"recordings": 4, "rights": {"licences": {"CC BY-NC 4.0": 4}}}
    facts = FACTS | {"trained_on": {"recordings": ["a"], "rights": rights}, "kept_out": kept_out}
    rows = dict(data_table(read_result(make_run(tmp_path / "run", seconds=0, run=facts))))
    assert rows["Music"] == "15 recordings, 3 performers, 78 clips, 13 min"
    assert rows["Split by"] == "recording, seed 0"
    assert rows["Explanation"] == "No recording is on both sides; performers may be."
    assert rows["Held out"] == "4 recordings, 17 clips, 2 min 47 s"
    assert rows["Licences of what it was trained on"] == "CC BY 4.0 (8), unknown (3)"
    assert rows["Consent"] == "given in writing (8), unknown (3)"
    assert rows["Licences of what only measured it"] == "CC BY-NC 4.0 (4)"
    bare = dict(data_table(RunResults(Path("run"), corpus={"clips": 1})))
    assert bare["Licences of what it was trained on"] == "unknown"
    assert "Licences of what only measured it" not in bare
    assert data_table(RunResults(Path("run"))) == []


def test_data_table_lists_of_recordings_are_counted() -> None:
    corpus = {"recordings": ["a", "b"], "split": {"train": {"recordings": ["a"]}}}
    rows = dict(data_table(RunResults(Path("run"), corpus=corpus)))
    assert rows["Music"] == "2 recordings"
    assert rows["Training recordings"] == "1 recording: a"
    trained = {"recordings": ["a"], "clips": 3, "seconds": 30.0}
    result = RunResults(Path("run"), corpus=corpus, facts={"trained_on": trained}, cost={"steps": 2})
    assert dict(data_table(result))["Trained on"] == "1 recording, 3 clips, 30 s: a"
    trained["recordings"] = [f"r{number}" for number in range(15)]
    assert dict(data_table(result))["Trained on"].endswith("r11 and 3 more")


def test_provenance_table_leaves_out_missing_values(tmp_path: Path) -> None:
    rows = dict(provenance_table(read_result(make_run(tmp_path / "run", seconds=0))))
    assert rows["Run"] == "4f1c9a70be21"
    assert rows["Seed"] == "0"
    assert rows["Libraries"] == "torch 2.13.0, transformers 5.23.0, peft 0.21.2"
    assert dict(provenance_table(RunResults(Path("run")))) == {"Base": "unknown"}


def test_provenance_table_has_the_commit_of_a_base_from_the_hub() -> None:
    result = RunResults(Path("run"), facts={"base": {"name": "someone/tiny", "revision": "a" * 40}})
    rows = dict(provenance_table(result))
    assert (rows["Base"], rows["Commit of the base on the Hub"]) == ("someone/tiny", "a" * 40)


def test_folder_bytes_of_nested_and_missing_folders(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "file").write_bytes(bytes(10))
    assert folder_bytes(tmp_path) == 10
    assert folder_bytes(tmp_path / "none") is None
