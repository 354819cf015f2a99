"""Sentences about a study: consistent with its numbers, in both languages, for every outcome."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fixtures.japanese_block import foreign_words
from fixtures.simulated_study import SMALL, study, write_with_controls

from research.validation.simulated_studies import SimulatedEffect
from talim.experiments import controls
from talim.experiments.goals import SelectionCriteria
from talim.experiments.recommend import DEMONSTRATED
from talim.experiments.results import read_study
from talim.html.languages import words
from talim.reporting import study_sentences
from talim.reporting.study_report import study_report
from talim.reporting.study_summary import study_summary

PLAN = replace(SMALL, designs=("linear@all:0.53%", "conv@all:2.7%", "full@all"))
RESULT: dict[str, Any] = {
    "measure": "loss_reduction_ornaments",
    "relative_to": "loss_reduction_plain",
    "treatment": {"kind": "conv", "site": "all", "size_fraction": 0.027},
    "control": {"kind": "full", "site": "all", "size_fraction": "*"},
    "where": {"texture": "ensemble"},
    "smallest_effect": 0.03,
    "mean": 0.0812,
    "low": 0.05,
    "high": 0.1,
    "min_detectable_effect": 0.04,
    "verdict": "supported",
}


def test_summary_has_a_figure_with_interval_per_sentence(tmp_path: Path) -> None:
    plan = replace(PLAN, effects=[SimulatedEffect("loss_reduction", {"kind": "conv"}, 0.3)])
    value = study_summary(read_study(write_with_controls(tmp_path, plan)), SelectionCriteria(), None, {})
    summary = value["summary"]
    assert summary["headline"].startswith("Take conv@all:2.7%")
    for english, japanese, figure in zip(summary["en"][:3], summary["ja"][:3], summary["figures"], strict=True):
        assert figure["value"] in english
        assert figure["value"] in japanese
        assert figure["ci95"] in english
        assert "conv@all:2.7%" in japanese or "学習" in japanese
    assert "times the time of full@all" in summary["en"][2]
    training = value["bases"][0]["training"]
    assert summary["en"][2].startswith(f"Training all {training['trials']} trials of this comparison took ")
    assert summary["ja"][2].startswith(f"この比較の学習は全{training['trials']}回で合計")
    assert summary["figures"][0]["shown"]
    ratio = value["bases"][0]["recommendations"][0]["cost_ratios"]["seconds"]
    assert ratio["low"] < ratio["ratio"] < ratio["high"] < 1


def test_a_number_of_parameters_has_no_interval(tmp_path: Path) -> None:
    kinds = [design for design in PLAN.designs if not design.startswith("full")]
    plan = replace(PLAN, designs=kinds, effects=[SimulatedEffect("loss_reduction", {"kind": "conv"}, 0.3)])
    folder = write_with_controls(tmp_path, plan)
    figures = study_summary(read_study(folder), SelectionCriteria(), None, {})["summary"]["figures"]
    assert (figures[2]["meaning"], figures[2]["ci95"]) == ("trained parameters of conv@all:2.7%", None)
    page = study_report(folder, audio=False).read_text(encoding="utf-8")
    assert "trained parameters of conv@all:2.7%</dt>" in page


def test_summary_inconclusive_is_stated_in_both_languages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("talim.experiments.advice.not_passed", lambda controls: [])
    noisy = replace(PLAN, seed_sd=0.8, recordings=3, seeds=2)
    value = study_summary(study(tmp_path, noisy, seed=1), SelectionCriteria(), None, {"nano-musicgen": "nats"})
    summary = value["summary"]
    assert summary["headline"].startswith("These data cannot tell which design is best. Take the cheaper: ")
    assert any("nats" in sentence for sentence in summary["en"])
    assert "判断できません" in summary["ja"][1]
    assert "Cannot tell" in value["bases"][0]["recommendations"][0]["text"]


def test_summary_without_controls_names_no_design_in_one_sentence(tmp_path: Path) -> None:
    value = study_summary(study(tmp_path, replace(PLAN, seeds=1)), SelectionCriteria())
    summary, found = value["summary"], value["bases"][0]["recommendations"][0]
    assert summary["headline"] == "Not testable here: this study names no design."
    assert summary["en"][0] == (
        "Not testable here: rate, planted and equal did not pass; the table of controls says what each needs."
    )
    assert summary["en"][1].endswith("nothing is concluded from it.")
    assert (summary["figures"], found["design"]) == ([], "")
    assert "合格しなかった対照実験：学習率、わざと加えた差の検出、同じものどうしの比較。" in summary["ja"][0]
    assert summary["ja"][1].endswith("ここからは何も結論できません。")
    names = [found["best"], value["bases"][0]["base"], "talim listen"]
    assert (len(summary["ja"]), foreign_words("".join(summary["ja"]), names)) == (3, [])
    assert "add a grid with control: planted" in found["reason"]


def test_summary_of_designs_that_depend_on_the_genre_names_one_for_each(tmp_path: Path) -> None:
    depends = [SimulatedEffect("loss_reduction", {"kind": "conv", "genre": "makam"}, -0.5)]
    plan = replace(PLAN, designs=("linear@all:2.7%", "conv@all:2.7%"), effects=depends)
    value = study_summary(read_study(write_with_controls(tmp_path, plan)), SelectionCriteria())
    both, hindustani, makam = value["bases"][0]["recommendations"][:3]
    assert (both["outcome"], both["design"]) == ("by_corpus", "")
    assert makam["design"] == "linear@all:2.7%"
    assert f"makam-solo: {makam['design']}" in both["text"]
    assert f"hindustani-solo: {hindustani['design']}" in both["text"]
    assert both["interaction"]["p_value"] < 0.01
    assert value["summary"]["headline"].startswith("The best design depends on the music")
    assert f"makam-solo：{makam['design']}" in value["summary"]["ja"][0]
    assert "交互作用：F(" in value["summary"]["ja"][0]


def test_japanese_names_of_controls_are_those_of_all_controls() -> None:
    names = {controls.UNIGRAM, controls.LAST_TOKEN, controls.CURVE, controls.RATE}
    names |= {controls.INSERTED, controls.EQUAL, controls.SEPARATION}
    assert words("ja", "study")["controls"].keys() == names


def test_controls_text_counts_and_names() -> None:
    rows = [{"name": name, "passed": passed} for name, passed in (("rate", None), ("equal", True), ("curve", False))]
    assert study_sentences.controls_text(rows) == "1 of 3 controls passed; not rate and curve."
    assert study_sentences.controls_text(rows[1:2]) == "The 1 control passed."
    assert study_sentences.controls_text([]) == ""
    assert study_sentences.listed(["a", "b", "c"]) == "a, b and c"


def test_result_text_of_decided_undecided_and_missing_results() -> None:
    assert study_sentences.comparison_text(RESULT) == (
        "conv@all 2.7 % over full@all: loss reduction on ornaments minus loss reduction on plain notes, in ensemble"
    )
    assert study_sentences.expectation_text(RESULT) == "greater by 0.03"
    assert study_sentences.result_text(RESULT) == "0.081 (0.05 to 0.1)"
    counted = study_sentences.result_text(RESULT | {"pairs": 8, "seeds": 8})  # four seeds on two corpora
    assert counted == "0.081 (0.05 to 0.1); 8 pairs of 8 seeds, counted on each corpus"
    undecided = RESULT | {"verdict": "undecided"}
    assert study_sentences.result_text(undecided).endswith("; detectable from 0.04")
    single = undecided | {"low": None, "high": None, "min_detectable_effect": None}
    assert study_sentences.result_text(single) == "0.081 (interval not known); one seed on one recording gives no error"
    assert study_sentences.result_text({"mean": None, "reason": "nothing there"}) == "nothing there"


def test_result_text_of_logarithms_is_a_ratio() -> None:
    time = RESULT | {"measure": "log_seconds", "relative_to": None, "mean": 0.693147, "low": 0.6, "high": 0.8}
    assert study_sentences.result_text(time) == "2.00 times (1.82 times to 2.23 times)"
    assert study_sentences.expectation_text(time) == "greater by 1.03 times"


def test_comparison_text_of_an_interaction_names_both_groups() -> None:
    text = study_sentences.comparison_text(
        RESULT | {"interaction": ({"genre": "hindustani"}, {"genre": "makam"}), "where": {}}
    )
    assert text.endswith(", hindustani against makam")


SHOWN = (
    "a has the best mean and is shown to be at most 0.010 worse in loss reduction than every other design; of none "
    "that costs less is that shown."
)


@pytest.mark.parametrize(
    ("best", "within", "text"),
    [
        ("a", "a", SHOWN),
        (
            "a",
            "c",
            f"{SHOWN} The mean of c, which costs less, lies within 0.010 of the best, but that could be chance.",
        ),
        (
            "b",
            "a",
            "a is the cheapest design shown to be at most 0.010 worse in loss reduction than every other one; b has "
            "the best mean.",
        ),
    ],
)
def test_recommendation_text_says_what_is_shown_of_the_best_and_of_a_cheaper_design(
    best: str, within: str, text: str
) -> None:
    objectives = [{"margin": 0.01, "measure": "loss_reduction"}]
    found = {"outcome": DEMONSTRATED, "design": "a", "best": best, "within_margin": within, "unresolved": []}
    assert study_sentences.recommendation_text({**found, "objectives": objectives}) == text
