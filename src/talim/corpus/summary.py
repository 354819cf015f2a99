"""summary.json: what a corpus holds, who may use it, how it is split, and what was left out and why."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from talim.corpus.captions import Words
from talim.corpus.manifest import UNKNOWN, Clip
from talim.corpus.sources import Cutting, Work
from talim.corpus.split import Split, performer_names


def on_sides(clips: Sequence[Clip], division: Split) -> tuple[Clip, ...]:
    """The clips with their side of the split; those of a gap are on none and fall out."""
    sides = division.sides
    return tuple(clip.model_copy(update={"split": sides[clip.id]}) for clip in clips if clip.id in sides)


def summarise(
    found: Sequence[Clip],
    division: Split,
    seed: int,
    cutting: Cutting,
    words: Mapping[str, Words],
    work: Work,
    notes: Sequence[Mapping[str, str]],
    waiting: int,
) -> dict[str, Any]:
    """The facts of a corpus as plain JSON values; `waiting` recordings have no words yet."""
    clips = on_sides(found, division)
    gap = [clip for clip in found if clip.id not in division.sides]
    heard = [{"file": name, "note": note} for name, cut in sorted(work.cuts.items()) for note in cut.notes]
    known = {name for clip in clips for name in performer_names(clip.performer)}
    unknown = {clip.recording for clip in clips if clip.performer == UNKNOWN}
    return {
        **_amount(clips),
        "performers": len(known),
        "recordings_without_performer": len(unknown),
        "split": _split_facts(clips, gap, division, seed),
        "rights": {
            "licences": _recordings_by(clips, "licence"),
            "sources": _recordings_by(clips, "source"),
            "consent": _recordings_by(clips, "consent"),
        },
        "captions": dict(sorted(Counter(said.origin for said in words.values()).items())),
        "silence_skipped_seconds": round(sum(work.cuts[name].skipped_seconds for name in words), 1),
        "captions_to_write": {"file": "metadata.csv", "recordings": waiting} if waiting else None,
        "skipped": sorted(work.skipped, key=lambda row: row["file"]),
        "notes": [*notes, *heard],
        "clip_seconds": cutting.clip_seconds,
        "rate_hz": cutting.rate_hz,
        "channels": cutting.channels,
    }


def _split_facts(clips: Sequence[Clip], gap: Sequence[Clip], division: Split, seed: int) -> dict[str, Any]:
    held_out = [clip for clip in clips if clip.split == "held_out"]
    return {
        "step": division.step,
        "seed": seed,
        "explanation": division.explanation,
        "relaxed": list(division.relaxed),
        "train": _amount([clip for clip in clips if clip.split == "train"]),
        "held_out": _amount(held_out),
        "held_out_recordings": sorted({clip.recording for clip in held_out}),
        "gap": _amount(gap),
    }


def _amount(clips: Sequence[Clip]) -> dict[str, Any]:
    return {
        "clips": len(clips),
        "seconds": round(sum(clip.seconds for clip in clips), 2),
        "recordings": len({clip.recording for clip in clips}),
    }


def _recordings_by(clips: Sequence[Clip], column: str) -> dict[str, int]:
    """How many recordings have each value of a column."""
    pairs = {(clip.recording, str(getattr(clip, column))) for clip in clips}
    return dict(sorted(Counter(value for _, value in pairs).items()))
