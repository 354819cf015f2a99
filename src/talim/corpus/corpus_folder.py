"""The files of a corpus folder: what an earlier run left, the summary, writing them anew, deleting what is stale.

In that order: the rows that the user has edited, summary.json (contents, rights, split, what was skipped and why), the
manifest with a word on recordings that are on another side now, and the files of sources that are gone.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from talim.atomic_io import friendly_os_errors, parse_json, write_text
from talim.corpus.attribution import rights_of
from talim.corpus.captions import RecordingMetadata
from talim.corpus.manifest import FORMAT_VERSION, UNKNOWN, Clip, Corpus, manifest_text
from talim.corpus.metadata import FileMatcher, recording_columns, with_known_columns
from talim.corpus.near_duplicates import NearDuplicate
from talim.corpus.recordings import GENERATED_COLUMN, ImportResult, normalize_path
from talim.corpus.segment import (
    PrepareStats,
    SegmentationConfig,
    SegmentedRecording,
    generated_files,
    segmentation_file,
)
from talim.corpus.split import Split, list_names
from talim.corpus.split_groups import (
    HELD_OUT,
    TRAIN,
    VALIDATION,
    SplitItem,
    performers,
    split_leakage,
    with_single_performers,
)
from talim.corpus.tables import format_lines, read_table
from talim.errors import TalimError
from talim.html.formatting import format_counted
from talim.progress import Progress
from talim.terminal_text import one_line

_MAX_NAMES = 5  # in one line
_MOVES = (  # from side to side, the gravest first
    (TRAIN, HELD_OUT),
    (VALIDATION, HELD_OUT),
    (HELD_OUT, TRAIN),
    (HELD_OUT, VALIDATION),
    (TRAIN, VALIDATION),
    (VALIDATION, TRAIN),
)
_SIDE_NAMES = {TRAIN: "training", VALIDATION: "validation", HELD_OUT: "the test"}


def read_edited_captions(
    out: Path, names: Collection[str] = ()
) -> tuple[dict[str, dict[str, str]], list[dict[str, str]]]:
    """The rows of the corpus's own metadata.csv by recording, of `names` where one is meant, and notes on the table.

    Rows for other recordings are kept under the name that they have. Raises TalimError where it cannot be read.
    """
    path = out / "metadata.csv"
    if not path.is_file():
        return {}, []
    table, matcher = with_known_columns(read_table(path), recording_columns()), FileMatcher(frozenset(names))
    rows: dict[str, dict[str, str]] = {}
    notes, absent = [*table.notes], list[tuple[int, str]]()
    for line, row in table.rows:
        written = row.pop("file_name")
        name = matcher.match(written).name
        if not name:
            absent.append((line, written))
        name = name or normalize_path(written)
        if rows.get(name, row) != row:
            notes.append(f"several rows name {name}; line {line} counts")
        rows[name] = row
    if absent:
        shown = ", ".join(written for _, written in absent[:5]) + " ..." * (len(absent) > 5)
        verb = "matches" if len(absent) == 1 else "match"
        notes.append(f"{format_lines([line for line, _ in absent])} {verb} no recording here: {shown}")
    return rows, [{"file": f"{out.name}/metadata.csv", "note": note} for note in notes]


def previous_summary(out: Path) -> dict[str, Any] | None:
    """The summary that an earlier run wrote, or None where there is no complete corpus."""
    try:
        summary = parse_json((out / "summary.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) and (out / "corpus.jsonl").is_file() else None


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
    items = [item for item in split_items(clips) if item.id in split.sides]
    sound_groups = {clip.id: clip.sound_group for clip in used}
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
        "performers": len({name for item in items for name in performers(item.performer)}),
        "recordings_without_performer": len({sound_groups[item.id] for item in items if item.performer == UNKNOWN}),
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
            "leakage": split_leakage(items, split.sides, pairs),
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


def split_items(clips: Iterable[Clip]) -> list[SplitItem]:
    """Clips for the split; MusicBrainz ids distinguish releases and works better than titles."""
    return with_single_performers(
        [
            SplitItem(
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
            for clip in clips
        ]
    )


def _generated(clips: Sequence[Clip], stats: PrepareStats) -> dict[str, Any]:
    """AI-generated files: how many are left out, and which are used on purpose; nothing where there are none."""
    used = sorted({clip.recording for clip in clips if clip.ai_generated})
    held_out = len({clip.recording for clip in clips if clip.ai_generated and clip.split == "held_out"})
    left_out = sum(GENERATED_COLUMN in row for row in stats.skipped)
    facts = {"left_out": left_out, "used": used, "held_out": held_out}
    return {"ai_generated": facts} if used or left_out else {}


def caption_table_path(missing: Mapping[str, Any], out: Path, source: Path | str) -> str:
    """Where missing captions belong: in the table of the recordings' folder `source`, or in that of the corpus `out`.

    The summary, which goes with the corpus, has the name of that folder alone: FOLDER/NAME.
    """
    return str((Path(source) if "/" in missing["file"] else out) / Path(missing["file"]).name)


def missing_captions_lines(missing: Mapping[str, Any], out: Path, source: Path | str) -> list[str]:
    """What recordings without a caption mean, by name: those trained on, then those kept out of training."""
    table = caption_table_path(missing, out, source)
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


def write_corpus(corpus: Corpus, progress: Progress | None = None) -> None:
    """Write the manifest, then the summary; recordings on another side than in an earlier manifest are told.

    The old summary is deleted first: a run killed in between leaves no summary, so that no mixture is ever loaded.
    """
    tell_changed_sides(corpus.folder, corpus.clips, progress or Progress())
    manifest, summary = corpus.folder / "corpus.jsonl", corpus.folder / "summary.json"
    lines = manifest_text(corpus.clips)
    text = json.dumps(corpus.summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        if manifest.read_text("utf-8") == lines and summary.read_text("utf-8") == text:
            return
    except (OSError, ValueError):
        pass
    with friendly_os_errors(summary):
        summary.unlink(missing_ok=True)
    write_text(manifest, lines)
    write_text(summary, text)


def tell_changed_sides(out: Path, clips: Sequence[Clip], progress: Progress) -> None:
    """Say what `clips` put on another side than the corpus that is still in `out`, and what that means."""
    try:
        moved = changed_sides(Corpus.load(out).clips, clips)
    except TalimError:  # there is none, or none that can still be trained or tested on
        return
    if not moved:
        return
    count = sum(map(len, moved.values()))
    which = "; ".join(
        f"from {_SIDE_NAMES[before]} to {_SIDE_NAMES[now]}: {list_names(names)}"
        for (before, now), names in moved.items()
    )
    if any(now == HELD_OUT for _, now in moved):
        means = "adapters trained on this corpus before have heard what is now tested: their scores on it do not hold"
    elif any(before == HELD_OUT for before, _ in moved):
        means = "the test is another one now: scores from before and from now on cannot be compared"
    else:
        means = "validation is another one now: losses on it from before and from now on cannot be compared"
    progress.log(
        one_line(
            f"{format_counted(count, 'recording')} changed sides since this corpus was last prepared, {which}; {means} "
            "(a column split in metadata.csv, or --held-out NAME for the test, keeps recordings where they are)"
        )
    )


def changed_sides(before: Iterable[Clip], now: Iterable[Clip]) -> dict[tuple[str, str], list[str]]:
    """Recordings with music that is on another side now, sorted, by (side before, side now), the gravest first.

    A recording whose parts move differently is listed once. A file is known again by its bytes, else by its name.
    """
    earlier: dict[str, dict[int, str]] = {}  # by file: the side of each second
    for clip in before:
        sides = earlier.setdefault(clip.source_hash, {})
        earlier.setdefault(clip.source_file, sides)
        sides |= dict.fromkeys(_whole_seconds(clip), clip.split)
    moves: defaultdict[str, set[int]] = defaultdict(set)  # by recording
    for clip in now:
        sides = earlier.get(clip.source_hash) or earlier.get(clip.source_file, {})
        there = {sides[second] for second in _whole_seconds(clip) if second in sides}
        moves[clip.recording] |= {_MOVES.index((side, clip.split)) for side in there - {clip.split}}
    gravest = {recording: min(numbers) for recording, numbers in moves.items() if numbers}
    return {
        _MOVES[number]: sorted(name for name, its in gravest.items() if its == number)
        for number in sorted({*gravest.values()})
    }


def _whole_seconds(clip: Clip) -> range:
    """The whole seconds of its file that a clip covers; of clips that follow one another no second is common."""
    start = int(clip.start_seconds)
    return range(start, start + max(1, int(clip.seconds)))


def remove_stale(out: Path, segmented: Collection[SegmentedRecording], config: SegmentationConfig) -> None:
    """Delete clips and segmentation records of sources that are gone; call it after the new manifest is written."""
    records = {segmentation_file(out, recording.source_hash, config) for recording in segmented}
    used = {out / clip.file for recording in segmented for clip in recording.clips}
    used |= records | {path.with_suffix(".npy") for path in records}
    with friendly_os_errors(out):
        for path in generated_files(out):
            if path not in used:
                path.unlink()
        for path in (out / "clips").iterdir():
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def remove_corpus(out: Path) -> None:
    """Delete what a first run wrote when no corpus can be made; other files stay."""
    with friendly_os_errors(out):
        for path in generated_files(out):
            path.unlink()
        (out / ".lock").unlink(missing_ok=True)
        for path in (*(out / "clips").glob("*"), out / "clips", out / "sources", out):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
