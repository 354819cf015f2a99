"""summary.json: what a corpus contains, its rights, its split, and what was skipped with the reasons."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from talim.corpus.attribution import rights_of
from talim.corpus.captions import RecordingMetadata
from talim.corpus.generated_recordings import COLUMN
from talim.corpus.manifest import FORMAT_VERSION, UNKNOWN, Clip
from talim.corpus.near_duplicates import NearDuplicate
from talim.corpus.recordings import ImportResult
from talim.corpus.segment import PrepareStats, SegmentationConfig
from talim.corpus.split import Split
from talim.corpus.split_groups import SplitItem, performer_names, split_leakage
from talim.html.formatting import format_counted

_MAX_NAMES = 5  # in one line


def with_split(clips: Sequence[Clip], split: Split) -> tuple[Clip, ...]:
    """The clips with their side of the split; clips of a gap, which have none, are dropped."""
    sides = split.sides
    return tuple(clip.model_copy(update={"split": sides[clip.id]}) for clip in clips if clip.id in sides)


def summarize(  # noqa: PLR0913
    clips: Sequence[Clip],
    split: Split,
    seed: int,
    config: SegmentationConfig,
    metadata: Mapping[str, RecordingMetadata],
    stats: PrepareStats,
    imported: ImportResult,
    *,
    near_duplicates: Sequence[NearDuplicate],
    random_leakage: Mapping[str, float | None] | None,
    caption_table: str,
) -> dict[str, Any]:
    """The summary as plain JSON values; `clips` are all clips, `caption_table` is where missing captions belong."""
    used = with_split(clips, split)
    gap = [clip for clip in clips if clip.id not in split.sides]
    sides = {side: [clip for clip in used if clip.split == side] for side in ("train", "validation", "held_out")}
    notes = [
        {"file": name, "note": note} for name, segmented in sorted(stats.segmented.items()) for note in segmented.notes
    ]
    notes += [{"file": name, "note": note} for name, recording in metadata.items() for note in recording.notes]
    pairs = [(pair.first, pair.second) for pair in near_duplicates]
    without_caption = sorted(name for name, recording in metadata.items() if recording.origin == "none")
    trained_files = {clip.source_file for clip in sides["train"]}
    trained = [name for name in without_caption if name in trained_files]
    kept_out = [name for name in without_caption if name not in trained_files]
    missing = {"file": caption_table, "recordings": len(trained), "names": trained, "kept_out": kept_out}
    levels = {name: stats.segmented[name].levels for name in metadata}
    beats_chords = {name: sum(bool(getattr(clip, name)) for clip in used) for name in ("beats", "chords")}
    return {
        "format_version": FORMAT_VERSION,
        "source_format": imported.format,
        "source_name": Path(imported.source).resolve().name,
        **_amount(used),
        "performers": len({name for clip in used for name in performer_names(clip.performer)}),
        "recordings_without_performer": len({clip.sound_group for clip in used if clip.performer == UNKNOWN}),
        "split": {
            "strategy": split.strategy,
            "seed": seed,
            "explanation": split.explanation,
            "relaxed": list(split.relaxed),
            **{side: _amount(those) for side, those in sides.items()},
            "validation_from": split.validation_from,
            "validation_note": split.validation_note,
            "validation_recordings": sorted({clip.recording for clip in sides["validation"]}),
            "held_out_recordings": sorted({clip.recording for clip in sides["held_out"]}),
            "gap": _amount(gap),
            "leakage": split_leakage([split_item(clip) for clip in used], split.sides, pairs),
            "random_split_leakage": dict(random_leakage) if random_leakage else None,
        },
        "rights": rights_of(used),
        "labels": {name: _seconds_by(used, name) for name in ("tradition", "mode", "cycle", "instruments")},
        **({"clips_with_beats_or_chords": beats_chords} if any(beats_chords.values()) else {}),
        "example_caption": _example_caption(used),
        "captions": dict(sorted(Counter(recording.origin for recording in metadata.values()).items())),
        "silence_skipped_seconds": round(sum(stats.segmented[name].silence_skipped_seconds for name in metadata), 1),
        "missing_captions": missing if without_caption else None,
        "near_duplicates": [asdict(pair) for pair in near_duplicates],
        "source_levels": [{"file": name, **(level.model_dump() if level else {})} for name, level in levels.items()],
        **_generated(used, stats),
        "skipped": sorted(stats.skipped, key=lambda row: row["file"]),
        "notes": [*imported.notes, *notes],
        **asdict(config),
    }


def split_item(clip: Clip) -> SplitItem:
    """A clip for the split; MusicBrainz ids distinguish releases and works better than titles."""
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


def _generated(clips: Sequence[Clip], stats: PrepareStats) -> dict[str, Any]:
    """AI-generated files: how many are left out, and which are used on purpose; nothing where there are none."""
    used = sorted({clip.recording for clip in clips if clip.ai_generated})
    held_out = len({clip.recording for clip in clips if clip.ai_generated and clip.split == "held_out"})
    left_out = sum(COLUMN in row for row in stats.skipped)
    facts = {"left_out": left_out, "used": used, "held_out": held_out}
    return {"ai_generated": facts} if used or left_out else {}


def caption_table_path(missing: Mapping[str, Any], out: Path) -> str:
    """Where missing captions belong: in the recordings' own table (FOLDER/NAME), or in that of the corpus `out`."""
    return missing["file"] if "/" in missing["file"] else str(out / missing["file"])


def missing_captions_lines(missing: Mapping[str, Any], out: Path) -> list[str]:
    """What recordings without a caption mean, by name: those trained on, then those kept out of training."""
    table = caption_table_path(missing, out)
    lines = []
    for names, which, effect in (
        (missing["names"], "", "the sound is learned, but no words of a prompt call for it; to let words choose"),
        (missing["kept_out"], " kept out of training", "what has none cannot serve as a prompt; so that it can"),
    ):
        if names:
            have = "has" if len(names) == 1 else "have"
            more = f" and {len(names) - _MAX_NAMES} more" if len(names) > _MAX_NAMES else ""
            lines.append(
                f"{format_counted(len(names), 'recording')}{which} {have} no caption ({', '.join(names[:_MAX_NAMES])}"
                f"{more}): {effect}, add captions to {table} and run this again"
            )
    return lines


def _example_caption(clips: Sequence[Clip]) -> str:
    """A caption to generate with: of a training clip, whose music an adapter learns; one with a mode first.

    Empty only where no clip has one.
    """
    training = [clip for clip in clips if clip.split == "train"] or clips
    return max(training, key=lambda clip: (clip.caption != "", clip.mode != UNKNOWN)).caption if training else ""


def _amount(clips: Sequence[Clip]) -> dict[str, Any]:
    return {
        "clips": len(clips),
        "seconds": round(sum(clip.seconds for clip in clips), 2),
        "recordings": len({clip.sound_group for clip in clips}),
    }


def _seconds_by(clips: Sequence[Clip], column: str) -> dict[str, float]:
    """Seconds of music by the single values of a column, the longest first."""
    seconds: dict[str, float] = defaultdict(float)
    for clip in clips:
        for value in str(getattr(clip, column)).split(" | "):
            seconds[value] += clip.seconds
    return {value: round(seconds[value], 1) for value in sorted(seconds, key=lambda value: (-seconds[value], value))}
