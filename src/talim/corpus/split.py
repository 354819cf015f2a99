"""Hold recordings out fairly: nothing known shared, else less strictly, else blocks 30 s apart; and say which."""

from __future__ import annotations

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from talim.corpus.manifest import UNKNOWN
from talim.corpus.split_groups import (
    GROUPING_FUNCTIONS,
    SplitGroups,
    SplitItem,
    assign_groups,
    performer_names,
    split_leakage,
)
from talim.errors import TalimError, UsageError

GAP_SECONDS = 30.0


def contiguous_blocks(
    pieces: Sequence[SplitItem], share: float, seed: int
) -> tuple[dict[str, str], list[str], float]:
    """Sides by clip, a block at one end of each recording held out; which recordings could be divided; and
    the length of the longest in seconds. Clips of a gap are on no side.
    """
    random = np.random.default_rng(seed)
    sides: dict[str, str] = {}
    divided, longest = [], 0.0
    for recording in sorted({piece.recording for piece in pieces}):
        spans = _timeline([piece for piece in pieces if piece.recording == recording])
        longest = max(longest, max(end for _, end, _ in spans))
        ends = ("end", "start") if random.integers(2) else ("start", "end")
        found = next((made for made in (_held_out_block(spans, share, end) for end in ends) if made), None)
        if found:
            divided.append(recording)
        sides |= found or {piece.id: _TRAIN for _, _, piece in spans}
    return sides, divided, longest


def drop_duplicates(pieces: Sequence[SplitItem], twins: Sequence[tuple[str, str]]) -> list[SplitItem]:
    """The clips of one file, the longest, of each set of files with a common sound; and all other clips."""
    clusters, seconds = SplitGroups(), defaultdict[str, float](float)
    for one, other in twins:
        clusters.union(one, other)
    for piece in pieces:
        seconds[piece.source_file] += piece.seconds
    longest: dict[str, str] = {}
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        longest.setdefault(clusters.find(name), name)
    return [piece for piece in pieces if longest[clusters.find(piece.source_file)] == piece.source_file]


def _timeline(pieces: Iterable[SplitItem]) -> list[tuple[float, float, SplitItem]]:
    """(start, end, clip) in seconds of one recording; its files follow one another without a pause."""
    ordered = sorted(pieces, key=lambda piece: (piece.source_file, piece.start_seconds))
    spans: list[tuple[float, float, SplitItem]] = []
    offset, before = 0.0, ""
    for piece in ordered:
        if piece.source_file != before:
            offset, before = (spans[-1][1] - piece.start_seconds if spans else 0.0), piece.source_file
        start = offset + piece.start_seconds
        spans.append((start, start + piece.seconds, piece))
    return spans


def _held_out_block(
    spans: list[tuple[float, float, SplitItem]], share: float, end: str
) -> dict[str, str] | None:
    """Sides of one recording's clips, a block at its start or end held out; None where it is too short."""
    ordered = spans if end == "start" else spans[::-1]
    total = sum(piece.seconds for _, _, piece in spans)
    count, held = 0, 0.0
    while count < len(ordered) and held < share * total:
        held += ordered[count][2].seconds
        count += 1
    while count:
        block, rest = ordered[:count], ordered[count:]
        low, high = min(start for start, _, _ in block), max(stop for _, stop, _ in block)
        kept = [
            piece for start, stop, piece in rest if start >= high + GAP_SECONDS or stop <= low - GAP_SECONDS
        ]
        if sum(piece.seconds for piece in kept) >= sum(piece.seconds for _, _, piece in block):
            return {piece.id: _HELD_OUT for _, _, piece in block} | {piece.id: _TRAIN for piece in kept}
        count -= 1
    return None


SPLIT_LEVELS = ("performer", "lead", "release", "recording", "blocks")  # from strict to relaxed

SPLIT_GROUPING_KEYS = {
    "performer": ("performer", "release", "work"),
    "lead": ("lead", "release", "work"),
    "release": ("release", "work"),
    "recording": (),
}

_TRAIN, _HELD_OUT = "train", "held_out"

_NUM_RANDOM_SPLITS = 20

_GUARANTEES = {
    "performer": "nothing known to be shared with them (performer, release, work) is heard in training",
    "lead": "their soloists, releases and works are not heard in training; accompanists may be",
    "release": "their releases and works are not heard in training; their performers may be",
    "recording": "their performers may be heard in training",
}

DuplicatePairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Split:
    """Which side each clip is on ("train" or "held_out"; clips of a gap are on none), and why."""

    step: str
    sides: dict[str, str]
    explanation: str
    relaxed: tuple[str, ...] = ()  # why stricter steps were not possible


class _InfeasibleSplit(Exception):  # noqa: N818 - an answer, not an error
    """A step cannot give two usable sides; the message says why."""


def make_split(
    pieces: Sequence[SplitItem],
    *,
    share: float = 0.2,
    seed: int = 0,
    step: str = "auto",
    held_out: Sequence[str] = (),
    twins: DuplicatePairs = (),
) -> Split:
    """Divide clips so that nothing of a held-out group is trained on; twins (files) stay on one side.

    The strictest possible step is taken (or `step`, or exactly the recordings named in `held_out`).
    Raises UsageError for an unknown name or an impossible wish, TalimError where nothing can be held out.
    """
    if held_out:
        return _split_by_name(pieces, held_out, twins)
    if step not in ("auto", *SPLIT_LEVELS):
        raise UsageError(f"unknown split {step!r}; choose one of: auto, {', '.join(SPLIT_LEVELS)}")
    reasons: list[str] = []
    for name in _steps(pieces) if step == "auto" else (step,):
        try:
            if name == "blocks":
                made = _split_by_blocks(pieces, share, seed, twins)
            else:
                made = _split_by_groups(name, pieces, share, seed, twins)
        except _InfeasibleSplit as impossible:
            reasons.append(f"not by {name}: {impossible}")
            continue
        because = f" (Relaxed: {'; '.join(reasons)}.)" if reasons else ""
        return Split(name, made.sides, made.explanation + because, tuple(reasons))
    if step != "auto":
        raise UsageError(f"this split is impossible: {reasons[0]}; leave the choice to talim with split auto")
    raise TalimError(f"nothing can be held out to judge the training: {'; '.join(reasons)}; add a recording")


def random_split_leakage(
    pieces: Sequence[SplitItem], share: float, seed: int, twins: DuplicatePairs
) -> dict[str, float] | None:
    """What would leak if recordings were held out at random: the mean over 20 seeds; None where impossible."""
    alone = {piece.recording: piece.recording for piece in pieces}
    found: list[dict[str, float]] = []
    for number in range(_NUM_RANDOM_SPLITS):
        try:
            chosen = _draw_held_out_groups(alone, pieces, share, seed + number, "recording")
        except _InfeasibleSplit:
            return None
        found.append(
            split_leakage(pieces, _sides(pieces, lambda piece, out=chosen: piece.recording in out), twins)
        )
    return {kind: round(sum(one[kind] for one in found) / len(found), 4) for kind in found[0]}


def _steps(pieces: Sequence[SplitItem]) -> list[str]:
    """The steps worth trying: one that ties by what nobody has told is the same as the next."""
    told = {kind for kind in GROUPING_FUNCTIONS if any(GROUPING_FUNCTIONS[kind](piece) for piece in pieces)}
    return [
        name
        for name in SPLIT_LEVELS
        if name in ("performer", "recording", "blocks")
        or (name == "lead" and "lead" in told)
        or (name == "release" and told & {"release", "work"})
    ]


def _split_by_groups(
    step: str, pieces: Sequence[SplitItem], share: float, seed: int, twins: DuplicatePairs
) -> Split:
    needed = SPLIT_GROUPING_KEYS[step] if step == "release" else SPLIT_GROUPING_KEYS[step][:1]
    if needed and not any(GROUPING_FUNCTIONS[kind](piece) for kind in needed for piece in pieces):
        told = {"performer": "its performer", "lead": "its soloist", "release": "its release"}[step]
        raise _InfeasibleSplit(f"no recording names {told}")
    groups = assign_groups(pieces, SPLIT_GROUPING_KEYS[step], twins)
    chosen = _draw_held_out_groups(groups, pieces, share, seed, step)
    sides = _sides(pieces, lambda piece: groups[piece.recording] in chosen)
    held = _names(pieces, sides)
    who = ""
    if step == "performer":
        known = {piece.performer for piece in pieces if piece.recording in held} - {UNKNOWN}
        who = f" ({_list(sorted(known))})" if known else ""
    text = f"By {step}: {_list(held)}{who} are held out; {_GUARANTEES[step]}."
    return Split(step, sides, text + (_unknown_note(pieces) if step == "performer" else ""))


def _split_by_name(pieces: Sequence[SplitItem], held_out: Sequence[str], twins: DuplicatePairs) -> Split:
    named = {_find_recording(name, pieces) for name in held_out}
    groups = assign_groups(pieces, (), twins)
    along = {groups[name] for name in named}
    wanted = {piece.recording for piece in pieces if groups[piece.recording] in along}
    sides = _sides(pieces, lambda piece: piece.recording in wanted)
    if _TRAIN not in sides.values():
        raise UsageError("every recording is named as held out; leave at least one to train on")
    trained = {name for p in pieces if sides[p.id] == _TRAIN for name in performer_names(p.performer)}
    shared = sorted(
        {p.performer for p in pieces if p.recording in wanted and trained & {*performer_names(p.performer)}}
    )
    head = f"As asked: {_list(sorted(named))} held out"
    if wanted - named:
        head += f", and {_list(sorted(wanted - named))}, which holds the same sound"
    if shared:
        return Split(
            "recording", sides, f"{head}; by recording, since {_list(shared)} is heard in training too."
        )
    if all(piece.performer == UNKNOWN for piece in pieces):
        return Split("recording", sides, f"{head}; by recording, since no recording names its performer.")
    text = f"{head}; by performer, since nobody known to play there is heard in training."
    return Split("performer", sides, text + _unknown_note(pieces))


def _find_recording(name: str, pieces: Sequence[SplitItem]) -> str:
    plain = unicodedata.normalize("NFC", name).casefold()
    recordings = sorted({piece.recording for piece in pieces})
    for recording in recordings:
        if recording.casefold() == plain:
            return recording
    of_file: dict[str, set[str]] = defaultdict(set)
    for piece in pieces:
        file = piece.source_file.casefold()
        for spelling in (
            file,
            file.rpartition(".")[0],
            file.rpartition("/")[2],
            file.rpartition("/")[2].rpartition(".")[0],
        ):
            of_file[spelling].add(piece.recording)
    if len(of_file[plain]) == 1:
        return of_file[plain].pop()
    near = difflib.get_close_matches(name, recordings, 3, 0.3) or recordings[:5]
    what = "names several recordings" if of_file[plain] else "is no usable recording here"
    raise UsageError(f"held-out {name!r} {what}; did you mean: {', '.join(near)}?")


def _draw_held_out_groups(
    groups: Mapping[str, str], pieces: Sequence[SplitItem], share: float, seed: int, kind: str
) -> set[str]:
    """A seeded choice of groups that together hold about `share` of the music."""
    seconds: dict[str, float] = defaultdict(float)
    for piece in pieces:
        seconds[groups[piece.recording]] += piece.seconds
    total = sum(seconds.values())
    names = sorted(seconds)
    if len(names) < 2:
        single = len({piece.recording for piece in pieces}) == 1
        tied = f"all recordings are tied to one another by {_describe_grouping(kind)}"
        raise _InfeasibleSplit("there is only one recording" if single else tied)
    order = [names[i] for i in np.random.default_rng(seed).permutation(len(names))]
    chosen: set[str] = set()
    held = 0.0
    for name in order:
        if held + seconds[name] <= 1.25 * share * total:
            chosen.add(name)
            held += seconds[name]
    if not chosen:
        smallest = min(order, key=lambda name: seconds[name])
        chosen, held = {smallest}, seconds[smallest]
    if held > 0.5 * total + 1e-6:
        raise _InfeasibleSplit(f"the smallest {kind} group holds {held / total:.0%} of the music")
    if held < 0.25 * share * total:
        raise _InfeasibleSplit(f"all but one {kind} group together hold only {held / total:.1%} of the music")
    return chosen


def _describe_grouping(step: str) -> str:
    return (
        " or ".join([", ".join(SPLIT_GROUPING_KEYS[step][:-1]), SPLIT_GROUPING_KEYS[step][-1]])
        if SPLIT_GROUPING_KEYS[step]
        else "the same sound"
    )


def _split_by_blocks(pieces: Sequence[SplitItem], share: float, seed: int, twins: DuplicatePairs) -> Split:
    kept = drop_duplicates(pieces, twins)
    sides, divided, longest = contiguous_blocks(kept, share, seed)
    if not divided:
        raise _InfeasibleSplit(
            f"the longest recording has {longest:.0f} s, a block needs {GAP_SECONDS:.0f} s of gap "
            f"and a clip of music on either side"
        )
    text = (
        f"By blocks: a stretch at the start or end of {_list(divided)} is held out, {GAP_SECONDS:.0f} s "
        f"next to it are left out. The same recording is trained on, so scores do not speak for new ones."
    )
    if copies := len({piece.source_file for piece in pieces} - {piece.source_file for piece in kept}):
        text += f" {copies} files that hold the same sound as another are left out."
    return Split("blocks", sides, text)


def _sides(pieces: Sequence[SplitItem], is_held_out: Callable[[SplitItem], bool]) -> dict[str, str]:
    return {piece.id: _HELD_OUT if is_held_out(piece) else _TRAIN for piece in pieces}


def _names(pieces: Sequence[SplitItem], sides: Mapping[str, str]) -> list[str]:
    return sorted({piece.recording for piece in pieces if sides.get(piece.id) == _HELD_OUT})


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _unknown_note(pieces: Sequence[SplitItem]) -> str:
    count = len({piece.recording for piece in pieces if piece.performer == UNKNOWN})
    if not count:
        return ""
    return (
        f" {count} recordings name no performer and count as a performer each: the same musician may be on "
        f"both sides; fill the performer column to be sure."
    )
