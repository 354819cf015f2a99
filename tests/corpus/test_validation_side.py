"""Validation: whole groups of the training side, about their fraction; named fallbacks; the test side never changes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.prepared_corpus import make
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.corpus import validation_side
from talim.corpus.manifest import Corpus
from talim.corpus.split import GROUPING_KEYS, Split, default_fraction, make_split
from talim.corpus.split_groups import SplitItem, assign_groups
from talim.corpus.validation_side import FRACTION, MIN_GROUPS, MOST, NONE, PARTS, RECORDINGS, add_validation
from talim.errors import TalimError
from talim.reporting.messages import corpus_message


def recording(name: str, performer: str = "unknown", seconds: float = 60.0) -> list[SplitItem]:
    file = f"{name}.wav"
    return [SplitItem(f"{file}-{i}", name, performer, file, i * 10.0, 10.0) for i in range(int(seconds // 10))]


def items_of(*recordings: list[SplitItem]) -> list[SplitItem]:
    return [item for items in recordings for item in items]


def names(items: list[SplitItem], split: Split, side: str) -> set[str]:
    return {item.recording for item in items if split.sides.get(item.id) == side}


def seconds(items: list[SplitItem], split: Split, *sides: str) -> float:
    return sum(item.seconds for item in items if split.sides.get(item.id) in sides)


def both(items: list[SplitItem], seed: int = 0, **options: Any) -> tuple[Split, Split]:
    fraction = default_fraction(items)
    two = make_split(items, held_out_fraction=fraction, seed=seed, **options)
    return two, add_validation(two, items, seed, options.get("duplicates", ()))


@pytest.mark.parametrize(
    ("count", "kind", "validation"),
    [(2, PARTS, 1), (3, PARTS, 2), (4, PARTS, 3), (6, RECORDINGS, 1), (8, RECORDINGS, 1), (12, RECORDINGS, 2)],
)
def test_few_recordings_have_named_fallbacks(count: int, kind: str, validation: int) -> None:
    items = items_of(*(recording(f"r{i}") for i in range(count)))
    two, split = both(items)
    assert split.validation_from == kind
    assert len(names(items, split, "validation")) == validation
    assert ("too few independent recordings remain" in split.validation_note) == (kind != RECORDINGS)
    assert ("weights were chosen on clips of recordings that were also" in split.validation_note) == (kind == PARTS)
    rest = "the rest of which is trained on" if validation == 1 else "the rest of each of which is trained on"
    assert (rest in split.explanation) == (kind == PARTS)
    assert "Validation, where weights and designs are chosen" in split.explanation
    assert split.explanation.startswith(two.explanation)


def test_one_recording_gives_its_last_part_or_none() -> None:
    long = recording("long", seconds=300)
    _, split = both(long)
    assert (split.strategy, split.validation_from) == ("blocks", PARTS)
    assert "parts of the same recordings" in split.validation_note
    last = max(item.start_seconds for item in long if split.sides.get(item.id) in ("train", "validation"))
    assert any(split.sides.get(item.id) == "validation" for item in long if item.start_seconds == last)
    short = items_of(recording("a", seconds=20), recording("b", seconds=20))
    two, split = both(short)
    assert (split.validation_from, split.sides) == (NONE, two.sides)
    assert "the weights of the last step are kept" in split.explanation
    assert split.validation_note.startswith("no validation, as too few independent recordings remain")


@pytest.mark.parametrize(("count", "least", "most"), [(16, 2, 2), (40, 4, 6), (200, 20, 32)])
def test_fractions_are_near_what_is_asked(count: int, least: int, most: int) -> None:
    items = items_of(*(recording(f"r{i}") for i in range(count)))
    for seed in range(5):
        _, split = both(items, seed)
        assert least <= len(names(items, split, "validation")) <= most


def test_relaxes_where_few_performers_are_left_and_says_so() -> None:
    items = items_of(*(recording(f"r{i}", f"p{i // 5}") for i in range(15)))
    two, split = both(items)
    assert (two.strategy, split.validation_from) == ("performer", RECORDINGS)
    assert "By recording, as too few are left to keep validation apart by performer." in split.explanation
    many = items_of(*(recording(f"r{i}", f"p{i // 2}") for i in range(16)))
    _, split = both(many)
    players = {side: {item.performer for item in many if split.sides[item.id] == side} for side in split.sides.values()}
    assert not players["validation"] & players["train"]
    assert "By recording" not in split.explanation


def test_copies_stay_on_one_side() -> None:
    items = items_of(*(recording(f"r{i}") for i in range(12)))
    pairs = [(f"r{i}.wav", f"r{i + 1}.wav") for i in range(0, 12, 2)]
    for seed in range(6):
        _, split = both(items, seed, duplicates=pairs)
        side = {item.source_file: split.sides[item.id] for item in items}
        assert all(side[one] == side[other] for one, other in pairs)
        assert split.validation_from == RECORDINGS


recordings = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "d", "e | f", "unknown"]), st.floats(10, 400)), min_size=1, max_size=14
)


@settings(max_examples=150)
@given(recordings, st.integers(0, 5), st.sampled_from(["auto", "recording", "blocks"]))
def test_any_recordings_keep_the_test_side_and_two_thirds_of_training(
    drawn: list[tuple[str, float]], seed: int, strategy: str
) -> None:
    items = items_of(*(recording(f"r{n}", performer, length) for n, (performer, length) in enumerate(drawn)))
    try:
        two, split = both(items, seed, split_by=strategy)
    except TalimError:
        return
    assert split == both(items[::-1], seed, split_by=strategy)[1]
    for item in items:
        before, after = two.sides.get(item.id), split.sides.get(item.id)
        assert after == before or (before, after) == ("train", "validation")
    remaining, taken = seconds(items, split, "train", "validation"), seconds(items, split, "validation")
    assert 0 <= taken <= MOST * remaining + 1e-6
    assert (taken > 0) == (split.validation_from != NONE)
    assert bool(split.validation_note) == (split.validation_from != RECORDINGS)
    if split.validation_from == RECORDINGS:
        assert not names(items, split, "validation") & (names(items, split, "train") | names(items, split, "held_out"))
        kinds = [*GROUPING_KEYS]
        assert any(
            not {groups[name] for name in names(items, split, "validation")}
            & {groups[name] for name in names(items, split, "train")}
            for groups in (assign_groups(items, GROUPING_KEYS[kind], ()) for kind in kinds[kinds.index(two.strategy) :])
        )
        largest = max(
            seconds([i for i in items if i.recording == name], two, "train") for name in names(items, two, "train")
        )
        assert taken >= FRACTION * remaining or largest > (MOST - FRACTION) * remaining
    elif two.strategy != "blocks":
        assert len(names(items, two, "train")) < MIN_GROUPS


def test_prepare_stores_and_shows_the_three_sides(tmp_path: Path, make_recordings: Any) -> None:
    corpus = make(make_recordings(tmp_path / "takes", count=6, seconds=2.5), tmp_path / "corpus", clip_seconds=2.0)
    split = corpus.summary["split"]
    assert split["validation_recordings"] == sorted({clip.recording for clip in corpus.validation}) != []
    assert split["validation"]["clips"] == len(corpus.validation)
    assert Corpus.load(tmp_path / "corpus").validation == corpus.validation
    text = corpus_message(corpus.summary, tmp_path / "corpus")
    assert f"{len(corpus.validation)} to choose by (validation)" in text
    assert (
        f"Validation, where weights and designs are chosen, never trained on: {corpus.validation[0].recording}" in text
    )
    page = (tmp_path / "corpus" / "report" / "index.html").read_text(encoding="utf-8")
    assert "Validation clips are of 1 recording" in page
    rows = (tmp_path / "corpus" / "summary.json").read_text("utf-8")
    (tmp_path / "corpus" / "summary.json").write_text(
        rows.replace('"format_version": 2', '"format_version": 1'), "utf-8"
    )
    with pytest.raises(TalimError, match=r"prepared by another version of talim; prepare it again: talim prepare"):
        Corpus.load(tmp_path / "corpus")


@pytest.mark.parametrize(
    ("lengths", "fewest", "most"),
    [((60,) * 5, 1, 1), ((60, 60, 60, 60, 20), 1, 2), ((60,) * 8, 2, 2), ((100, 10, 10, 10), 2, 2), ((60,) * 3, 0, 0)],
)
def test_groups_are_drawn_by_the_rule_that_the_guide_states(lengths: tuple[int, ...], fewest: int, most: int) -> None:
    """In a drawn order, each unless validation would have more than 34 %, until it has 15 % and, of eight, two."""
    items = items_of(*(recording(f"r{i}", seconds=float(length)) for i, length in enumerate(lengths)))
    groups = {item.recording: item.recording for item in items}
    found = {len(validation_side._draw_groups(groups, items, np.random.default_rng(n), set())) for n in range(40)}
    assert (min(found), max(found)) == (fewest, most)


def test_guide_states_the_numbers_of_the_rule() -> None:
    page = (Path(__file__).parents[2] / "docs/guides/prepare.md").read_text("utf-8")
    words = {4: "four", 8: "eight"}
    assert f"{FRACTION:.0%}".replace("%", " %") in page
    assert f"more than\n{MOST:.0%}".replace("%", " %") in page
    assert f"{words[MIN_GROUPS]} groups or more beside the test" in page
    assert f"{words[validation_side.ENOUGH_FOR_TWO]} groups or more are left" in page
