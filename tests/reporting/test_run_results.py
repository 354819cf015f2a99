"""Reading run folders: complete, with missing files, damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.run_folder import RECIPE, SCORES, SUMMARY, make_run

from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.reporting.run_results import RunResults, find_runs, read_result


def test_read_result_of_a_complete_run(tmp_path: Path) -> None:
    result = read_result(make_run(tmp_path / "run", seconds=0.3))
    assert result.recipe["design"] == "linear@all:2.5%"
    assert result.base["fingerprint"] == "c0ffee12"
    assert result.miniature
    assert result.corpus == SUMMARY
    assert result.losses == SCORES["held_out_loss"]
    assert len(result.log) == 307
    assert [sample.role for sample in result.samples] == ["before", "after", "real"] * 2
    assert all(sample.path.is_file() for sample in result.samples)


def test_read_result_of_an_almost_empty_run_is_empty(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("base: facebook/musicgen-small\n")
    result = read_result(tmp_path)
    assert result.base == {"name": "facebook/musicgen-small"}
    assert not result.miniature
    assert [result.log, result.cost, result.scores, result.samples, result.corpus] == [[], {}, {}, [], {}]


def test_miniature_recorded_value_precedes_the_name() -> None:
    def miniature(recipe: str, recorded: bool | None) -> bool:
        facts = {} if recorded is None else {"base": {"name": recipe, "miniature": recorded}}
        return RunResults(Path("run"), recipe={"base": recipe}, facts=facts).miniature

    assert miniature("nano-musicgen", None)
    assert miniature("some/folder", True)
    assert not miniature("nano-but-large", False)


def test_find_runs_skips_earlier_results(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, seconds=0) for name in ("run", "runs/a", "runs/b", "earlier/old")]
    assert find_runs(tmp_path) == runs[:3]
    assert find_runs(runs[0]) == [runs[0]]


def test_read_result_finds_the_corpus_of_the_recipe_or_next_to_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "somewhere" / "run", seconds=0)
    assert read_result(run).corpus["clips"] == 78
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "summary.json").write_text('{"clips": 5}')
    (run / "recipe.yaml").write_text(f"corpus: {elsewhere}\n")
    assert read_result(run).corpus == {"clips": 5}


def test_read_result_describes_the_music_that_the_run_recorded(tmp_path: Path, corpus_folder: Path) -> None:
    """The folder of the corpus may be prepared again, moved or lost after training."""
    corpus = Corpus.load(corpus_folder)
    old = {"corpus_hash": "0" * 64, "corpus": SUMMARY, "trained_on": {"recordings": ["a"], "clips": 2, "seconds": 9.0}}
    recipe = RECIPE | {"corpus": str(corpus_folder)}

    def read(facts: dict[str, Any], **changes: Any) -> RunResults:
        run = make_run(tmp_path / "run", seconds=0, run=facts, recipe=recipe, summary=None, **changes)
        return read_result(run)

    changed = read(old)
    assert changed.corpus == SUMMARY
    assert changed.corpus_note.startswith(f"{corpus_folder} has changed since")
    assert changed.training_music["recordings"] == ["a"]
    same = read(old | {"corpus_hash": corpus.hash})
    assert (same.corpus, same.corpus_note) == (SUMMARY, "")
    unrecorded = read({"corpus_hash": "0" * 64})
    assert unrecorded.corpus == {}  # today's folder is no evidence
    assert "did not record" in unrecorded.corpus_note
    assert (
        read({"corpus_hash": corpus.hash}).corpus["recordings"] == corpus.summary["recordings"]
    )  # older runs, same folder
    scored = read({"corpus_hash": "0" * 64}, scores=SCORES | {"corpus": SUMMARY})
    assert scored.corpus == SUMMARY
    assert "has changed since" in scored.corpus_note
    recipe["corpus"] = str(tmp_path / "gone")
    assert (read(old).corpus, read(old).corpus_note) == (SUMMARY, "")


def test_find_runs_without_folder_or_run_raises(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no such folder; give the folder"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(TalimError, match="holds no run"):
        find_runs(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("scores.json", "{"), ("cost.json", "[1]"), ("recipe.yaml", "a: [b"), ("log.jsonl", "{\n{}\n")],
)
def test_read_result_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    make_run(tmp_path / "run", seconds=0)
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(TalimError, match=name.replace(".", r"\.")):
        read_result(tmp_path / "run")


def test_read_result_incomplete_last_line_of_the_log_is_ignored(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds=0)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 301, "los')
    assert len(read_result(run).log) == 307


@pytest.mark.parametrize("name", ["../../secret.wav", "/etc/hostname"])
def test_read_result_sample_outside_the_run_raises(tmp_path: Path, name: str) -> None:
    run = make_run(tmp_path / "run", seconds=0)
    (run / "samples").mkdir(exist_ok=True)
    (run / "samples" / "manifest.jsonl").write_text(json.dumps({"file": name, "role": "real"}) + "\n")
    with pytest.raises(TalimError, match="leads out of"):
        read_result(run)
