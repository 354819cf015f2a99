"""make_split: no leakage between the sides whatever the groups; the strategy and its reasons are named."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.corpus.split import GAP_SECONDS, Split, default_fraction, make_split
from talim.corpus.split_groups import SplitItem, performer_names
from talim.errors import TalimError, UsageError


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
        in_training = {name for item in train for name in performer_names(item.performer)}
        assert not in_training & {name for item in held for name in performer_names(item.performer)}
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
HALF += " Nothing of the test is known to be by Player 0, Player 1, Player 3 and 1 more: to test on them too, write "
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
    assert "A can be heard in training too" in split.explanation
    check_no_leakage(items, split)


def test_make_split_with_invalid_names_raises() -> None:
    items = items_of(recording("yaman"), recording("bhairav"))
    with pytest.raises(UsageError, match=r"'yamann' is no usable recording here; did you mean: yaman"):
        make_split(items, held_out=("yamann",))
    with pytest.raises(UsageError, match="at least one to train on"):
        make_split(items, held_out=("yaman", "bhairav"))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("A | b", ("a", "b")),
        ("A;A", ("a",)),
        ("unknown", ()),
        (" Ṣafiye  Ayla ", ("safiye ayla",)),
        ("山田太郎 | 山田　太郎 | 山田 太郎", ("山田太郎",)),
        ("なし", ()),
        ("Meera | 不明", ("meera",)),
        ("김 철수;김철수", ("김철수",)),
        ("N/A", ()),
        ("－", ()),
        ("Yok", ()),
    ],
)
def test_performer_names_splits_and_folds_case_and_accents(cell: str, expected: tuple[str, ...]) -> None:
    assert performer_names(cell) == expected


@pytest.mark.parametrize(
    ("performers", "told"),
    [
        (["Me"] * 6 + ["unknown"], "Nothing of the test is known to be by Me: to test on them too, write train,"),
        (["A"] * 6 + ["B"], "Nothing of the test is known to be by A: "),
        (["A", "A", "B", "B", "C", "C", "D", "D", "E", "E", "F"], ""),
        (["unknown"] * 7, ""),
    ],
)
def test_make_split_whose_test_lacks_those_trained_on_says_so(performers: list[str], told: str) -> None:
    items = items_of(*(recording(f"r{n}", performer) for n, performer in enumerate(performers)))
    explanation = make_split(items, held_out_fraction=0.2).explanation
    assert told in explanation
    assert ("Nothing of the test" in explanation) == bool(told)
