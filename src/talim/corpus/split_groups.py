"""What ties recordings together (performers, releases, works, shared sound), and how much of it leaks."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from talim.corpus.manifest import UNKNOWN

GROUPING_KEYS = ("performer", "release", "work")


@dataclass(frozen=True)
class SplitItem:
    """A clip as the split sees it: who plays, from which release and work, where in its file."""

    id: str
    recording: str
    performer: str  # several are divided by | or ;
    source_file: str
    start_seconds: float
    seconds: float
    release: str = UNKNOWN
    work: str = UNKNOWN
    lead: str = UNKNOWN  # the soloist, where the source tells one from the accompanists


def performer_names(performer: str) -> tuple[str, ...]:
    """The single performers of a cell such as "A | B", compared without case; none where unknown."""
    if performer == UNKNOWN:
        return ()
    parts = unicodedata.normalize("NFC", performer).replace(";", "|").split("|")
    return tuple(dict.fromkeys(" ".join(part.split()).casefold() for part in parts if part.strip()))


GROUPING_FUNCTIONS: dict[str, Callable[[SplitItem], tuple[str, ...]]] = {
    "performer": lambda piece: performer_names(piece.performer),
    "lead": lambda piece: performer_names(piece.lead),
    "release": lambda piece: performer_names(piece.release),
    "work": lambda piece: performer_names(piece.work),
}


class SplitGroups:
    """Union-find over names: what was ever tied together has one leader, the first name in order."""

    def __init__(self) -> None:
        self._leader: dict[str, str] = {}

    def find(self, name: str) -> str:
        """The leader of a name's cluster."""
        path = []
        while self._leader.setdefault(name, name) != name:
            path.append(name)
            name = self._leader[name]
        for passed in path:
            self._leader[passed] = name
        return name

    def union(self, one: str, other: str) -> None:
        """Make one cluster of two."""
        first, second = sorted((self.find(one), self.find(other)))
        self._leader[second] = first


def assign_groups(
    pieces: Sequence[SplitItem], ties: Iterable[str], twins: Iterable[tuple[str, str]]
) -> dict[str, str]:
    """Recording -> name of its group: recordings tied by any of `ties`, directly or through others, share one.

    `twins` are pairs of source files with a common stretch of sound.
    """
    clusters = SplitGroups()
    for piece in sorted(pieces, key=lambda piece: piece.id):
        for kind in ties:
            for name in GROUPING_FUNCTIONS[kind](piece):
                clusters.union(f"recording {piece.recording}", f"{kind} {name}")
    recording_of = {piece.source_file: piece.recording for piece in pieces}
    for one, other in twins:
        if one in recording_of and other in recording_of:
            clusters.union(f"recording {recording_of[one]}", f"recording {recording_of[other]}")
    return {piece.recording: clusters.find(f"recording {piece.recording}") for piece in pieces}


def split_leakage(
    pieces: Sequence[SplitItem], sides: Mapping[str, str], twins: Sequence[tuple[str, str]] = ()
) -> dict[str, float]:
    """Share of held-out recordings, 0..1, of which a performer, release, work or twin is in training too.

    "any" counts a recording with at least one of them once; what is unknown counts as not shared.
    """
    held: dict[str, list[SplitItem]] = defaultdict(list)
    for piece in pieces:
        if sides.get(piece.id) == "held_out":
            held[piece.recording].append(piece)
    train = [piece for piece in pieces if sides.get(piece.id) == "train"]
    shared: dict[str, set[str]] = {}
    for kind in GROUPING_KEYS:
        heard = {name for piece in train for name in GROUPING_FUNCTIONS[kind](piece)}
        shared[kind] = {
            name
            for name, own in held.items()
            if any(heard & {*GROUPING_FUNCTIONS[kind](piece)} for piece in own)
        }
    files = {piece.source_file for piece in train}
    exposed = {one for pair in twins for one, other in (pair, pair[::-1]) if other in files}
    shared["twin"] = {
        name for name, own in held.items() if any(piece.source_file in exposed for piece in own)
    }
    shared["any"] = set().union(*shared.values())
    return {kind: round(len(names) / max(1, len(held)), 4) for kind, names in shared.items()}
