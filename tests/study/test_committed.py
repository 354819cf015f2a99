"""The studies that stand in studies/paper: complete, and every number of their pages follows from their results."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from talim.run import read_json
from talim.study import claims, grid, trials
from talim.study.poc.page import STUDY_RESULT
from talim.study.report import report

PAPER = Path(__file__).parents[2] / "studies/paper"
NAMES = ("nano", "played", "long")
DESIGNS = ("linear@all:2.7%", "conv@all:2.7%", "transformer@all:2.7%", "linear@shallow:2.7%")


def near(value: Any) -> Any:
    """The value with four digits of every number: another machine may round the last ones otherwise."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: near(each) for name, each in value.items()}
    return [near(each) for each in value] if isinstance(value, list) else value


@pytest.mark.parametrize("name", NAMES)
def test_every_trial_of_the_file_is_there_and_no_other(name: str) -> None:
    wanted = {planned.id for planned in grid.expand(grid.load(PAPER / f"{name}.yaml"))}
    study = trials.read(PAPER / name)
    assert not study.failed
    assert not study.aside
    assert {row.id for row in study.rows} == wanted


@pytest.mark.parametrize("name", NAMES)
def test_the_page_follows_from_the_results(name: str, tmp_path: Path) -> None:
    for part in NAMES:
        (tmp_path / part).mkdir()
        shutil.copy(PAPER / part / "results.jsonl", tmp_path / part)
    shutil.copy(PAPER / "claims.yaml", tmp_path)
    report(tmp_path / name, claims_file=tmp_path / "claims.yaml" if name == "nano" else None, sounds=False)
    made, kept = (read_json(folder / name / "report/study.json") for folder in (tmp_path, PAPER))
    assert near(made) == near(kept)


def test_the_verdicts_are_on_the_page() -> None:
    page = (PAPER / "nano/report/index.html").read_text(encoding="utf-8")
    told = {row["id"]: row for row in read_json(PAPER / "nano/report/study.json")["verdicts"]}
    assert set(told) == {claim.id for claim in claims.load(PAPER / "claims.yaml").claims}
    for row in told.values():
        assert row["verdict"] in page


def test_what_the_poc_says_of_the_study_is_what_the_study_found() -> None:
    value = read_json(PAPER / "nano/report/study.json")
    assert f"{value['trials']} trials on {value['bases'][0]['base']}" in STUDY_RESULT
    assert {
        len({row.seed for row in trials.read(PAPER / "nano").rows if row.design == d}) for d in DESIGNS
    } == {3}
    found = {
        row["named"]: row
        for row in value["bases"][0]["questions"]
        if row["measure"] == "fall" and not row.get("minus") and not row.get("between")
    }
    told = {
        "conv over linear": "conv by {} nats (95\u202f% range {} to {})",
        "transformer over linear": "transformer by {} ({} to {})",
        "shallow over all": "shallow third were {} ({} to {}) behind",
    }
    for name, words in told.items():
        row = found[name]
        assert words.format(*(f"{-row[key]:.3f}" for key in ("mean", "high", "low"))) in STUDY_RESULT


def test_the_readme_gives_the_verdicts_that_were_found() -> None:
    readme = (PAPER.parents[1] / "README.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| (\d)\. [^|]+\| (\w+)", readme, re.M))
    assert rows == {
        row["id"]: row["verdict"] for row in read_json(PAPER / "nano/report/study.json")["verdicts"]
    }
