"""practice.json, the optional file of usage statistics."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim.errors import TalimError
from talim.traditions import usage_statistics
from talim.traditions.notation import Notation
from talim.traditions.tradition import list_builtin, load

LETTERS = Notation({"S": 0.0, "R": 200.0})


def usage_file(folder: Path, modes: object) -> Path:
    (folder / "practice.json").write_text(json.dumps({"modes": modes}), encoding="utf-8")
    return folder / "practice.json"


def test_read_usage_statistics_uses_the_notation(tmp_path: Path) -> None:
    file = usage_file(tmp_path, {"one": {"heard": 3, "weights": {"S": 60, "R": 40}}, "two": {"heard": 1}})
    statistics = usage_statistics.read_usage_statistics(file, LETTERS, {"one", "two", "three"})
    assert statistics["one"].weights == {0.0: 60.0, 200.0: 40.0}
    assert statistics["two"].count == 1
    assert "three" not in statistics


def test_read_usage_statistics_without_file_is_empty(tmp_path: Path) -> None:
    assert usage_statistics.read_usage_statistics(tmp_path / "practice.json", LETTERS, {"one"}) == {}


@pytest.mark.parametrize(
    ("modes", "problem"),
    [
        ([], "expected"),
        ({"four": {}}, "'four' is no mode"),
        ({"one": {"weights": {"X": 1}}}, "unknown note 'X'"),
        ({"one": {"weights": {"S": -1}}}, "the share of S"),
        ({"one": {"weights": {"S": 0}}}, "above 0"),
        ({"one": {"weights": [1]}}, "'weights' must"),
        ({"one": {"heard": 0}}, "'heard' must be above 0"),
        ({"one": {"heard": True}}, "'heard'"),
        ({"one": {"counted": 1}}, "'heard' and 'weights' only"),
    ],
)
def test_read_usage_statistics_of_an_invalid_entry_raises_one_line(tmp_path: Path, modes: object, problem: str) -> None:
    with pytest.raises(TalimError, match=problem) as caught:
        usage_statistics.read_usage_statistics(usage_file(tmp_path, modes), LETTERS, {"one"})
    assert "practice.json" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("slug", list_builtin())
def test_load_of_builtin_traditions_has_usage_of_every_mode(slug: str) -> None:
    tradition = load(slug)
    assert {mode.slug for mode in tradition.modes} == set(tradition.usage)


def test_load_of_makam_has_the_counts_of_rast() -> None:
    rast = load("makam").usage["rast"]
    assert rast.count == 109
    assert max(rast.weights, key=lambda cents: rast.weights[cents]) == pytest.approx(701.887)  # nevâ, its güçlü
