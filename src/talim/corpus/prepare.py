"""From recordings to a corpus: clips, captions, labels, rights, a split and a page; running it again updates it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from talim.audio.levels import RecordingLevels
from talim.backbones.readable_text import TextReader, caption_notes
from talim.corpus import report
from talim.corpus.captions import (
    TEXT_COLUMNS,
    RecordingMetadata,
    file_metadata,
    passed_over_notes,
    performer_name_notes,
    text_paths,
    write_editable,
)
from talim.corpus.corpus_folder import (
    caption_table_path,
    previous_summary,
    read_edited_captions,
    remove_corpus,
    remove_stale,
    split_items,
    summarize,
    with_split,
    write_corpus,
)
from talim.corpus.importers import registry
from talim.corpus.labels import UNKNOWN_NAMES, other_mode_in_caption, unify_labels, unknown_names
from talim.corpus.manifest import UNKNOWN, Clip, Corpus
from talim.corpus.metadata import find_tables
from talim.corpus.near_duplicates import NearDuplicate, copies_of, find_near_duplicates, find_waveform_copies
from talim.corpus.recordings import ImportResult, SourceFile, generated_lines, leave_out_generated
from talim.corpus.segment import PROGRESS_TITLE, PrepareStats, SegmentationConfig, copy_row, load_landmarks, segment_all
from talim.corpus.split import add_validation, default_fraction, find_recordings, make_split, random_split_leakage
from talim.corpus.split_groups import SPLIT_COLUMN, given_sides, sides_of_recordings, with_sound_groups
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted
from talim.licences import commercial_use_objection
from talim.progress import Progress
from talim.recipe import CLIP_SECONDS
from talim.run import Run
from talim.terminal_text import one_line
from talim.traditions.name_matching import slugify

EDITABLE_TABLE = "metadata.csv"  # in the corpus
LICENCE_USES = ("any", "commercial")
Description = RecordingMetadata | TalimError  # of a file: its metadata, or why they cannot be read
_COPIED_FIELDS = ("recording", "performer", "licence", "source", "consent", "release", "work")  # to each clip


def prepare(  # noqa: PLR0913
    source: str | Path,
    out: str | Path,
    *,
    format: str | None = None,
    clip_seconds: float = CLIP_SECONDS,
    sample_rate: int = 32000,
    channels: int = 1,
    seed: int = 0,
    held_out_fraction: float | None = None,
    held_out: Collection[str] = (),
    caption: str | None = None,
    split_by: str = "auto",
    license_use: str = "any",
    reader: TextReader | None = None,
    progress: Progress | None = None,
) -> Corpus:
    """Make or update the corpus `out` from recordings and write its page, OUT/report/index.html.

    `source` is a folder of recordings or any other source (see `importers.registry`); `format` is FORMAT or
    FORMAT:DETAIL, None to recognise it. Clips are at most `clip_seconds` (1 to 600) long, at `sample_rate` Hz with 1
    or 2 channels. `held_out_fraction` (above 0, at most 0.5; None: 0.2, of fewer than 20 recordings 0.3) of the music
    is held out for the test, or exactly the recordings named in `held_out`; of the rest, validation takes a part (see
    `split.add_validation`). A column `split` of the metadata names sides (see `split.make_split`), unless
    `held_out` does. `split_by` is "auto" or one of `split.SPLIT_STRATEGIES`. `caption` is for recordings that have
    none. `license_use="commercial"` leaves out recordings whose licence forbids that or is unknown. AI-generated files
    are left out, see `generated_recordings`.

    `reader` is of the base whose tokenizer the captions are checked with; None: plain letters.

    Only new and changed files are decoded. Unusable files are listed in summary["skipped"]. Raises UsageError for
    impossible options, TalimError where no usable recording remains or `out` cannot be written.
    """
    out, progress = Path(out), progress or Progress()
    config = SegmentationConfig(float(clip_seconds), int(sample_rate), int(channels))
    _check_options(config, held_out_fraction, caption, out)
    imported = registry.list_recordings(str(source), out, format)
    _tell_listed(imported, progress)
    edited, edited_notes = read_edited_captions(out, [file.name for file in imported.files])
    imported = replace(imported, notes=(*imported.notes, *edited_notes))
    for row in imported.notes:  # before the long work
        progress.log(one_line(f"note: {row['file']}: {row['note']}"))
    imported, makers = leave_out_generated(imported, edited)
    for line in generated_lines(imported, makers):
        progress.log(one_line(line))
    listed = len(imported.files)
    described = read_descriptions(imported.files, edited, caption)
    imported = filter_by_licence(imported, described, license_use)
    refused = listed - len(imported.files)
    if refused:
        progress.log(
            f"{refused} of {format_counted(listed, 'recording')} left out: the licence forbids commercial use or is "
            "not known"
        )
    _check_held_out(held_out, imported, described)
    imported, sides = _with_given_sides(imported, edited, bool(held_out), progress)
    with Run(out).lock():
        before = previous_summary(out)
        stats = segment_all(_best_described_first(imported.files, edited), out, config, progress)
        stats.skipped[:0] = imported.skipped
        try:
            metadata = _usable_metadata(imported, described, stats, progress)
            landmarks = {name: load_landmarks(out, stats.segmented[name].source_hash, config) for name in metadata}
            duplicates = _leave_out_copies(_duplicates(out, landmarks, stats), metadata, stats)
            pairs = [(pair.first, pair.second) for pair in duplicates]
            clips, spelling_notes = unify_labels(_make_clips(metadata, stats, makers, seed))
            clips = with_sound_groups(clips, pairs)
            imported = _with_notes(
                imported,
                "captions",
                passed_over_notes(metadata, out)
                + performer_name_notes(metadata)
                + caption_notes(reader, [clip.caption for clip in clips]),
                progress,
            )
            imported = _with_label_notes(imported, spelling_notes, metadata, progress)
            items = split_items(clips)
            fraction = default_fraction(items) if held_out_fraction is None else held_out_fraction
            split = add_validation(
                make_split(
                    items,
                    held_out_fraction=fraction,
                    seed=seed,
                    split_by=split_by,
                    held_out=held_out,
                    given=sides_of_recordings(items, sides, [*pairs, *_copies(stats)]),
                    duplicates=pairs,
                ),
                items,
                seed,
                pairs,
            )
        except TalimError as error:
            if before is None:
                remove_corpus(out)
            if refused:
                left_out = (
                    f"{refused} of {format_counted(listed, 'recording')} left out for the licence, which forbids "
                    "commercial use or is not known"
                )
                raise type(error)(f"{error}; {left_out}") from error
            raise
        table = _caption_table(imported, edited, metadata, out)
        summary = summarize(
            clips,
            split,
            seed,
            config,
            metadata,
            stats,
            imported,
            near_duplicates=duplicates,
            random_leakage=random_split_leakage(items, fraction, seed, pairs),
            caption_table=table,
        )
        corpus = Corpus(out, with_split(clips, split), summary, _prepare_stats(before, stats, config))
        write_corpus(corpus, progress)
        remove_stale(out, stats.segmented.values(), config)
    count = len(imported.files)
    progress.step(PROGRESS_TITLE, count, count, _closing_hint(corpus, imported.source))
    report.write(corpus)
    return corpus


def _tell_listed(imported: ImportResult, progress: Progress) -> None:
    """How many recordings are read now; where there are none, why each file was skipped."""
    if imported.files:
        progress.log(f"{imported.source}: reading {format_counted(len(imported.files), 'recording')}")
        return
    for row in imported.skipped:
        progress.log(f"skipped {row['file']}: {row['reason']}")


def _with_notes(imported: ImportResult, about: str, notes: Sequence[str], progress: Progress) -> ImportResult:
    """The source with notes on its recordings as a whole, which are told at once."""
    for note in notes:
        progress.log(one_line(f"note: {about}: {note}"))
    return replace(imported, notes=(*imported.notes, *({"file": about, "note": note} for note in notes)))


def _with_label_notes(
    imported: ImportResult, spellings: Sequence[str], metadata: Mapping[str, RecordingMetadata], progress: Progress
) -> ImportResult:
    """The source with notes on spellings, and with names that no list has, which are told with the result."""
    imported = _with_notes(imported, "labels", spellings, progress)
    unknown = unknown_names((recording.labels, recording.sections) for recording in metadata.values())
    return _with_notes(imported, UNKNOWN_NAMES, unknown, Progress())


def _with_given_sides(
    imported: ImportResult, edited: Mapping[str, Mapping[str, str]], overridden: bool, progress: Progress
) -> tuple[ImportResult, dict[str, str]]:
    """The sides of files that their metadata name, and the source with notes on them."""
    sides, notes = given_sides(imported.files, edited, overridden)
    return _with_notes(imported, f"column {SPLIT_COLUMN}", notes, progress), sides


def read_descriptions(
    files: Iterable[SourceFile], edited: Mapping[str, Mapping[str, str]], caption: str | None = None
) -> dict[str, Description]:
    """The metadata of each file by its name, or why they cannot be read.

    `edited` are the rows of the corpus's own metadata.csv by file name; they win over the source's.
    """
    described: dict[str, Description] = {}
    for file in files:
        try:
            described[file.name] = file_metadata(file, edited.get(file.name, {}), caption)
        except TalimError as error:
            described[file.name] = error
    return described


def _check_held_out(held_out: Collection[str], imported: ImportResult, described: Mapping[str, Description]) -> None:
    """UsageError for a name that is of no recording, before any is decoded."""
    metadata = {file.name: described[file.name] for file in imported.files if held_out}
    recording_of = {name: each.recording for name, each in metadata.items() if isinstance(each, RecordingMetadata)}
    if recording_of:
        find_recordings(held_out, recording_of)


def filter_by_licence(
    imported: ImportResult, described: Mapping[str, Description], license_use: str = "any"
) -> ImportResult:
    """The source without the recordings whose licence does not allow the use; those are listed in `skipped`.

    `described` is what `read_descriptions` found. Raises UsageError for an unknown use, TalimError where no recording
    remains.
    """
    if license_use not in LICENCE_USES:
        raise UsageError(f"unknown licence use {license_use!r}; choose one of {', '.join(LICENCE_USES)}")
    if license_use == "any":
        return imported
    objections = {file.name: commercial_use_objection(_licence(described[file.name])) for file in imported.files}
    refused = [{"file": name, "reason": reason} for name, reason in objections.items() if reason]
    allowed = tuple(file for file in imported.files if not objections[file.name])
    if not allowed:
        first = f"{refused[0]['file']}: {refused[0]['reason']}" if refused else "the source holds none"
        raise TalimError(
            f"{imported.source}: none of {format_counted(len(imported.files), 'recording')} may be used commercially "
            f"({first}); write what you know into {Path(imported.source) / 'metadata.csv'}, columns file_name and "
            'licence, for example CC BY 4.0, or "my own recording" for what is yours'
        )
    return replace(imported, files=allowed, skipped=(*imported.skipped, *refused))


def _licence(description: Description) -> str:
    """The licence; unknown where the metadata cannot be read, which `_usable_metadata` reports."""
    return description.licence if isinstance(description, RecordingMetadata) else UNKNOWN


def _check_options(config: SegmentationConfig, held_out_fraction: float | None, caption: str | None, out: Path) -> None:
    if not 1.0 <= config.clip_seconds <= 600.0:
        raise UsageError(f"clips of {config.clip_seconds:g} s are not possible; choose 1 to 600 seconds")
    if not 4000 <= config.rate_hz <= 192000:
        raise UsageError(f"a sample rate of {config.rate_hz} Hz is not possible; choose 4000 to 192000, e.g. 32000")
    if config.channels not in (1, 2):
        raise UsageError(f"{config.channels} channels are not possible; choose 1 (mono) or 2 (stereo)")
    if held_out_fraction is not None and not 0.0 < held_out_fraction <= 0.5:
        raise UsageError(f"a held-out fraction of {held_out_fraction:g} is not possible; choose more than 0 up to 0.5")
    if caption is not None and not caption.strip():
        raise UsageError('the caption is empty; describe the music, e.g. --caption "raga Yaman, voice"')
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out takes the folder for the corpus")
    foreign = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if foreign and not any((out / name).exists() for name in ("corpus.jsonl", ".lock")):
        raise UsageError(f"{out}: holds other files ({min(foreign)}) and no corpus; choose a new folder")


def _usable_metadata(
    imported: ImportResult, described: Mapping[str, Description], stats: PrepareStats, progress: Progress
) -> dict[str, RecordingMetadata]:
    """Metadata of the files that were cut, by name; those with unreadable metadata are added to `stats.skipped`."""
    metadata: dict[str, RecordingMetadata] = {}
    for file in imported.files:
        if file.name not in stats.segmented:
            continue
        recording = described[file.name]
        if not isinstance(recording, RecordingMetadata):
            stats.skipped.append({"file": file.name, "reason": f"its metadata: {recording}"})
            continue
        late = _late_sections(recording, stats.segmented[file.name].levels)
        other_mode = other_mode_in_caption(recording.caption, recording.labels, recording.sections)
        more = tuple(note for note in (late, other_mode) if note)
        recording = metadata[file.name] = replace(recording, notes=(*recording.notes, *more))
        for note in recording.notes:
            progress.log(one_line(f"note: {file.name}: {note}"))
    if not metadata:
        reason = "it holds no recording"
        if stats.skipped:
            first = stats.skipped[0]
            reason = f"none of its recordings can be used ({len(stats.skipped)}); {first['file']}: {first['reason']}"
        raise TalimError(f"{imported.source}: {reason}")
    return metadata


def _caption_table(
    imported: ImportResult,
    edited: Mapping[str, Mapping[str, str]],
    metadata: Mapping[str, RecordingMetadata],
    out: Path,
) -> str:
    """The table for captions: FOLDER/NAME of the recordings' own, else that of the corpus, which is written.

    A template of the corpus that nobody wrote captions into does not stand against a table of the recordings.
    """
    written = any(row.get(column) for row in edited.values() for column in TEXT_COLUMNS)
    if imported.format == "folder" and not written and any(file.row for file in imported.files):
        folder = Path(imported.source)
        for path in find_tables(folder)[0]:
            return f"{folder.resolve().name}/{path.name}"
    write_editable(out / EDITABLE_TABLE, metadata, edited)
    return EDITABLE_TABLE


def _late_sections(recording: RecordingMetadata, levels: RecordingLevels | None) -> str:
    """A note on sections that begin where the sound has ended, as where minutes were written for seconds."""
    late = [each for each in recording.sections if levels and each.start_seconds >= levels.seconds]
    if not late or levels is None:
        return ""
    count = format_counted(len(late), "section")
    begin = "begins after its end and labels" if len(late) == 1 else "begin after its end and label"
    return f"{count} of it {begin} nothing: it lasts {levels.seconds:.1f} s"


def _best_described_first(files: Sequence[SourceFile], edited: Mapping[str, Mapping[str, str]]) -> list[SourceFile]:
    """The files with most cells of metadata first, a text beside the sound counting as one: the first copy is kept."""

    def cells(file: SourceFile) -> int:
        filled = {**file.row, **{name: cell for name, cell in edited.get(file.name, {}).items() if cell}}
        return len(filled) + any(path.is_file() for path in text_paths(file))

    return sorted(files, key=lambda file: -cells(file))  # stable: by name where they are equal


def _duplicates(out: Path, landmarks: Mapping[str, np.ndarray], stats: PrepareStats) -> list[NearDuplicate]:
    """Pairs that share audio, by their landmarks, and by their waveforms where these are few."""
    found = {(pair.first, pair.second): pair for pair in find_near_duplicates(landmarks)}
    clips = {
        name: [(out / clip.file, clip.start_seconds, clip.seconds) for clip in stats.segmented[name].clips]
        for name in landmarks
    }
    counts = {name: len(rows) for name, rows in landmarks.items()}
    found |= {(pair.first, pair.second): pair for pair in find_waveform_copies(clips, counts)}
    return [found[names] for names in sorted(found)]


def _leave_out_copies(
    duplicates: Sequence[NearDuplicate], metadata: dict[str, RecordingMetadata], stats: PrepareStats
) -> list[NearDuplicate]:
    """Take recordings that only repeat another one out of `metadata`, with a line each; the remaining pairs.

    Of recordings of about one length the first with words, then the first that is not coded lossily, is kept.
    """

    def preference(name: str) -> tuple[int, bool, bool, str]:
        seconds = sum(clip.seconds for clip in stats.segmented[name].clips)
        lossy = Path(name).suffix.lower() not in (".wav", ".flac", ".aif", ".aiff", ".w64", ".rf64", ".au")
        return -round(20 * math.log(seconds)), metadata[name].origin == "none", lossy, name

    copies = copies_of(duplicates, sorted(metadata, key=preference))
    for name, original in sorted(copies.items()):
        del metadata[name]
        stats.skipped.append(copy_row(name, original, "sound"))
    return [pair for pair in duplicates if pair.first in metadata and pair.second in metadata]


def _copies(stats: PrepareStats) -> list[tuple[str, str]]:
    """The files that are left out as copies, each with the one that is kept."""
    return [(row["file"], row["copy_of"]) for row in stats.skipped if "copy_of" in row]


def _make_clips(
    metadata: Mapping[str, RecordingMetadata], stats: PrepareStats, makers: Mapping[str, str], seed: int
) -> list[Clip]:
    """Every clip in the order of files and time; all marked "train" until the split is made."""
    slugs = _clip_slugs(metadata, stats)
    clips = []
    for name, recording in metadata.items():
        segmented = stats.segmented[name]
        for segment in segmented.clips:
            start, seconds = segment.start_seconds, segment.seconds
            caption, labels = recording.caption_and_labels(start, start + seconds, seed)
            music = recording.timing.cut(start, seconds)
            copied = {name: getattr(recording, name) for name in _COPIED_FIELDS}
            clips.append(
                Clip(
                    id=f"{slugs[name]}-{start:07.1f}",
                    file=segment.file,
                    **copied,
                    start_seconds=start,
                    seconds=seconds,
                    caption=caption,
                    split="train",
                    audio_hash=segment.audio_hash,
                    source_file=name,
                    source_hash=segmented.source_hash,
                    tradition=labels.tradition or UNKNOWN,
                    mode=labels.mode[0] if labels.mode else UNKNOWN,
                    cycle=labels.cycle[0] if labels.cycle else "none" if labels.unmetered else UNKNOWN,
                    section=labels.section or UNKNOWN,
                    instruments=" | ".join(labels.instruments) or UNKNOWN,
                    tonic_hz=labels.tonic_hz,
                    beats=str(music.beats),
                    chords=str(music.chords),
                    extra=dict(recording.extra),
                    ai_generated=makers.get(name, ""),
                )
            )
    return clips


def _clip_slugs(names: Collection[str], stats: PrepareStats) -> dict[str, str]:
    """A short readable name for every file, with a part of its hash where two would be equal."""
    slugs = {name: slugify(Path(name).stem)[:60] or "clip" for name in names}
    counts = Counter(slugs.values())
    return {
        name: slug if counts[slug] == 1 else f"{slug}-{stats.segmented[name].source_hash[:8]}"
        for name, slug in slugs.items()
    }


def _prepare_stats(before: Mapping[str, Any] | None, stats: PrepareStats, config: SegmentationConfig) -> dict[str, Any]:
    """What this call did: {"decoded", "reused", "rebuilt_because"}."""
    changed = [
        f"{name} {before.get(name)} -> {value}: all clips are cut again"
        for name, value in asdict(config).items()
        if before is not None and before.get(name) != value
    ]
    return {"decoded": stats.decoded, "reused": stats.reused, "rebuilt_because": changed}


def _closing_hint(corpus: Corpus, source: str) -> str:
    """The end of the progress line: what was done, and what to do about skipped files and missing captions."""
    stats = corpus.prepare_stats
    parts = [f"{stats['decoded']} decoded, {stats['reused']} unchanged", *stats["rebuilt_because"]]
    if corpus.summary["skipped"]:
        parts.append(f"{format_counted(len(corpus.summary['skipped']), 'file')} skipped")
    if missing := corpus.summary["missing_captions"]:
        count = len(missing["names"]) + len(missing["kept_out"])
        counted, them = format_counted(count, "recording"), "it" if count == 1 else "them"
        table = caption_table_path(missing, corpus.folder, source)
        parts.append(f"{counted} without a caption: write {them} into {table}, run this again")
    return "; ".join(parts)
