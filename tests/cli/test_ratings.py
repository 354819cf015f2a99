"""`talim ratings`: exports of other sites that are refused by row, and too few answers in plain words with a page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fixtures.listening_test_folder import protocol_of, write_test
from fixtures.simulated_votes import simulated

from talim.cli import main
from talim.listening.export import to_jsonl

TRUTH = {"linear": 0.8, "conv": 0.2, "untrained": -1.0, "real": 1.6}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_test(tmp_path_factory.mktemp("ratings") / "test", exclusions={"trials_below": 3})


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as ended:
        main([str(a) for a in arguments])
    return int(str(ended.value.code))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"answer": 100}, "answer is 100"),
        ({"answer": 0.5}, "answer is 0.5"),
        ({"answer": True}, "answer is True"),
        ({"answer": "1"}, "answer is '1'"),
        ({"position": -1}, "position is -1"),
        ({"position": []}, "position is []"),
        ({"listener": 7}, "listener is 7"),
        ({"site": None}, "site is None"),
        ({"item": {"a": 1}}, "item is {'a': 1}"),
        ({"first": ["linear"]}, "first is ['linear']"),
        ({"kind": "x"}, "kind is 'x'"),
        ({"at": float("inf")}, "at is inf"),
        ({"listened_seconds": "long"}, "listened_seconds is 'long'"),
        ({"aspect": 3}, "aspect is 3"),
        ({"site": "a\ud800"}, "site is 'a\\ud800'"),
    ],
)
def test_ratings_wrong_row_exits_1_and_names_it(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], change: dict[str, Any], words: str
) -> None:
    rows = simulated(protocol_of(), TRUTH, 2)
    rows[4] |= change
    (tmp_path / "site.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    assert run("ratings", folder, "--merge", tmp_path / "site.jsonl") == 1
    message = capsys.readouterr().err
    assert "row 5" in message
    assert words in message
    assert "bug" not in message


@pytest.mark.parametrize("content", ["3\n", "[]\n", "null\n", '{"test": "x"}\n', "\n"])
def test_ratings_other_json_exits_1(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: str
) -> None:
    (tmp_path / "site.jsonl").write_text(content, encoding="utf-8")
    assert run("ratings", folder, "--merge", tmp_path / "site.jsonl") == 1
    assert "bug" not in capsys.readouterr().err


def test_ratings_folder_missing_or_cut_off_export_exits_1(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("ratings", folder, "--merge", tmp_path) == 1
    assert "is a folder" in capsys.readouterr().err
    assert run("ratings", folder, "--merge", tmp_path / "none.jsonl") == 1
    assert "no such file" in capsys.readouterr().err
    text = to_jsonl(simulated(protocol_of(), TRUTH, 8))
    (tmp_path / "cut.jsonl").write_text(text[:-30], encoding="utf-8")
    assert run("ratings", folder, "--merge", tmp_path / "cut.jsonl") == 1
    assert "its last line is cut off" in capsys.readouterr().err


def test_ratings_of_a_mushra_export_for_a_pairwise_test_exits_1(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row | {"condition": "linear", "score": 50} for row in simulated(protocol_of(), TRUTH, 1)]
    rows = [{key: value for key, value in row.items() if key not in ("first", "second", "answer")} for row in rows]
    (tmp_path / "site.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    assert run("ratings", folder, "--merge", tmp_path / "site.jsonl") == 1
    assert "not those of a pairwise test" in capsys.readouterr().err


def test_ratings_too_few_answers_are_told_in_words_and_on_a_page(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [row for row in simulated(protocol_of(), TRUTH, 2) if row["position"] < 2]
    (tmp_path / "site.jsonl").write_text(to_jsonl(rows), encoding="utf-8")
    assert run("ratings", folder, "--merge", tmp_path / "site.jsonl") == 1
    message = capsys.readouterr().err
    assert "2 listeners have answered" in message
    assert "2 answered fewer than 3 pages" in message
    assert "{" not in message
    page = folder / "ratings" / "index.html"
    assert str(page) in message
    text = page.read_text("utf-8")
    assert "No ratings yet: 2 listeners have answered" in text
    assert 'class="plot"' not in text
