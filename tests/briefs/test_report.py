"""usefulness.json, its page, and the delivery of what was accepted."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from fixtures.brief_folder import brief_of, decide, opened_brief, write_candidates
from fixtures.japanese_block import untranslated
from fixtures.page_ids import repeated_ids

from talim.atomic_io import read_json
from talim.briefs import report
from talim.errors import TalimError

GOOD = {"linear-001": "accept", "linear-002": "accept", "linear-003": "accept", "conv-001": "edit"}


def test_write_acceptance_report_has_costs_and_decision(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path, brief_of())
    decide(opened, GOOD)
    result = report.write_acceptance_report(tmp_path, opened.brief)
    assert read_json(tmp_path / "usefulness.json") == {k: v for k, v in result.items() if k != "page"}
    linear, conv = result["contenders"]
    assert (linear["accepted"], conv["accepted"], conv["needs_editing"]) == (3, 0, 1)
    assert (linear["decision"]["answer"], result["answer"]) == ("go", "go")
    assert result["sentences"][-1] == "Go with linear by the decision rule of the brief."
    assert result["sentences_translated"]["ja"][0].startswith("linear：審査した4件のうち3件を採用（")
    assert result["sentences_translated"]["ja"][1].endswith("以上（採用なし）")
    assert result["sentences_translated"]["ja"][-1] == "課題の判定基準による結論：linearで進める（Go）。"
    assert result["brief"]["hash"] == opened.brief_hash
    page = Path(result["page"]).read_text(encoding="utf-8")
    # 2 h of training and 4 times 36 s of making at 2, 4 reviews of 10 s at 30, over 3 pieces of 2 s
    cost = (4.0 + 0.08 + 4 * 10 / 3600 * 30) / 3 * 30
    assert linear["cost_per_accepted_minute"]["value"] == pytest.approx(cost)
    assert f"{cost:.2f} EUR" in page
    assert "none was accepted" in page
    assert "linear: training 2 h, evaluation not known, generation 2 min 24 s, review 40 s." in page
    assert "not counted either, as its time was not recorded, of linear, conv." in page
    assert page.count("linear: its base, nano-musicgen, is a miniature, which cannot make usable music") == 1
    assert page.count("linear: 3 passed every automatic check.") == 1
    japanese = page.partition("<summary>日本語で読む</summary>")[2].partition("</details>")[0]
    assert all(line in japanese for line in result["sentences_translated"]["ja"])
    assert untranslated(page, ["linear", "conv", "slow flute", "nano-musicgen", "Apache-2.0"]) == []
    assert repeated_ids(page) == []
    assert page.count("<table>") == 2 * japanese.count("<table>") > 8  # whatever the English has
    assert japanese.count("満たして") + japanese.count("まだ判断できません") == sum(
        len(one["decision"]["conditions"]) for one in result["contenders"]
    )
    assert "180.00" in page
    for namespace in ("www.w3.org", "purl.org", "creativecommons.org"):
        page = page.replace(f"http://{namespace}", "")
    assert "://" not in page


def test_checks_passed_with_a_mode_that_could_not_be_checked_says_so() -> None:
    def checked(*passed: bool | None) -> dict[str, list[dict[str, object]]]:
        return {"checks": [{"name": n, "passed": p} for n, p in zip(("length", "mode", "seam"), passed, strict=True)]}

    assert report.checks_passed([checked(True, True, True), checked(True, False, True)]) == {
        "en": "1 passed every automatic check",
        "ja": "1件がすべての自動検査に合格",
    }
    assert report.checks_passed([checked(True, None, True), checked(True, None, None)]) == {
        "en": "2 passed every check that could be made; the mode of 2 could not be checked (too little melody), "
        "the seam of the loop of 1 could not be checked",
        "ja": "2件が、行えた自動検査のすべてに合格（2件の旋法は、旋律が少なすぎて検査できず、"
        "1件のループのつなぎ目は検査できず）",
    }


def test_write_acceptance_report_of_a_loop_without_prices_and_rule_is_in_japanese_too(tmp_path: Path) -> None:
    brief = brief_of(loop=True, prices={}, decision_rule={}, status_quo=None, prompt="", accepted_by="any")
    opened = opened_brief(tmp_path, brief, recordings={"unknown": 0}, consent={"unknown": 0})
    decide(opened, {})
    page = Path(report.write_acceptance_report(tmp_path, opened.brief)["page"]).read_text(encoding="utf-8")
    assert untranslated(page, ["linear", "conv", "nano-musicgen"]) == []
    for english, japanese in (("2 seconds, a loop", "2秒（ループ）"), ("sound quality, noise (4)", "音質、雑音 (4)")):
        assert english.casefold() in page.casefold()
        assert japanese in page


def test_few_candidates_are_told_with_how_many_would_decide(tmp_path: Path) -> None:
    two = report.few_candidates(2, brief_of())
    assert two["en"].startswith(
        "Few candidates: with 2 candidates of a design, the share that is good enough may be anything from 33\u202f% "
        "on even if all are accepted, and anything up to 67\u202f% if none is. With 9 or more (candidates: 9 in the "
    )
    assert not re.search("[A-Za-z]", two["ja"])
    assert report.few_candidates(9, brief_of()) == report.few_candidates(0, brief_of()) == {}
    opened = opened_brief(tmp_path, brief_of(candidates=2))
    decide(opened, {"linear-001": "accept"})
    result = report.write_acceptance_report(tmp_path, opened.brief)
    assert [each["reviewed"] for each in result["contenders"]] == [2, 2]
    assert two["en"] in result["sentences"]
    assert two["ja"] in result["sentences_translated"]["ja"]
    assert two["en"] in html.unescape(Path(result["page"]).read_text(encoding="utf-8"))


def test_indicator_cells_add_up_or_say_that_nothing_was_measured() -> None:
    ends = {"low": 1.0, "high": None}
    parts = {name: ends | {"value": value} for name, value in (("status_quo", 1.116), ("new", 0.944))}
    cells = report._indicator_cells({**parts, "difference": ends | {"value": 0.944 - 1.116}})
    assert [cell.partition(" ")[0] for cell in cells] == [
        "1.116",
        "0.944",
        "−0.172",
    ]  # rounded alone: 1.12 to 0.94, 0.17
    parts["status_quo"] = {"value": None, "low": None, "high": None}
    assert report._indicator_cells({**parts, "difference": parts["status_quo"]})[::2] == ["not measured"] * 2


def test_write_acceptance_report_two_reviewers_have_agreement(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path, brief_of())
    decide(opened, GOOD)
    decide(opened, GOOD)
    result = report.write_acceptance_report(tmp_path, opened.brief)
    assert (result["reviewers"], result["reviews"]) == (2, 16)
    assert result["agreement"] == pytest.approx(1.0)


def test_write_acceptance_report_changed_rule_raises_error(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path, brief_of())
    decide(opened, {})
    with pytest.raises(TalimError, match=r"frozen since its first review, but decision_rule"):
        report.write_acceptance_report(tmp_path, brief_of(decision_rule={"acceptance_at_least": 0.01}))


def test_write_acceptance_report_without_reviews_raises_error(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no candidates"):
        report.write_acceptance_report(tmp_path, brief_of())
    write_candidates(tmp_path, brief_of())
    there = r"no reviews yet\. To be reviewed: \d candidates, \d passed every .*\. talim brief BRIEF\.yaml --out "
    with pytest.raises(TalimError, match=f"{there}[^;]*--invites 2 makes links for two reviewers [^;]*$"):
        report.write_acceptance_report(tmp_path, brief_of())
    opened_brief(tmp_path, brief_of())
    with pytest.raises(TalimError, match=f"{there}[^;]*Ctrl-C$"):
        report.write_acceptance_report(tmp_path, brief_of())
    (tmp_path / report.FILE).write_text("{}", encoding="utf-8")  # all reviewers had their reviews deleted
    with pytest.raises(TalimError, match=r"no reviews yet\. .*; not current any more, of earlier .*usefulness\.json$"):
        report.write_acceptance_report(tmp_path, brief_of())
