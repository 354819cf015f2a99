"""Results of listening tests and briefs: where they are found, and their links."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from talim.atomic_io import write_json, write_text
from talim.errors import TalimError
from talim.reporting import human_ratings
from talim.reporting.human_ratings import load_ratings

RATINGS = {"name": "makam", "verdict": "conv leads.", "listeners": {"answered": 9, "counted": 8}}
USEFUL = {"brief": {"name": "jingle"}, "sentences": ["conv: 3 of 8 accepted.", "Go on, by the rule of the brief."]}
USEFUL |= {"sentences_translated": {"ja": ["conv：8件中3件"]}}


def test_load_ratings_finds_both_with_links(tmp_path: Path) -> None:
    write_json(tmp_path / "listening" / "ratings.json", RATINGS)
    write_text(tmp_path / "listening" / "ratings" / "index.html", "x")
    write_json(tmp_path / "briefs" / "jingle" / "usefulness.json", USEFUL)
    write_json(tmp_path / "earlier" / "old" / "usefulness.json", USEFUL)
    ratings, useful = load_ratings(tmp_path, tmp_path / "report" / "index.html")
    assert ratings.title == "Blind listening: makam"
    assert ratings.sentences == ("conv leads.", "8 of 9 listeners are counted.")
    assert ratings.link == "../listening/ratings/index.html"
    assert (useful.title, useful.link) == ("Usefulness: jingle", "")
    assert useful.sentences[-1].startswith("Go on")
    assert (ratings.translated, useful.translated) == ({}, {"ja": ("conv：8件中3件",)})


@pytest.mark.parametrize(
    ("answered", "counted", "sentence"),
    [
        (0, 0, "Nobody has answered yet."),
        (1, 1, "1 of 1 listener is counted."),
        (3, 0, "0 of 3 listeners are counted."),
    ],
)
def test_load_ratings_counts_listeners_in_words(tmp_path: Path, answered: int, counted: int, sentence: str) -> None:
    write_json(tmp_path / "ratings.json", {"name": "a", "listeners": {"answered": answered, "counted": counted}})
    (ratings,) = load_ratings(tmp_path, tmp_path / "report" / "index.html")
    assert ratings.sentences == (sentence,)


def test_load_ratings_without_files_is_empty_and_damaged_raises(tmp_path: Path) -> None:
    assert load_ratings(tmp_path, tmp_path / "report" / "index.html") == []
    (tmp_path / "usefulness.json").write_text("[]", encoding="utf-8")
    with pytest.raises(TalimError, match=r"usefulness\.json"):
        load_ratings(tmp_path, tmp_path / "report" / "index.html")
    write_json(tmp_path / "usefulness.json", {"sentences": None})
    assert load_ratings(tmp_path, tmp_path / "report" / "index.html")[0].sentences == ()


def test_listen_commands_everywhere_invite_the_number_of_listeners_that_is_enough() -> None:
    root = Path(human_ratings.__file__).parents[3]
    places = [*root.glob("README*.md"), *root.glob("docs/**/*.md"), *root.glob("src/talim/**/*.py")]
    told = [
        number for path in places for number in re.findall(r"talim listen .*--invites (\d+)", path.read_text("utf-8"))
    ]
    assert len(told) > 5
    assert {*told} == {str(human_ratings.ENOUGH_LISTENERS)}
    assert human_ratings.listen_command("x") == "talim listen x --invites 12"
    guide = " ".join((root / "docs" / "guides" / "listening-tests.md").read_text("utf-8").split())
    assert "Below six listeners there is none; below twelve it carries a warning. Twelve is what" in guide
    assert (human_ratings.MIN_LISTENERS, human_ratings.ENOUGH_LISTENERS) == (6, 12)


def test_load_ratings_tells_who_was_left_out(tmp_path: Path) -> None:
    result = {"name": "t", "verdict": "conv leads.", "left_out": ["Left out: 1 listener."]}
    write_json(tmp_path / "ratings.json", result | {"listeners": {"counted": 6, "answered": 7}})
    (rating,) = human_ratings.load_ratings(tmp_path, tmp_path / "x")
    assert rating.sentences == ("conv leads.", "6 of 7 listeners are counted.", "Left out: 1 listener.")
