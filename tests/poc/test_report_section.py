"""The staged plan's section: gates, answers as of now, and nothing that a user typed is taken for markup."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import pretend, short

from talim.atomic_io import read_json, write_json
from talim.poc import report_section
from talim.poc.pipeline import poc
from talim.reporting import run_report


@pytest.fixture
def walked(tmp_path: Path, recordings: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    pretend(monkeypatch, lambda recipe: 0.3)
    poc(recordings, tmp_path / "out", short())
    return tmp_path / "out"


def test_a_folder_without_stages_has_no_section(tmp_path: Path) -> None:
    assert report_section.report_section(tmp_path) is None
    assert report_section.chosen_run(tmp_path) is None


def test_what_people_say_later_decides_the_task(walked: Path) -> None:
    text = run_report.write_report(walked).read_text(encoding="utf-8")
    assert "Contribution to the task: not decided" in text
    write_json(walked / "brief" / "usefulness.json", {"answer": "go", "sentences": ["3 of 4 accepted"]})
    text = run_report.write_report(walked).read_text(encoding="utf-8")
    assert "Contribution to the task: met" in text
    assert "3 of 4 accepted" in text


def test_every_stage_tells_its_gate_and_the_table_its_shares(walked: Path) -> None:
    found: Any = report_section.report_section(walked)
    assert [stage["title"] for stage in found["stages"]] == [
        "Cost",
        "Musical quality",
        "Contribution to the task",
    ]
    assert all(stage["gate"]["why"] for stage in found["stages"])
    assert found["designs"][0]["ratios"] == {
        "memory": "50\u202f%",
        "operations": "70\u202f%",
        "storage": "1.0\u202f%",
    }
    assert set(found["falls"]) == {"broad", "narrow"}
    assert found["curve_plots"] == {}


def test_names_are_text_and_a_study_can_be_pointed_to(walked: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    decided = read_json(walked / "stages.json")
    decided["use"] = "<script>alert(1)</script>"
    write_json(walked / "stages.json", decided)
    monkeypatch.setattr(report_section, "STUDY_RESULT", "The committed study says more.")
    text = run_report.write_report(walked).read_text(encoding="utf-8")
    assert "<script>alert(1)" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "cannot show which kind is best. The committed study says more." in text
