"""The task: what is said automatically, a brief that the review takes as it is, and people's answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.atomic_io import write_json
from talim.briefs import brief as briefs_brief
from talim.corpus.manifest import Corpus
from talim.poc import task_stage


def test_adherence_stands_between_chance_and_real_music() -> None:
    row = {"name": "adherence_mode", "value": 0.7, "low": 0.6, "high": 0.8, "floor": 0.9, "ceiling": 0.5}
    (said,) = task_stage.adherence_lines({"scores": [row, {"name": "pitch", "value": 1.0}]})
    assert said.startswith("Outputs fit their own prompt's mode better than other prompts' in 70")
    assert "untrained base 50" in said
    assert "held-out music 90" in said
    (none,) = task_stage.adherence_lines({"scores": [row | {"value": None}]})
    assert "was not measured" in none
    assert task_stage.adherence_lines({}) == [none]


def test_the_drafted_brief_is_one_and_its_rule_is_the_gate(tmp_path: Path, corpus_folder: Path) -> None:
    corpus = Corpus.load(corpus_folder)
    task_stage.write_brief_draft(tmp_path, corpus, 8.0, 0.4)
    brief = briefs_brief.load(tmp_path / "brief.yaml")
    assert brief.rule.acceptance_at_least == 0.4
    assert (brief.seconds, brief.prompt) == (8.0, corpus.held_out[0].caption)
    (tmp_path / "brief.yaml").write_text("mine")
    task_stage.write_brief_draft(tmp_path, corpus, 8.0, 0.5)
    assert (tmp_path / "brief.yaml").read_text() == "mine"  # what a person wrote stays


@pytest.mark.parametrize(
    ("answers", "met"), [((), None), (("open",), None), (("no-go",), False), (("no-go", "go"), True)]
)
def test_only_people_decide(tmp_path: Path, answers: tuple[str, ...], met: bool | None) -> None:
    for number, answer in enumerate(answers):
        said = {"answer": answer, "sentences": [f"{answer} said"], "brief": {"name": "x"}}
        write_json(tmp_path / f"brief-{number}" / "usefulness.json", said)
    write_json(tmp_path / "listening" / "ratings.json", {"name": "t", "verdict": "conv leads."})
    found, said = task_stage.human_decision(tmp_path)
    assert found is met
    assert "conv leads." in said
    assert (said[0].startswith("Not decided")) is (met is None)


def test_commands_name_what_is_there(tmp_path: Path) -> None:
    out = tmp_path / "my poc"
    lines = task_stage.review_commands(out, out / "conv-all-2.7")
    assert lines[0] == f"talim listen '{out}' --links 5"
    assert f"--run '{out / 'conv-all-2.7'}'" in lines[2]
