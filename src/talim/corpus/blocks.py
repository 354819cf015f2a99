"""Hold out stretches of recordings where whole ones cannot be: blocks with a gap of 30 s beside them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import numpy as np

from talim.corpus.groups import Clusters, Piece

GAP_SECONDS = 30.0
_TRAIN, _HELD_OUT = "train", "held_out"


def blocks(pieces: Sequence[Piece], share: float, seed: int) -> tuple[dict[str, str], list[str], float]:
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
        found = next((made for made in (_block(spans, share, end) for end in ends) if made), None)
        if found:
            divided.append(recording)
        sides |= found or {piece.id: _TRAIN for _, _, piece in spans}
    return sides, divided, longest


def without_twins(pieces: Sequence[Piece], twins: Sequence[tuple[str, str]]) -> list[Piece]:
    """The clips of one file, the longest, of each set of files with a common sound; and all other clips."""
    clusters, seconds = Clusters(), defaultdict[str, float](float)
    for one, other in twins:
        clusters.tie(one, other)
    for piece in pieces:
        seconds[piece.source_file] += piece.seconds
    longest: dict[str, str] = {}
    for name in sorted(seconds, key=lambda name: (-seconds[name], name)):
        longest.setdefault(clusters.find(name), name)
    return [piece for piece in pieces if longest[clusters.find(piece.source_file)] == piece.source_file]


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
