"""The task stage: automatic sentences, the drafted brief, and the decision of people."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from talim.atomic_io import write_json
from talim.briefs import brief as briefs_brief
from talim.corpus.manifest import Corpus
from talim.poc import task_stage


def test_adherence_lines_name_chance_base_and_real_music() -> None:
    row = {"name": "adherence_mode", "value": 0.7, "low": 0.6, "high": 0.8, "reference": 0.9, "baseline": 0.5}
    (sentence,) = task_stage.adherence_lines({"scores": [row, {"name": "pitch", "value": 1.0}]})
    assert sentence.startswith("Outputs match their own prompt's mode more closely than other prompts' in 70")
    assert "; whether that is above chance cannot be told: prompts of 6 held-out recordings or more are" in sentence
    (few,) = task_stage.adherence_lines({"scores": [row], "split": {"held_out": {"recordings": 2}}})
    assert few.endswith("or more are needed, and the corpus has 2: add recordings, so that 6 or more can be held out.")
    enough = {"gain_recordings": 6}
    (shown,) = task_stage.adherence_lines({"scores": [row | enough]})
    assert "chance, " not in shown.partition("chance is")[2]
    assert shown.endswith("held-out music 90\u202f%.")
    (unclear,) = task_stage.adherence_lines({"scores": [row | enough | {"low": 0.4}]})
    assert unclear.endswith("; not shown to be above chance.")
    assert "untrained base 50" in sentence
    assert "held-out music 90" in sentence
    (none,) = task_stage.adherence_lines({"scores": [row | {"value": None}]})
    assert "was not measured" in none
    assert task_stage.adherence_lines({}) == [none]


def test_write_brief_draft_has_the_gate_as_its_rule(tmp_path: Path, corpus_folder: Path) -> None:
    corpus = Corpus.load(corpus_folder)
    task_stage.write_brief_draft(tmp_path, corpus, 8.0, 0.4)
    brief = briefs_brief.load(tmp_path / "brief.yaml")
    assert brief.decision_rule.acceptance_at_least == 0.4
    assert (brief.seconds, brief.prompt) == (8.0, corpus.summary["example_caption"])
    assert brief.prompt in {clip.caption for clip in corpus.train}
    (tmp_path / "brief.yaml").write_text("edited")
    task_stage.write_brief_draft(tmp_path, corpus, 8.0, 0.5)
    assert (tmp_path / "brief.yaml").read_text() == "edited"
    without_words = replace(corpus, summary=corpus.summary | {"example_caption": ""})
    (tmp_path / "brief.yaml").unlink()
    task_stage.write_brief_draft(tmp_path, without_words, 8.0, 0.4)
    assert briefs_brief.load(tmp_path / "brief.yaml").prompt_text == ""


@pytest.mark.parametrize(
    ("answers", "passed"), [((), None), (("open",), None), (("no-go",), False), (("no-go", "go"), True)]
)
def test_human_decision_needs_an_answer_of_a_brief(
    tmp_path: Path, answers: tuple[str, ...], passed: bool | None
) -> None:
    for number, answer in enumerate(answers):
        result = {"answer": answer, "sentences": [f"{answer} said"], "brief": {"name": "x"}}
        write_json(tmp_path / f"brief-{number}" / "usefulness.json", result)
    write_json(tmp_path / "listening" / "ratings.json", {"name": "t", "verdict": "conv leads."})
    decision, sentences = task_stage.human_decision(tmp_path)
    assert decision is passed
    assert "conv leads." in sentences
    assert sentences[0].startswith("Not decided") is (passed is None)


def test_review_commands_quote_paths(tmp_path: Path) -> None:
    out = tmp_path / "my poc"
    lines = task_stage.review_commands(out, out / "conv-all-2.7")
    assert lines[0] == f"talim listen '{out}' --invites 12"
    assert f"--run '{out / 'conv-all-2.7'}'" in lines[2]
