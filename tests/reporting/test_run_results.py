"""Reading run folders: everything there, parts missing, damaged files named."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.run_folder import SCORES, SUMMARY, make_run

from talim.errors import TalimError
from talim.reporting.run_results import RunResults, find_runs, read_result


def test_a_whole_run_is_read(tmp_path: Path) -> None:
    result = read_result(make_run(tmp_path / "run", seconds=0.3))
    assert result.recipe["design"] == "linear@all:2.5%"
    assert result.base["fingerprint"] == "c0ffee12"
    assert result.miniature
    assert result.corpus == SUMMARY
    assert result.losses == SCORES["held_out_loss"]
    assert len(result.log) == 307
    assert [sample.role for sample in result.samples] == ["before", "after", "real"] * 2
    assert all(sample.path.is_file() for sample in result.samples)


def test_an_almost_empty_run_is_read(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text("base: facebook/musicgen-small\n")
    result = read_result(tmp_path)
    assert result.base == {"name": "facebook/musicgen-small"}
    assert not result.miniature
    assert [result.log, result.cost, result.scores, result.samples, result.corpus] == [[], {}, {}, [], {}]


def test_what_the_base_says_of_itself_outweighs_its_name() -> None:
    def miniature(recipe: str, said: bool | None) -> bool:
        facts = {} if said is None else {"base": {"name": recipe, "miniature": said}}
        return RunResults(Path("run"), recipe={"base": recipe}, facts=facts).miniature

    assert miniature("nano-musicgen", None)
    assert miniature("some/folder", True)
    assert not miniature("nano-but-large", False)


def test_runs_are_found_below_a_folder_and_outdated_ones_left_out(tmp_path: Path) -> None:
    runs = [make_run(tmp_path / name, seconds=0) for name in ("run", "runs/a", "runs/b", "earlier/old")]
    assert find_runs(tmp_path) == runs[:3]
    assert find_runs(runs[0]) == [runs[0]]


def test_the_corpus_is_found_where_the_recipe_says_or_beside_the_run(tmp_path: Path) -> None:
    run = make_run(tmp_path / "somewhere" / "run", seconds=0)
    assert read_result(run).corpus["clips"] == 78
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "summary.json").write_text('{"clips": 5}')
    (run / "recipe.yaml").write_text(f"corpus: {elsewhere}\n")
    assert read_result(run).corpus == {"clips": 5}


def test_no_folder_and_no_run_say_what_to_give(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no such folder; give the folder"):
        find_runs(tmp_path / "nowhere")
    with pytest.raises(TalimError, match="no run is here"):
        find_runs(tmp_path)


@pytest.mark.parametrize(
    ("name", "content"),
    [("scores.json", "{"), ("cost.json", "[1]"), ("recipe.yaml", "a: [b"), ("log.jsonl", "{\n{}\n")],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: str) -> None:
    make_run(tmp_path / "run", seconds=0)
    (tmp_path / "run" / name).write_text(content)
    with pytest.raises(TalimError, match=name.replace(".", r"\.")):
        read_result(tmp_path / "run")


def test_a_torn_last_line_of_the_log_is_left_out(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", seconds=0)
    with (run / "log.jsonl").open("a") as log:
        log.write('{"step": 301, "los')
    assert len(read_result(run).log) == 307
