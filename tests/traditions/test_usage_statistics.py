"""The optional file of what was counted."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim.errors import TalimError
from talim.traditions import usage_statistics
from talim.traditions.notation import Notation
from talim.traditions.tradition import list_builtin, load

LETTERS = Notation({"S": 0.0, "R": 200.0})


def written(folder: Path, modes: object) -> Path:
    (folder / "practice.json").write_text(json.dumps({"modes": modes}), encoding="utf-8")
    return folder / "practice.json"


def test_it_is_read_in_the_traditions_notation(tmp_path: Path) -> None:
    file = written(tmp_path, {"one": {"heard": 3, "weights": {"S": 60, "R": 40}}, "two": {"heard": 1}})
    found = usage_statistics.read_usage_statistics(file, LETTERS, {"one", "two", "three"})
    assert found["one"].shares == {0.0: 60.0, 200.0: 40.0}
    assert found["two"].heard == 1
    assert "three" not in found


def test_no_file_is_no_practice(tmp_path: Path) -> None:
    assert usage_statistics.read_usage_statistics(tmp_path / "practice.json", LETTERS, {"one"}) == {}


@pytest.mark.parametrize(
    ("modes", "told"),
    [
        ([], "expected"),
        ({"four": {}}, "'four' is no mode"),
        ({"one": {"weights": {"X": 1}}}, "unknown note 'X'"),
        ({"one": {"weights": {"S": -1}}}, "the share of S"),
        ({"one": {"weights": {"S": 0}}}, "above 0"),
        ({"one": {"weights": [1]}}, "'weights' must"),
        ({"one": {"heard": 0}}, "'heard' must be above 0"),
        ({"one": {"heard": True}}, "'heard'"),
        ({"one": {"herd": 1}}, "'heard' and 'weights' only"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path: Path, modes: object, told: str) -> None:
    with pytest.raises(TalimError, match=told) as caught:
        usage_statistics.read_usage_statistics(written(tmp_path, modes), LETTERS, {"one"})
    assert "practice.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("slug", list_builtin())
def test_every_shipped_mode_is_counted(slug: str) -> None:
    tradition = load(slug)
    assert {mode.slug for mode in tradition.modes} == set(tradition.practice)


def test_the_counts_of_rast_are_those_of_the_scores() -> None:
    rast = load("makam").practice["rast"]
    assert rast.heard == 109
    assert max(rast.shares, key=lambda cents: rast.shares[cents]) == pytest.approx(701.887)  # nevâ, its güçlü
