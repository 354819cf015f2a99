"""Hold recordings out fairly: by performer, else by recording, else as blocks 30 s apart; and say which."""

from __future__ import annotations

import difflib
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from talim.corpus.manifest import UNKNOWN
from talim.errors import TalimError, UsageError

STEPS = ("performer", "recording", "blocks")
GAP_SECONDS = 30.0
_TRAIN, _HELD_OUT = "train", "held_out"


@dataclass(frozen=True)
class Piece:
    """A clip as the split sees it: who plays, which recording, where in its file."""

    id: str
    recording: str
    performer: str  # several are divided by | or ;
    source_file: str
    start_seconds: float
    seconds: float


@dataclass(frozen=True)
class Split:
    """Which side each clip is on ("train" or "held_out"; clips of a gap are on none), and why."""

    step: str
    sides: dict[str, str]
    explanation: str
    relaxed: tuple[str, ...] = ()  # why stricter steps were not possible


class _Impossible(Exception):  # noqa: N818 - an answer, not an error
    """A step cannot give two usable sides; the message says why."""


def make_split(
    pieces: Sequence[Piece],
    *,
    share: float = 0.2,
    seed: int = 0,
    step: str = "auto",
    held_out: Sequence[str] = (),
) -> Split:
    """Divide clips so that nothing of a held-out group is trained on.

    The strictest possible step is taken (or `step`, or exactly the recordings named in `held_out`).
    Raises UsageError for an unknown name or an impossible wish, TalimError where nothing can be held out.
    """
    if held_out:
        return _by_name(pieces, held_out)
    makers: dict[str, Callable[[], Split]] = {
        "performer": lambda: _by_performer(pieces, share, seed),
        "recording": lambda: _by_recording(pieces, share, seed),
        "blocks": lambda: _by_blocks(pieces, share, seed),
    }
    if step not in ("auto", *STEPS):
        raise UsageError(f"unknown split {step!r}; choose one of: auto, {', '.join(STEPS)}")
    reasons: list[str] = []
    for name in STEPS if step == "auto" else (step,):
        try:
            made = makers[name]()
        except _Impossible as impossible:
            reasons.append(f"not by {name}: {impossible}")
            continue
        because = f" (Relaxed: {'; '.join(reasons)}.)" if reasons else ""
        return Split(name, made.sides, made.explanation + because, tuple(reasons))
    if step != "auto":
        raise UsageError(f"this split is impossible: {reasons[0]}; leave the choice to talim with split auto")
    raise TalimError(f"nothing can be held out to judge the training: {'; '.join(reasons)}; add a recording")


def performer_names(performer: str) -> tuple[str, ...]:
    """The single performers of a cell such as "A | B", compared without case; none where unknown."""
    if performer == UNKNOWN:
        return ()
    parts = unicodedata.normalize("NFC", performer).replace(";", "|").split("|")
    return tuple(dict.fromkeys(" ".join(part.split()).casefold() for part in parts if part.strip()))


def _by_performer(pieces: Sequence[Piece], share: float, seed: int) -> Split:
    if all(piece.performer == UNKNOWN for piece in pieces):
        raise _Impossible("no recording names its performer")
    groups = _performer_groups(pieces)
    chosen = _choose(groups, pieces, share, seed, "performer")
    sides = _sides(pieces, lambda piece: groups[piece.recording] in chosen)
    held = _names(pieces, sides)
    known = sorted(
        {piece.performer for piece in pieces if piece.recording in held and piece.performer != UNKNOWN}
    )
    who = f" ({', '.join(known)})" if known else ""
    text = (
        f"By performer: {_list(held)}{who} are held out, and nobody known to play there is heard in training."
    )
    return Split("performer", sides, text + _unknown_note(pieces))


def _by_recording(pieces: Sequence[Piece], share: float, seed: int) -> Split:
    groups = {piece.recording: piece.recording for piece in pieces}
    chosen = _choose(groups, pieces, share, seed, "recording")
    sides = _sides(pieces, lambda piece: piece.recording in chosen)
    held = _list(_names(pieces, sides))
    text = f"By recording: {held} are held out; their performers may be heard in training."
    return Split("recording", sides, text)


def _by_name(pieces: Sequence[Piece], held_out: Sequence[str]) -> Split:
    wanted = {_find_recording(name, pieces) for name in held_out}
    sides = _sides(pieces, lambda piece: piece.recording in wanted)
    if _TRAIN not in sides.values():
        raise UsageError("every recording is named as held out; leave at least one to train on")
    trained = {name for p in pieces if sides[p.id] == _TRAIN for name in performer_names(p.performer)}
    shared = sorted(
        {p.performer for p in pieces if p.recording in wanted and trained & {*performer_names(p.performer)}}
    )
    head = f"As asked: {_list(sorted(wanted))} held out"
    if shared:
        return Split(
            "recording", sides, f"{head}; by recording, since {_list(shared)} is heard in training too."
        )
    if all(piece.performer == UNKNOWN for piece in pieces):
        return Split("recording", sides, f"{head}; by recording, since no recording names its performer.")
    text = f"{head}; by performer, since nobody known to play there is heard in training."
    return Split("performer", sides, text + _unknown_note(pieces))


def _find_recording(name: str, pieces: Sequence[Piece]) -> str:
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


def _performer_groups(pieces: Sequence[Piece]) -> dict[str, str]:
    """Recording -> name of its group; recordings that share any performer are in one group."""
    leader: dict[str, str] = {}

    def find(node: str) -> str:
        while leader.setdefault(node, node) != node:
            node = leader[node]
        return node

    for piece in sorted(pieces, key=lambda piece: piece.id):
        for name in performer_names(piece.performer):
            one, other = sorted((find(f"recording {piece.recording}"), find(f"performer {name}")))
            leader[other] = one
    return {piece.recording: find(f"recording {piece.recording}") for piece in pieces}


def _choose(
    groups: Mapping[str, str], pieces: Sequence[Piece], share: float, seed: int, kind: str
) -> set[str]:
    """A seeded choice of groups that together hold about `share` of the music."""
    seconds: dict[str, float] = defaultdict(float)
    for piece in pieces:
        seconds[groups[piece.recording]] += piece.seconds
    total = sum(seconds.values())
    names = sorted(seconds)
    if len(names) < 2:
        raise _Impossible(
            f"there is only one {kind}" if kind == "recording" else "all recordings share a performer"
        )
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
        raise _Impossible(f"the smallest {kind} group holds {held / total:.0%} of the music")
    if held < 0.25 * share * total:
        raise _Impossible(f"all but one {kind} group together hold only {held / total:.1%} of the music")
    return chosen


def _by_blocks(pieces: Sequence[Piece], share: float, seed: int) -> Split:
    random = np.random.default_rng(seed)
    sides: dict[str, str] = {}
    divided, longest = [], 0.0
    for recording in sorted({piece.recording for piece in pieces}):
        spans = _timeline([piece for piece in pieces if piece.recording == recording])
        longest = max(longest, max(end for _, end, _ in spans))
        ends = ("end", "start") if random.integers(2) else ("start", "end")
        found = next((made for made in (_block(spans, share, end) for end in ends) if made), None)
        if found:
            divided.append(recording)
        sides |= found or {piece.id: _TRAIN for _, _, piece in spans}
    if not divided:
        raise _Impossible(
            f"the longest recording has {longest:.0f} s, a block needs {GAP_SECONDS:.0f} s of gap "
            f"and a clip of music on either side"
        )
    text = (
        f"By blocks: a stretch at the start or end of {_list(divided)} is held out, {GAP_SECONDS:.0f} s "
        f"next to it are left out. The same recording is trained on, so scores do not speak for new ones."
    )
    return Split("blocks", sides, text)


def _timeline(pieces: Iterable[Piece]) -> list[tuple[float, float, Piece]]:
    """(start, end, clip) in seconds of one recording; its files follow one another without a pause."""
    ordered = sorted(pieces, key=lambda piece: (piece.source_file, piece.start_seconds))
    spans: list[tuple[float, float, Piece]] = []
    offset, before = 0.0, ""
    for piece in ordered:
        if piece.source_file != before:
            offset, before = (spans[-1][1] - piece.start_seconds if spans else 0.0), piece.source_file
        start = offset + piece.start_seconds
        spans.append((start, start + piece.seconds, piece))
    return spans


def _block(spans: list[tuple[float, float, Piece]], share: float, end: str) -> dict[str, str] | None:
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


def _sides(pieces: Sequence[Piece], is_held_out: Callable[[Piece], bool]) -> dict[str, str]:
    return {piece.id: _HELD_OUT if is_held_out(piece) else _TRAIN for piece in pieces}


def _names(pieces: Sequence[Piece], sides: Mapping[str, str]) -> list[str]:
    return sorted({piece.recording for piece in pieces if sides.get(piece.id) == _HELD_OUT})


def _list(names: Sequence[str]) -> str:
    shown = ", ".join(names[:4])
    return f"{shown} and {len(names) - 4} more" if len(names) > 4 else shown


def _unknown_note(pieces: Sequence[Piece]) -> str:
    count = len({piece.recording for piece in pieces if piece.performer == UNKNOWN})
    if not count:
        return ""
    return (
        f" {count} recordings name no performer and count as a performer each: the same musician may be on "
        f"both sides; fill the performer column to be sure."
    )
