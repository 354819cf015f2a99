"""The split: no leak between the sides, whatever the groups; every step says its name and reason."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.corpus.split import GAP_SECONDS, Split, make_split
from talim.corpus.split_groups import SplitItem, performer_names
from talim.errors import TalimError, UsageError


def recording(
    name: str, performer: str = "unknown", seconds: float = 60.0, file: str = "", clip: float = 10.0
) -> list[SplitItem]:
    file = file or f"{name}.wav"
    count = int(seconds // clip)
    return [SplitItem(f"{file}-{i}", name, performer, file, i * clip, clip) for i in range(count)]


def pieces_of(*recordings: list[SplitItem]) -> list[SplitItem]:
    return [piece for pieces in recordings for piece in pieces]


def names(pieces: list[SplitItem], split: Split, side: str) -> set[str]:
    return {piece.recording for piece in pieces if split.sides.get(piece.id) == side}


def check_no_leak(pieces: list[SplitItem], split: Split) -> None:
    train = [piece for piece in pieces if split.sides.get(piece.id) == "train"]
    held = [piece for piece in pieces if split.sides.get(piece.id) == "held_out"]
    assert train
    assert held
    if split.step in ("performer", "recording"):
        assert not {p.recording for p in train} & {p.recording for p in held}
        assert len(split.sides) == len(pieces)
    if split.step == "performer":
        heard = {name for piece in train for name in performer_names(piece.performer)}
        assert not heard & {name for piece in held for name in performer_names(piece.performer)}
    if split.step == "blocks":
        for one in held:
            for other in train:
                if one.source_file == other.source_file:
                    first, second = sorted((one, other), key=lambda piece: piece.start_seconds)
                    pause = second.start_seconds - first.start_seconds - first.seconds
                    assert pause >= GAP_SECONDS - 1e-9


groups = st.lists(
    st.tuples(
        st.sampled_from(["a", "b", "c", "a | b", "C; d", "unknown"]),
        st.floats(10, 400),
        st.integers(0, 8),
    ),
    min_size=1,
    max_size=12,
)


@settings(max_examples=200)
@given(groups, st.integers(0, 5), st.floats(0.05, 0.5), st.sampled_from(["auto", "recording", "blocks"]))
def test_nothing_leaks_whatever_is_recorded(
    found: list[tuple[str, float, int]], seed: int, share: float, step: str
) -> None:
    pieces = pieces_of(
        *(recording(f"r{n}", performer, s, f"f{i}.wav") for i, (performer, s, n) in enumerate(found))
    )
    try:
        split = make_split(pieces, share=share, seed=seed, step=step)
    except TalimError:
        return  # what is said then is tested below
    check_no_leak(pieces, split)
    assert split == make_split(pieces[::-1], share=share, seed=seed, step=step)


def test_by_performer_where_there_are_several() -> None:
    pieces = pieces_of(*(recording(f"r{i}", f"p{i // 2}") for i in range(10)))
    split = make_split(pieces)
    check_no_leak(pieces, split)
    assert split.step == "performer"
    assert len(names(pieces, split, "held_out")) == 2  # one of five performers is 20 %
    assert split.relaxed == ()
    assert "count as a performer each" not in split.explanation


def test_the_seed_chooses() -> None:
    pieces = pieces_of(*(recording(f"r{i}", f"p{i}") for i in range(10)))
    chosen = {frozenset(names(pieces, make_split(pieces, seed=seed), "held_out")) for seed in range(8)}
    assert len(chosen) > 3


def test_spelling_and_company_do_not_hide_a_performer() -> None:
    pieces = pieces_of(
        recording("r1", "Ali Akbar"), recording("r2", "ali  akbar | Zakir"), recording("r3", "ZAKIR")
    )
    split = make_split(pieces)
    assert split.step == "recording"
    assert "all recordings are tied to one another by performer" in split.relaxed[0]


def test_one_performer_relaxes_to_recordings_and_says_so() -> None:
    pieces = pieces_of(*(recording(f"r{i}", "Solo") for i in range(5)))
    split = make_split(pieces)
    check_no_leak(pieces, split)
    assert split.step == "recording"
    assert "Relaxed: not by performer" in split.explanation
    assert "performers may be heard in training" in split.explanation


def test_unknown_performers_are_said() -> None:
    known = pieces_of(recording("a", "P"), *(recording(f"u{i}") for i in range(3)))
    split = make_split(known)
    assert split.step == "performer"
    assert "3 recordings name no performer" in split.explanation
    nobody = pieces_of(*(recording(f"u{i}") for i in range(4)))
    split = make_split(nobody)
    assert split.step == "recording"
    assert "no recording names its performer" in split.explanation


def test_a_dominating_performer_is_trained_on_and_never_held_out() -> None:
    pieces = pieces_of(recording("big", "A", 3000), recording("small", "B", 300), recording("tiny", "C", 300))
    split = make_split(pieces)
    assert split.step == "performer"
    assert names(pieces, split, "train") >= {"big"}


def test_too_little_besides_one_performer_relaxes() -> None:
    pieces = pieces_of(*(recording(f"a{i}", "A", 1000) for i in range(5)), recording("b", "B", 20))
    split = make_split(pieces)
    assert split.step == "recording"
    assert "together hold only" in split.relaxed[0]


def test_one_recording_gives_blocks() -> None:
    pieces = recording("long", "A", 300)
    split = make_split(pieces)
    check_no_leak(pieces, split)
    assert split.step == "blocks"
    held = sum(side == "held_out" for side in split.sides.values())
    assert held == 6  # 20 % of 30 clips
    assert len(pieces) - len(split.sides) == 3  # the gap of 30 s
    assert "30 s" in split.explanation
    starts = {
        min(p.start_seconds for p in pieces if make_split(pieces, seed=s).sides.get(p.id) == "held_out")
        for s in range(8)
    }
    assert starts == {0.0, 240.0}


def test_files_of_one_recording_are_one_stretch_of_time() -> None:
    pieces = [*recording("long", "A", 100, "part1.wav"), *recording("long", "A", 100, "part2.wav")]
    split = make_split(pieces)
    assert split.step == "blocks"
    held = [piece for piece in pieces if split.sides.get(piece.id) == "held_out"]
    assert len({piece.source_file for piece in held}) == 1
    assert len(pieces) - len(split.sides) >= 3


@pytest.mark.parametrize("seconds", [20.0, 40.0])
def test_nothing_can_be_held_out_of_one_short_recording(seconds: float) -> None:
    with pytest.raises(TalimError, match=f"longest recording has {seconds:.0f} s.*add a recording"):
        make_split(recording("short", "A", seconds))


def test_the_shortest_recording_that_has_room_for_blocks() -> None:
    pieces = recording("short", "A", 50)
    split = make_split(pieces)
    check_no_leak(pieces, split)


def test_a_forced_step_that_is_impossible_says_why() -> None:
    with pytest.raises(UsageError, match="there is only one recording"):
        make_split(recording("one", "A", 300), step="recording")
    with pytest.raises(UsageError, match="auto, performer, lead, release, recording, blocks"):
        make_split(recording("one"), step="random")


def test_named_recordings_are_held_out() -> None:
    pieces = pieces_of(*(recording(f"r{i}", "A" if i < 2 else f"p{i}") for i in range(4)))
    split = make_split(pieces, held_out=("r2",))
    assert (split.step, names(pieces, split, "held_out")) == ("performer", {"r2"})
    split = make_split(pieces, held_out=("R0.wav",))
    assert (split.step, names(pieces, split, "held_out")) == ("recording", {"r0"})
    assert "A is heard in training too" in split.explanation
    check_no_leak(pieces, split)


def test_named_recordings_that_make_no_sense() -> None:
    pieces = pieces_of(recording("yaman"), recording("bhairav"))
    with pytest.raises(UsageError, match=r"'yamann' is no usable recording here; did you mean: yaman"):
        make_split(pieces, held_out=("yamann",))
    with pytest.raises(UsageError, match="at least one to train on"):
        make_split(pieces, held_out=("yaman", "bhairav"))


@pytest.mark.parametrize(
    ("cell", "expected"),
    [("A | b", ("a", "b")), ("A;A", ("a",)), ("unknown", ()), (" Ṣafiye  Ayla ", ("ṣafiye ayla",))],
)
def test_performer_names(cell: str, expected: tuple[str, ...]) -> None:
    assert performer_names(cell) == expected
