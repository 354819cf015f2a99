"""make_split: no leakage between the sides whatever the groups; the strategy and its reasons are named.

Validation: whole groups of the training side, about their fraction; named fallbacks; the test side never changes.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.prepared_corpus import make
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.corpus import split as split_module
from talim.corpus.manifest import Corpus
from talim.corpus.split import (
    ENOUGH_FOR_TWO,
    GAP_SECONDS,
    GROUPING_KEYS,
    MIN_VALIDATION_GROUPS,
    MOST_VALIDATION,
    NO_VALIDATION,
    PARTS,
    RECORDINGS,
    VALIDATION_FRACTION,
    Split,
    add_validation,
    default_fraction,
    make_split,
)
from talim.corpus.split_groups import SplitItem, assign_groups, performers
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted
from talim.reporting.messages import corpus_message


def recording(
    name: str, performer: str = "unknown", seconds: float = 60.0, file: str = "", clip: float = 10.0
) -> list[SplitItem]:
    file = file or f"{name}.wav"
    count = int(seconds // clip)
    return [SplitItem(f"{file}-{i}", name, performer, file, i * clip, clip) for i in range(count)]


def items_of(*recordings: list[SplitItem]) -> list[SplitItem]:
    return [item for items in recordings for item in items]


def names(items: list[SplitItem], split: Split, side: str) -> set[str]:
    return {item.recording for item in items if split.sides.get(item.id) == side}


def names_of(items: list[SplitItem]) -> set[str]:
    return {item.recording for item in items}


def check_no_leakage(items: list[SplitItem], split: Split) -> None:
    train = [item for item in items if split.sides.get(item.id) == "train"]
    held = [item for item in items if split.sides.get(item.id) == "held_out"]
    assert train
    assert held
    if split.strategy in ("performer", "recording"):
        assert not {p.recording for p in train} & {p.recording for p in held}
        assert len(split.sides) == len(items)
    if split.strategy == "performer":
        in_training = {name for item in train for name in performers(item.performer)}
        assert not in_training & {name for item in held for name in performers(item.performer)}
    if split.strategy == "blocks":
        for one in held:
            for other in train:
                if one.source_file == other.source_file:
                    first, second = sorted((one, other), key=lambda item: item.start_seconds)
                    pause = second.start_seconds - first.start_seconds - first.seconds
                    assert pause >= GAP_SECONDS - 1e-9


@pytest.mark.parametrize(("count", "fraction"), [(1, 0.3), (6, 0.3), (19, 0.3), (20, 0.2), (500, 0.2)])
def test_default_fraction_holds_more_of_few_recordings_out(count: int, fraction: float) -> None:
    items = items_of(*(recording(f"r{number}") for number in range(count)))
    assert default_fraction(items) == fraction


groups = st.lists(
    st.tuples(st.sampled_from(["a", "b", "c", "a | b", "C; d", "unknown"]), st.floats(10, 400), st.integers(0, 8)),
    min_size=1,
    max_size=12,
)


@settings(max_examples=200)
@given(groups, st.integers(0, 5), st.floats(0.05, 0.5), st.sampled_from(["auto", "recording", "blocks"]))
def test_make_split_of_any_recordings_does_not_leak(
    recordings: list[tuple[str, float, int]], seed: int, fraction: float, strategy: str
) -> None:
    items = items_of(*(recording(f"r{n}", performer, s, f"f{i}.wav") for i, (performer, s, n) in enumerate(recordings)))
    split = None
    with contextlib.suppress(TalimError):
        split = make_split(items, held_out_fraction=fraction, seed=seed, split_by=strategy)
    if split is None:
        seconds = {name: sum(item.seconds for item in items if item.recording == name) for name in names_of(items)}
        if strategy != "recording":  # the longest has no room for two clips and the gap between them
            assert max(seconds.values(), default=0) < GAP_SECONDS + 20
        elif len(seconds) > 1:  # the small ones together are too few, each other one is too large
            assert min(seconds.values()) < fraction / 4 * sum(seconds.values())
        return
    check_no_leakage(items, split)
    assert split == make_split(items[::-1], held_out_fraction=fraction, seed=seed, split_by=strategy)


def test_make_split_with_several_performers_splits_by_performer() -> None:
    items = items_of(*(recording(f"r{i}", f"p{i // 2}") for i in range(10)))
    split = make_split(items)
    check_no_leakage(items, split)
    assert split.strategy == "performer"
    assert len(names(items, split, "held_out")) == 2  # one of five performers is 20 %
    assert split.relaxed == ()
    assert "no performer," not in split.explanation


UNNAMED = "no recording names its performer, in the column performer of metadata.csv"
KNOWN = "No performer, release or work that the metadata name for them is in training."
SAME = "so the same musician may be on both sides: the column performer of metadata.csv tells them apart."
HALF = f"take-11, take-2, take-4, take-7 (Player 2, Player 4). {KNOWN} 6 recordings name no performer, {SAME}"
HALF += (
    " Nothing of the test is known to be by Player 0, Player 1, Player 3 and 1 more: to test on that music too, write "
)
HALF += "train, validation or test for recordings into the column split, or leave performer empty."
MOST = f"take-10, take-3, take-6, take-8 (Player 10, Player 3, Player 6, Player 8). {KNOWN} 1 recording names no "
MOST += f"performer, {SAME}"
PART = (
    "the first or last part of take-0; the 30 s beside it are left out. The rest of the same music is in training, so "
)
PART += f"the test says nothing about other recordings. (Not by performer: {UNNAMED}; not by recording: there is only "


@pytest.mark.parametrize(
    ("count", "performers", "seconds", "kept"),
    [
        (1, 0, 300, f"{PART}one recording.)"),
        (2, 0, 60, f"take-0. The same performers may be in training too. (Not by performer: {UNNAMED}.)"),
        (3, 3, 60, f"take-2 (Player 2). {KNOWN}"),
        (12, 6, 60, HALF),
        (12, 11, 60, MOST),
    ],
)
def test_make_split_explains_itself_in_plain_words(count: int, performers: int, seconds: float, kept: str) -> None:
    players = [f"Player {i}" if i < performers else "unknown" for i in range(count)]
    items = items_of(*(recording(f"take-{i}", player, seconds) for i, player in enumerate(players)))
    explanation = make_split(items, held_out_fraction=default_fraction(items)).explanation
    assert explanation == f"Kept for the test, never trained on: {kept}"


def test_make_split_with_other_seeds_holds_out_others() -> None:
    items = items_of(*(recording(f"r{i}", f"p{i}") for i in range(10)))
    chosen = {frozenset(names(items, make_split(items, seed=seed), "held_out")) for seed in range(8)}
    assert len(chosen) > 3


def test_make_split_recognizes_a_performer_in_other_spellings_and_company() -> None:
    items = items_of(recording("r1", "Ali Akbar"), recording("r2", "ali  akbar | Zakir"), recording("r3", "ZAKIR"))
    split = make_split(items)
    assert split.strategy == "recording"
    assert "all recordings are connected by performer" in split.relaxed[0]


def test_make_split_with_one_performer_relaxes_to_recordings() -> None:
    items = items_of(*(recording(f"r{i}", "Solo") for i in range(5)))
    split = make_split(items)
    check_no_leakage(items, split)
    assert split.strategy == "recording"
    assert "(Not by performer: all recordings are connected by performer" in split.explanation
    assert "same performers may be in training" in split.explanation


def test_make_split_with_unknown_performers_notes_them() -> None:
    known = items_of(recording("a", "P"), *(recording(f"u{i}") for i in range(3)))
    split = make_split(known)
    assert split.strategy == "performer"
    assert "3 recordings name no performer" in split.explanation
    nobody = items_of(*(recording(f"u{i}") for i in range(4)))
    split = make_split(nobody)
    assert split.strategy == "recording"
    assert "no recording names its performer" in split.explanation


def test_make_split_with_a_dominating_performer_trains_on_it() -> None:
    items = items_of(recording("big", "A", 3000), recording("small", "B", 300), recording("tiny", "C", 300))
    split = make_split(items)
    assert split.strategy == "performer"
    assert names(items, split, "train") >= {"big"}


def test_make_split_with_too_little_of_other_performers_relaxes() -> None:
    items = items_of(*(recording(f"a{i}", "A", 1000) for i in range(5)), recording("b", "B", 20))
    split = make_split(items)
    assert split.strategy == "recording"
    assert "together hold only" in split.relaxed[0]


def test_make_split_of_one_recording_gives_blocks_with_a_gap() -> None:
    items = recording("long", "A", 300)
    split = make_split(items)
    check_no_leakage(items, split)
    assert split.strategy == "blocks"
    held = sum(side == "held_out" for side in split.sides.values())
    assert held == 6  # 20 % of 30 clips
    assert len(items) - len(split.sides) == 3  # the gap of 30 s
    assert "30 s" in split.explanation
    starts = {
        min(p.start_seconds for p in items if make_split(items, seed=s).sides.get(p.id) == "held_out") for s in range(8)
    }
    assert starts == {0.0, 240.0}


def test_make_split_by_blocks_joins_files_of_one_recording() -> None:
    items = [*recording("long", "A", 100, "part1.wav"), *recording("long", "A", 100, "part2.wav")]
    split = make_split(items)
    assert split.strategy == "blocks"
    held = [item for item in items if split.sides.get(item.id) == "held_out"]
    assert len({item.source_file for item in held}) == 1
    assert len(items) - len(split.sides) >= 3


@pytest.mark.parametrize("seconds", [20.0, 40.0])
def test_make_split_of_one_short_recording_raises(seconds: float) -> None:
    with pytest.raises(TalimError, match=f"longest recording has {seconds:.0f} s.*add a recording"):
        make_split(recording("short", "A", seconds))


def test_make_split_of_the_shortest_divisible_recording_gives_blocks() -> None:
    items = recording("short", "A", 50)
    split = make_split(items)
    check_no_leakage(items, split)


def test_make_split_by_an_infeasible_strategy_says_why() -> None:
    with pytest.raises(UsageError, match="there is only one recording"):
        make_split(recording("one", "A", 300), split_by="recording")
    with pytest.raises(UsageError, match="auto, performer, lead, release, recording, blocks"):
        make_split(recording("one"), split_by="random")


def test_make_split_with_named_recordings_holds_them_out() -> None:
    items = items_of(*(recording(f"r{i}", "A" if i < 2 else f"p{i}") for i in range(4)))
    split = make_split(items, held_out=("r2",))
    assert (split.strategy, names(items, split, "held_out")) == ("performer", {"r2"})
    split = make_split(items, held_out=("R0.wav",))
    assert (split.strategy, names(items, split, "held_out")) == ("recording", {"r0"})
    assert "Heard in training too: A." in split.explanation
    check_no_leakage(items, split)


def test_make_split_with_invalid_names_raises() -> None:
    items = items_of(recording("yaman"), recording("bhairav"))
    with pytest.raises(UsageError, match=r"'yamann' is no usable recording here; did you mean: yaman"):
        make_split(items, held_out=("yamann",))
    with pytest.raises(UsageError, match="at least one to train on"):
        make_split(items, held_out=("yaman", "bhairav"))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        (
            ["Me"] * 6 + ["unknown"],
            'Nothing of the test is known to be by you ("Me"): to test on that music too, write',
        ),
        (["A"] * 6 + ["B"], "Nothing of the test is known to be by A: "),
        (["A", "A", "B", "B", "C", "C", "D", "D", "E", "E", "F"], ""),
        (["unknown"] * 7, ""),
    ],
)
def test_make_split_whose_test_lacks_those_trained_on_says_so(names: list[str], told: str) -> None:
    items = items_of(*(recording(f"r{number}", name) for number, name in enumerate(names)))
    explanation = make_split(items, held_out_fraction=0.2).explanation
    assert told in explanation
    assert ("Nothing of the test" in explanation) == bool(told)


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
    assert (split.validation_from, split.sides) == (NO_VALIDATION, two.sides)
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
    assert 0 <= taken <= MOST_VALIDATION * remaining + 1e-6
    assert (taken > 0) == (split.validation_from != NO_VALIDATION)
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
        assert taken >= VALIDATION_FRACTION * remaining or largest > (MOST_VALIDATION - VALIDATION_FRACTION) * remaining
    elif two.strategy != "blocks":
        assert len(names(items, two, "train")) < MIN_VALIDATION_GROUPS


def test_prepare_stores_and_shows_the_three_sides(tmp_path: Path, make_recordings: Any) -> None:
    corpus = make(make_recordings(tmp_path / "takes", count=6, seconds=2.5), tmp_path / "corpus", clip_seconds=2.0)
    split = corpus.summary["split"]
    assert split["validation_recordings"] == sorted({clip.recording for clip in corpus.validation}) != []
    assert split["validation"]["clips"] == len(corpus.validation)
    assert Corpus.load(tmp_path / "corpus").validation == corpus.validation
    text = corpus_message(corpus.summary, tmp_path / "corpus", "takes")
    assert f"{format_counted(len(corpus.validation), 'clip')} of 1 recording to choose by (validation)" in text
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
    found = {
        len(split_module._draw_validation_groups(groups, items, np.random.default_rng(n), set())) for n in range(40)
    }
    assert (min(found), max(found)) == (fewest, most)


def test_guide_states_the_numbers_of_the_rule() -> None:
    page = (Path(__file__).parents[2] / "docs/guides/prepare.md").read_text("utf-8")
    words = {4: "four", 8: "eight"}
    assert f"{VALIDATION_FRACTION:.0%}".replace("%", " %") in page
    assert f"more than\n{MOST_VALIDATION:.0%}".replace("%", " %") in page
    assert f"{words[MIN_VALIDATION_GROUPS]} groups or more beside the test" in page
    assert f"{words[ENOUGH_FOR_TWO]} groups or more are left" in page
