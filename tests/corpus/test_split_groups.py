"""What ties recordings together, and the leak that is measured when they are torn apart."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from talim.corpus.split import make_split, random_split_leakage
from talim.corpus.split_groups import SplitGroups, SplitItem, assign_groups, split_leakage

REAL = Path(__file__).parents[3] / "shared" / "data"


def piece(
    name: str, performer: str = "unknown", release: str = "unknown", work: str = "unknown"
) -> SplitItem:
    return SplitItem(name, name, performer, f"{name}.wav", 0.0, 60.0, release, work)


def test_ties_reach_through_others() -> None:
    pieces = [
        piece("a", "P", "R1"),
        piece("b", "Q | P"),
        piece("c", "Q", work="W"),
        piece("d", work="W"),
        piece("e"),
    ]
    groups = assign_groups(pieces, ("performer", "release", "work"), ())
    assert len({groups[name] for name in "abcd"}) == 1
    assert groups["e"] != groups["a"]
    assert len(set(assign_groups(pieces, (), ()).values())) == 5
    assert len(set(assign_groups(pieces, ("release", "work"), ()).values())) == 4
    groups = assign_groups(pieces, (), (("a.wav", "e.wav"), ("a.wav", "absent.wav")))
    assert groups["a"] == groups["e"]


def test_a_long_chain_is_one_cluster() -> None:
    clusters = SplitGroups()
    for at in range(5000):
        clusters.union(f"n{at}", f"n{at + 1}")
    assert clusters.find("n5000") == clusters.find("n0")


def test_leak_counts_recordings_by_what_they_share() -> None:
    pieces = [
        piece("a", "P", "R"),
        piece("b", "P", "S"),
        piece("c", "Q", "S", "W"),
        piece("d", "Z", "T", "W"),
    ]
    sides = {"a": "train", "b": "held_out", "c": "train", "d": "held_out"}
    found = split_leakage(pieces, sides, [("b.wav", "a.wav")])
    assert found == {"performer": 0.5, "release": 0.5, "work": 0.5, "twin": 0.5, "any": 1.0}
    assert split_leakage(pieces, {"a": "train", "d": "held_out"}) == dict.fromkeys(found, 0.0)


def test_our_split_leaks_nothing_where_a_plain_one_does() -> None:
    pieces = [piece(f"r{i}", f"p{i // 2}", f"album {i // 4}", f"w{i % 2 + 2 * (i // 4)}") for i in range(40)]
    split = make_split(pieces)
    assert split.step == "performer"
    assert split_leakage(pieces, split.sides)["any"] == 0
    plain = random_split_leakage(pieces, 0.2, 0, ())
    assert plain is not None
    assert plain["release"] > 0.8
    assert plain["any"] >= plain["release"]


def test_a_plain_split_of_one_recording_is_impossible() -> None:
    assert random_split_leakage([piece("a")], 0.2, 0, ()) is None


@pytest.mark.real
@pytest.mark.parametrize(
    ("table", "separator", "expected"),
    [("hindustani/saraga_recordings.csv", "|", 0.82), ("makam_pitch/recordings_1000.csv", ",", 0.91)],
)
def test_the_leak_of_the_papers_split(table: str, separator: str, expected: float) -> None:
    """Independent figures: 82 % and 91 % of test recordings share their release with training."""
    if not (REAL / table).is_file():
        pytest.skip(f"the real metadata (shared/data/{table}) is not here")
    with open(REAL / table, encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    pieces = [
        piece(
            row["mbid"],
            row["artists"].replace(separator, "|"),
            row["release_mbid"] or "unknown",
            row["work_mbid"],
        )
        for row in rows
    ]
    plain = random_split_leakage(pieces, 0.2, 0, ())
    assert plain is not None
    assert plain["release"] == pytest.approx(expected, abs=0.05)
    split = make_split(pieces)
    assert split_leakage(pieces, split.sides)["release"] == 0
