"""Grouping of recordings and leakage of splits."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from talim.corpus.split import make_split, random_split_leakage
from talim.corpus.split_groups import SplitGroups, SplitItem, assign_groups, split_leakage

REAL = Path(__file__).parents[3] / "shared" / "data"


def item(name: str, performer: str = "unknown", release: str = "unknown", work: str = "unknown") -> SplitItem:
    return SplitItem(name, name, performer, f"{name}.wav", 0.0, 60.0, release, work)


def test_assign_groups_connects_recordings_transitively() -> None:
    items = [item("a", "P", "R1"), item("b", "Q | P"), item("c", "Q", work="W"), item("d", work="W"), item("e")]
    groups = assign_groups(items, ("performer", "release", "work"), ())
    assert len({groups[name] for name in "abcd"}) == 1
    assert groups["e"] != groups["a"]
    assert len(set(assign_groups(items, (), ()).values())) == 5
    assert len(set(assign_groups(items, ("release", "work"), ()).values())) == 4
    groups = assign_groups(items, (), (("a.wav", "e.wav"), ("a.wav", "absent.wav")))
    assert groups["a"] == groups["e"]


def test_split_groups_of_a_long_chain_are_one_group() -> None:
    groups = SplitGroups()
    for at in range(5000):
        groups.union(f"n{at}", f"n{at + 1}")
    assert groups.find("n5000") == groups.find("n0")


def test_split_leakage_counts_recordings_by_shared_key() -> None:
    items = [item("a", "P", "R"), item("b", "P", "S"), item("c", "Q", "S", "W"), item("d", "Z", "T", "W")]
    sides = {"a": "train", "b": "held_out", "c": "train", "d": "held_out"}
    leakage = split_leakage(items, sides, [("b.wav", "a.wav")])
    assert leakage == {"performer": 0.5, "release": 0.5, "work": 0.5, "duplicate": 0.5, "any": 1.0}
    apart = {"performer": 0.0, "release": 0.0, "work": None, "duplicate": 0.0, "any": None}
    assert split_leakage(items, {"a": "train", "d": "held_out"}) == apart  # "a" names no work


def test_split_leakage_of_what_is_not_known_is_none() -> None:
    """A zero would say that performers were compared; the copied stretch of audio was."""
    items = [item("a"), item("b")]
    unknown = dict.fromkeys(("performer", "release", "work"))
    assert split_leakage(items, {"a": "train", "b": "held_out"}) == {**unknown, "duplicate": 0.0, "any": None}
    copied = split_leakage(items, {"a": "train", "b": "held_out"}, [("a.wav", "b.wav")])
    assert copied == {**unknown, "duplicate": 1.0, "any": 1.0}
    assert random_split_leakage(items, 0.5, 0, ()) == {**unknown, "duplicate": 0.0, "any": None}


def test_make_split_leaks_nothing_where_a_random_split_does() -> None:
    items = [item(f"r{i}", f"p{i // 2}", f"album {i // 4}", f"w{i % 2 + 2 * (i // 4)}") for i in range(40)]
    split = make_split(items)
    assert split.strategy == "performer"
    assert split_leakage(items, split.sides)["any"] == 0
    random = random_split_leakage(items, 0.2, 0, ())
    assert random is not None
    assert (random["release"] or 0) > 0.8
    assert (random["any"] or 0) >= (random["release"] or 1)


def test_random_split_leakage_of_one_recording_is_none() -> None:
    assert random_split_leakage([item("a")], 0.2, 0, ()) is None


@pytest.mark.real
@pytest.mark.parametrize(
    ("table", "separator", "expected"),
    [("hindustani/saraga_recordings.csv", "|", 0.82), ("makam_pitch/recordings_1000.csv", ",", 0.91)],
)
def test_random_split_leakage_of_real_data_is_as_published(table: str, separator: str, expected: float) -> None:
    """Independent figures: 82 % and 91 % of test recordings share their release with training."""
    if not (REAL / table).is_file():
        pytest.skip(f"the real metadata (shared/data/{table}) is not here")
    with open(REAL / table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    items = [
        item(row["mbid"], row["artists"].replace(separator, "|"), row["release_mbid"] or "unknown", row["work_mbid"])
        for row in rows
    ]
    random = random_split_leakage(items, 0.2, 0, ())
    assert random is not None
    assert random["release"] == pytest.approx(expected, abs=0.05)
    split = make_split(items)
    assert split_leakage(items, split.sides)["release"] == 0
