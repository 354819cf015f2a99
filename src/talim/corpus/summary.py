"""summary.json: what a corpus holds, who may use it, how it is split, and what was left out and why."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from talim.corpus.captions import RecordingMetadata
from talim.corpus.manifest import UNKNOWN, Clip
from talim.corpus.near_duplicates import NearDuplicate
from talim.corpus.recordings import ImportResult
from talim.corpus.segment import PrepareStats, SegmentationConfig
from talim.corpus.split import Split
from talim.corpus.split_groups import SplitItem, performer_names, split_leakage


def with_split(clips: Sequence[Clip], division: Split) -> tuple[Clip, ...]:
    """The clips with their side of the split; those of a gap are on none and fall out."""
    sides = division.sides
    return tuple(clip.model_copy(update={"split": sides[clip.id]}) for clip in clips if clip.id in sides)


def summarize(
    found: Sequence[Clip],
    division: Split,
    seed: int,
    cutting: SegmentationConfig,
    words: Mapping[str, RecordingMetadata],
    work: PrepareStats,
    source: ImportResult,
    waiting: int,
    twins: Sequence[NearDuplicate],
    by_chance: Mapping[str, float] | None,
) -> dict[str, Any]:
    """The facts of a corpus as plain JSON values; `waiting` recordings have no words yet."""
    clips = with_split(found, division)
    gap = [clip for clip in found if clip.id not in division.sides]
    heard = [{"file": name, "note": note} for name, cut in sorted(work.cuts.items()) for note in cut.notes]
    known = {name for clip in clips for name in performer_names(clip.performer)}
    unknown = {clip.recording for clip in clips if clip.performer == UNKNOWN}
    ours = split_leakage(
        [split_item(clip) for clip in clips], division.sides, [(t.first, t.second) for t in twins]
    )
    return {
        "kind": source.kind,
        **_amount(clips),
        "performers": len(known),
        "recordings_without_performer": len(unknown),
        "split": _split_facts(clips, gap, division, seed)
        | {"leak": ours, "leak_of_a_plain_split": dict(by_chance) if by_chance else None},
        "rights": {
            "licences": _recordings_by(clips, "licence"),
            "sources": _recordings_by(clips, "source"),
            "consent": _recordings_by(clips, "consent"),
        },
        "labels": {name: _seconds_by(clips, name) for name in ("tradition", "mode", "cycle", "instruments")},
        **_beat_chord_coverage(clips),
        "captions": dict(sorted(Counter(said.origin for said in words.values()).items())),
        "silence_skipped_seconds": round(sum(work.cuts[name].skipped_seconds for name in words), 1),
        "captions_to_write": {"file": "metadata.csv", "recordings": waiting} if waiting else None,
        "near_duplicates": [asdict(pair) for pair in twins],
        "recordings_as_found": [_levels(name, work) for name in words],
        "skipped": sorted(work.skipped, key=lambda row: row["file"]),
        "notes": [*source.notes, *heard],
        "clip_seconds": cutting.clip_seconds,
        "rate_hz": cutting.rate_hz,
        "channels": cutting.channels,
    }


def split_item(clip: Clip) -> SplitItem:
    """What the split needs to know; ids of MusicBrainz tell releases and works apart better than titles."""
    return SplitItem(
        clip.id,
        clip.recording,
        clip.performer,
        clip.source_file,
        clip.start_seconds,
        clip.seconds,
        release=clip.extra.get("release_mbid", clip.release),
        work=clip.extra.get("work_mbid", clip.work),
        lead=clip.extra.get("lead_performer", UNKNOWN),
    )


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


def _levels(name: str, work: PrepareStats) -> dict[str, Any]:
    levels = work.cuts[name].levels
    return {"file": name, **(levels.model_dump() if levels else {})}


def _seconds_by(clips: Sequence[Clip], column: str) -> dict[str, float]:
    """Seconds of music by the single values of a column, the most first."""
    seconds: dict[str, float] = defaultdict(float)
    for clip in clips:
        for value in str(getattr(clip, column)).split(" | "):
            seconds[value] += clip.seconds
    ordered = sorted(seconds.items(), key=lambda item: (-item[1], item[0]))
    return {value: round(total, 1) for value, total in ordered}


def _beat_chord_coverage(clips: Sequence[Clip]) -> dict[str, Any]:
    """How many clips have beats and chords; nothing where none has."""
    counts = {name: sum(bool(getattr(clip, name)) for clip in clips) for name in ("beats", "chords")}
    return {"clips_with_music": counts} if any(counts.values()) else {}


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
