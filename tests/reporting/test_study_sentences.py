"""A study in sentences: true to its numbers, in both languages, for every outcome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.simulated_study import SMALL, study

from research.validation.simulated_studies import SimulatedEffect
from talim.experiments.goals import SelectionCriteria
from talim.reporting import study_sentences as words
from talim.reporting.study_summary import compared_costs, study_summary

PLAN = replace(SMALL, designs=("linear@all:0.53%", "conv@all:2.7%", "full@all"))
FINDING: dict[str, Any] = {
    "measure": "ornament_fall",
    "minus": "plain_fall",
    "this": {"kind": "conv", "site": "all", "share": 0.027},
    "that": {"kind": "full", "site": "all", "share": "*"},
    "within": {"texture": "ensemble"},
    "interest": 0.03,
    "mean": 0.0812,
    "low": 0.05,
    "high": 0.1,
    "smallest_visible": 0.04,
    "verdict": "supported",
}


def test_the_summary_has_one_figure_and_range_a_sentence(tmp_path: Path) -> None:
    value = study_summary(
        study(tmp_path, replace(PLAN, effects=[SimulatedEffect("fall", {"kind": "conv"}, 0.3)])),
        SelectionCriteria(),
        None,
        {},
    )
    summary = value["summary"]
    assert summary["headline"].startswith("Take conv@all:2.7%")
    for english, japanese, figure in zip(summary["en"], summary["ja"], summary["figures"], strict=True):
        assert figure["value"] in english
        assert figure["value"] in japanese
        assert figure["range"] in english
        assert "conv@all:2.7%" in japanese or "学習" in japanese
    assert "times the time of full@all" in summary["en"][2]
    ratio = value["bases"][0]["advice"][0]["ratios"]["seconds"]
    assert ratio["low"] < ratio["ratio"] < ratio["high"] < 1


def test_undecided_is_said_in_both_languages(tmp_path: Path) -> None:
    noisy = replace(PLAN, seed_sd=0.8, recordings=3, seeds=2)
    value = study_summary(
        study(tmp_path, noisy, seed=1), SelectionCriteria(), None, {"nano-musicgen": "nats"}
    )
    summary = value["summary"]
    assert summary["headline"].startswith("These data cannot tell which is best. Take the cheaper: ")
    assert any("nats" in sentence for sentence in summary["en"])
    assert "決められません" in summary["ja"][1]
    assert "Cannot tell" in value["bases"][0]["advice"][0]["said"]


def test_ratios_of_costs_are_paired_by_seed(tmp_path: Path) -> None:
    tables = study(tmp_path, PLAN).tables
    found = compared_costs(tables, "full@all", "conv@all:2.7%")
    assert found["memory"]["ratio"] == pytest.approx(found["memory"]["low"])  # memory has no luck here
    assert found["seconds"]["ratio"] > 3
    assert compared_costs(tables, "full@all", "no-such@design") == {}


def test_findings_in_words() -> None:
    assert words.comparison_text(FINDING) == (
        "conv@all 2.7 % over full@all: fall on ornaments less fall between ornaments, in ensemble"
    )
    assert words.expected_text(FINDING) == "more by 0.03"
    assert words.findings_text(FINDING) == "0.081 (0.05 to 0.1)"
    undecided = FINDING | {"verdict": "undecided"}
    assert words.findings_text(undecided).endswith("; 0.04 would have been seen")
    single = undecided | {"low": None, "high": None, "smallest_visible": None}
    assert words.findings_text(single) == "0.081 (range not known); from one pair no error is known"
    assert words.findings_text({"mean": None, "why": "nothing there"}) == "nothing there"


def test_logarithms_are_told_as_ratios() -> None:
    time = FINDING | {"measure": "log_seconds", "minus": None, "mean": 0.693147, "low": 0.6, "high": 0.8}
    assert words.findings_text(time) == "2.00 times (1.82 times to 2.23 times)"
    assert words.expected_text(time) == "more by 1.03 times"


def test_between_names_both_groups() -> None:
    text = words.comparison_text(
        FINDING | {"between": ({"genre": "hindustani"}, {"genre": "makam"}), "within": {}}
    )
    assert text.endswith(", hindustani against makam")
