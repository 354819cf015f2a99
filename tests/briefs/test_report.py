"""usefulness.json, its page, and the delivery of what was accepted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fixtures.brief_folder import brief_of, decide, opened_brief, write_candidates

from talim import audio
from talim.atomic_io import read_json
from talim.briefs import delivery, report
from talim.errors import TalimError

GOOD = {"linear-001": "accept", "linear-002": "accept", "linear-003": "accept", "conv-001": "edit"}


def test_a_page_tells_what_an_accepted_minute_costs(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path, brief_of())
    decide(opened, GOOD)
    found = report.write_acceptance_report(tmp_path, opened.brief)
    assert read_json(tmp_path / "usefulness.json") == {k: v for k, v in found.items() if k != "page"}
    linear, conv = found["contenders"]
    assert (linear["accepted"], conv["accepted"], conv["needs_editing"]) == (3, 0, 1)
    assert (linear["decision"]["answer"], found["answer"]) == ("go", "go")
    assert found["sentences"][-1] == "Go with linear by the decision rule of the brief."
    assert found["brief"]["hash"] == opened.brief_hash
    page = Path(found["page"]).read_text(encoding="utf-8")
    # 2 h of training and 4 times 36 s of making at 2, 4 reviews of 10 s at 30, over 3 pieces of 2 s
    cost = (4.0 + 0.08 + 4 * 10 / 3600 * 30) / 3 * 30
    assert linear["cost_per_accepted_minute"]["value"] == pytest.approx(cost)
    assert f"{cost:.2f} EUR" in page
    assert "none was accepted" in page
    assert "180.00" in page
    assert "http" not in page.replace("http://www.w3.org", "").replace("http://purl.org", "").replace(
        "http://creativecommons.org", ""
    )


def test_two_reviewers_agree_or_not(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path, brief_of())
    decide(opened, GOOD)
    decide(opened, GOOD)
    found = report.write_acceptance_report(tmp_path, opened.brief)
    assert (found["reviewers"], found["reviews"]) == (2, 16)
    assert found["agreement"] == pytest.approx(1.0)


def test_a_rule_that_changed_after_the_first_review_measures_nothing(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path, brief_of())
    decide(opened, {})
    with pytest.raises(TalimError, match=r"frozen since its first review, but decision_rule"):
        report.write_acceptance_report(tmp_path, brief_of(decision_rule={"acceptance_at_least": 0.01}))


def test_without_reviews_there_is_nothing_to_say(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no candidates"):
        report.write_acceptance_report(tmp_path, brief_of())
    write_candidates(tmp_path, brief_of())
    with pytest.raises(TalimError, match="no reviews yet"):
        report.write_acceptance_report(tmp_path, brief_of())
    opened_brief(tmp_path, brief_of())
    with pytest.raises(TalimError, match="no review was made yet"):
        report.write_acceptance_report(tmp_path, brief_of())


def test_accepted_pieces_are_delivered_with_tags_licence_and_provenance(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path / "b", brief_of())
    decide(opened, GOOD)
    made = delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out", commercial=True)
    assert [piece["candidate"] for piece in made] == ["linear-001", "linear-002", "linear-003"]
    tags = audio.read_tags(tmp_path / "out" / made[0]["file"])
    assert tags["ai_generated"] == "AI-generated"
    assert tags["use"] == "commercial"
    assert "Apache-2.0" in tags["license"]
    assert "CC0-1.0" in tags["license"]
    assert tags["brief"] == opened.brief_hash
    told = json.loads((tmp_path / "out" / "provenance.json").read_text(encoding="utf-8"))
    assert told["pieces"][0]["tags"]["candidate_sha256"] == opened.rows["linear-001"]["sha256"]
    assert "CC0-1.0 (12)" in (tmp_path / "out" / "LICENCE.txt").read_text(encoding="utf-8")
    assert (
        audio.read(tmp_path / "out" / made[0]["file"]).samples
        == audio.read(tmp_path / "b" / opened.rows["linear-001"]["file"]).samples
    ).all()
    with pytest.raises(TalimError, match="exists already"):
        delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out")


@pytest.mark.parametrize(
    ("rights", "words"),
    [
        ({"base_licence": "CC-BY-NC-4.0"}, "forbidden (the base nano-musicgen: CC-BY-NC-4.0)"),
        ({"base_licence": "unknown"}, "unknown (the base"),
        ({"recordings": {"CC0-1.0": 3, "CC BY-NC 4.0": 1}}, "forbidden (1 recordings: CC BY-NC 4.0)"),
        ({"recordings": {"unknown": 4}}, "unknown (4 recordings: unknown)"),
        ({"recordings": {"unknown": 0}}, "unknown (the recordings: unknown)"),
    ],
    ids=str,
)
def test_commercial_use_is_refused_where_a_licence_forbids_it_or_is_unknown(
    tmp_path: Path, rights: dict, words: str
) -> None:
    opened = opened_brief(tmp_path / "b", brief_of(), **rights)
    decide(opened, GOOD)
    with pytest.raises(TalimError) as told:
        delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out", commercial=True)
    assert words in str(told.value)
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()
    made = delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out")
    assert audio.read_tags(tmp_path / "out" / made[0]["file"])["use"] == "not for commercial use"


def test_nothing_accepted_is_nothing_to_export(tmp_path: Path) -> None:
    opened = opened_brief(tmp_path / "b", brief_of())
    decide(opened, {})
    with pytest.raises(TalimError, match="no candidate is accepted"):
        delivery.export_accepted(tmp_path / "b", opened.brief, tmp_path / "out")
