"""From a folder of recordings to a corpus: clips, words, rights and a split, kept up to date."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from talim.corpus.captions import RecordingMetadata, file_metadata, write_editable
from talim.corpus.corpus_folder import (
    previous_summary,
    read_edited_captions,
    remove_corpus,
    remove_stale,
    write_corpus,
)
from talim.corpus.importers.folder import list_recordings as find_in_folder
from talim.corpus.manifest import UNKNOWN, Clip, Corpus
from talim.corpus.near_duplicates import NearDuplicate, find_near_duplicates
from talim.corpus.recordings import ImportResult, SourceFile
from talim.corpus.segment import (
    PrepareStats,
    ProgressCallback,
    SegmentationConfig,
    load_landmarks,
    segment_all,
)
from talim.corpus.split import make_split, random_split_leakage
from talim.corpus.summary import split_item, summarize, with_split
from talim.errors import TalimError, UsageError
from talim.licences import commercial_use_objection
from talim.run import Run

LICENCE_USES = ("any", "commercial")


def filter_by_license(
    found: ImportResult, edited: Mapping[str, Mapping[str, str]], use: str = "any"
) -> ImportResult:
    """The source without the recordings whose licence does not allow the use; they and why are in `left_out`.

    `edited` are the corpus's own rows by name, which win over the source's. UsageError for an unknown use, TalimError
    where nothing remains.
    """
    if use not in LICENCE_USES:
        raise UsageError(f"--use {use!r} is not known; choose one of {', '.join(LICENCE_USES)}")
    if use == "any":
        return found
    kept, refused = [], []
    for file in found.files:
        why = commercial_use_objection(_licence(file, edited))
        if why:
            refused.append({"file": file.name, "reason": why})
        else:
            kept.append(file)
    if not kept:
        first = f"{refused[0]['file']}: {refused[0]['reason']}" if refused else "there is none"
        raise TalimError(
            f"{found.place}: none of {len(found.files)} recordings may be used commercially ({first}); write what you "
            "know into its metadata.csv, columns file_name and licence, such as CC BY 4.0"
        )
    return replace(found, files=tuple(kept), left_out=(*found.left_out, *refused))


def _licence(file: SourceFile, edited: Mapping[str, Mapping[str, str]]) -> str:
    try:
        return file_metadata(file, edited.get(file.name, {}), None).licence
    except TalimError:  # its words cannot be read: whoever prepares it says so, and its rights are not known
        return "unknown"


def prepare_corpus(
    source: str | Path | ImportResult,
    out: str | Path,
    *,
    clip_seconds: float = 10.0,
    rate_hz: int = 32000,
    seed: int = 0,
    held_out_share: float = 0.2,
    held_out: tuple[str, ...] = (),
    describe: str | None = None,
    split: str = "auto",
    channels: int = 1,
    use: str = "any",
    progress: ProgressCallback | None = None,
) -> Corpus:
    """Make or update the corpus `out` from a folder of recordings, or from what an importer found.

    Only what is new is decoded. Files that cannot be used are listed in summary["skipped"], and with `use`
    "commercial" those whose licence forbids that or is unknown. Raises UsageError for wishes that make no sense (no
    recordings, unknown held-out name), TalimError where nothing usable remains or the disk refuses.
    """
    out = Path(out)
    cutting = SegmentationConfig(float(clip_seconds), int(rate_hz), int(channels))
    _check_options(cutting, held_out_share, describe, out)
    found = source if isinstance(source, ImportResult) else find_in_folder(Path(source), out)
    found = filter_by_license(found, read_edited_captions(out), use)
    with Run(out).lock():
        before = previous_summary(out)
        work = segment_all(found.files, out, cutting, progress)
        work.skipped[:0] = found.left_out
        try:
            edited = read_edited_captions(out)
            words = _describe_all(found, edited, describe, work)
            clips = _make_clips(words, work, seed)
            pieces = [split_item(clip) for clip in clips]
            twins = _find_near_duplicates(words, work, out, cutting)
            pairs = [(pair.first, pair.second) for pair in twins]
            division = make_split(
                pieces, share=held_out_share, seed=seed, step=split, held_out=held_out, twins=pairs
            )
        except TalimError:
            if before is None:
                remove_corpus(out)
            raise
        waiting = write_editable(out / "metadata.csv", words, edited)
        by_chance = random_split_leakage(pieces, held_out_share, seed, pairs)
        summary = summarize(
            clips, division, seed, cutting, words, work, found, len(waiting), twins, by_chance
        )
        done = _report(before, work, cutting)
        corpus = Corpus(out, with_split(clips, division), summary, done)
        write_corpus(corpus)
        remove_stale(out, work.cuts.values(), cutting)
    if progress:
        progress(len(found.files), len(found.files), _closing_hint(corpus))
    return corpus


def _check_options(cutting: SegmentationConfig, share: float, describe: str | None, out: Path) -> None:
    if not 1.0 <= cutting.clip_seconds <= 600.0:
        raise UsageError(f"clips of {cutting.clip_seconds:g} s are not possible; choose 1 to 600 seconds")
    if not 4000 <= cutting.rate_hz <= 192000:
        raise UsageError(f"a rate of {cutting.rate_hz} Hz is not possible; choose 4000 to 192000, e.g. 32000")
    if cutting.channels not in (1, 2):
        raise UsageError(f"{cutting.channels} channels are not possible; choose 1 (mono) or 2 (stereo)")
    if not 0.0 < share <= 0.5:
        raise UsageError(f"a held-out share of {share:g} is not possible; choose more than 0 up to 0.5")
    if describe is not None and not describe.strip():
        raise UsageError('the description is empty; say what is heard, e.g. --describe "raga Yaman, voice"')
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out}: is a file; --out takes the folder for the corpus")
    strangers = [path.name for path in out.iterdir() if not path.name.startswith(".")] if out.is_dir() else []
    if strangers and not any((out / name).exists() for name in ("corpus.jsonl", ".lock")):
        raise UsageError(
            f"{out}: holds other files ({sorted(strangers)[0]}) and no corpus; choose a new folder"
        )


def _describe_all(
    found: ImportResult,
    edited: Mapping[str, Mapping[str, str]],
    describe: str | None,
    work: PrepareStats,
) -> dict[str, RecordingMetadata]:
    """The words of every file; one whose words cannot be read is skipped and reported."""
    words: dict[str, RecordingMetadata] = {}
    for file in found.files:
        if file.name not in work.cuts:
            continue
        try:
            words[file.name] = file_metadata(file, edited.get(file.name, {}), describe)
        except TalimError as error:
            work.skipped.append({"file": file.name, "reason": f"its words: {error}"})
    if not words:
        what = "nothing was found in it"
        if work.skipped:
            first = work.skipped[0]
            what = f"none of its recordings can be used ({len(work.skipped)}); {first['file']}: {first['reason']}"
        raise TalimError(f"{found.place}: {what}")
    return words


def _make_clips(words: Mapping[str, RecordingMetadata], work: PrepareStats, seed: int) -> list[Clip]:
    """Every clip, still on no side of the split, in the order of files and time."""
    slugs = _slugs(list(words), work)
    return [
        _clip(f"{slugs[name]}-{piece.start_seconds:07.1f}", name, said, work, at, seed)
        for name, said in words.items()
        for at, piece in enumerate(work.cuts[name].clips)
    ]


def _clip(key: str, name: str, said: RecordingMetadata, work: PrepareStats, at: int, seed: int) -> Clip:
    """One clip with the words and labels that hold in it."""
    cut = work.cuts[name]
    piece = cut.clips[at]
    caption, labels = said.at(piece.start_seconds, piece.start_seconds + piece.seconds, seed)
    music = said.timing.at(piece.start_seconds, piece.seconds)
    return Clip(
        id=key,
        file=piece.file,
        recording=said.recording,
        performer=said.performer,
        start_seconds=piece.start_seconds,
        seconds=piece.seconds,
        caption=caption,
        split="train",
        audio_hash=piece.audio_hash,
        source_file=name,
        source_hash=cut.source_hash,
        licence=said.licence,
        source=said.source,
        consent=said.consent,
        release=said.release,
        work=said.work,
        tradition=labels.tradition or UNKNOWN,
        mode=labels.mode[0] if labels.mode else UNKNOWN,
        cycle=labels.cycle[0] if labels.cycle else "none" if labels.free else UNKNOWN,
        section=labels.section or UNKNOWN,
        instruments=" | ".join(labels.instruments) or UNKNOWN,
        tonic_hz=labels.tonic_hz,
        beats=str(music.beats),
        chords=str(music.chords),
        extra=dict(said.extra),
    )


def _find_near_duplicates(
    words: Mapping[str, RecordingMetadata], work: PrepareStats, out: Path, cutting: SegmentationConfig
) -> list[NearDuplicate]:
    """Files with a common stretch of sound."""
    marks = {name: load_landmarks(out, work.cuts[name].source_hash, cutting) for name in words}
    return find_near_duplicates(marks)


def _slugs(names: list[str], work: PrepareStats) -> dict[str, str]:
    """A short readable name for every file, with a part of its hash where two would be the same."""
    plain = {name: re.sub(r"\W+", "-", Path(name).stem).strip("-").lower()[:60] or "clip" for name in names}
    count = Counter(plain.values())
    return {
        name: slug if count[slug] == 1 else f"{slug}-{work.cuts[name].source_hash[:8]}"
        for name, slug in plain.items()
    }


def _report(before: dict[str, Any] | None, work: PrepareStats, cutting: SegmentationConfig) -> dict[str, Any]:
    """What this run did, for the one who typed it: {"decoded", "reused", "rebuilt_because"}."""
    changed = []
    for name, now in (
        ("clip_seconds", cutting.clip_seconds),
        ("rate_hz", cutting.rate_hz),
        ("channels", cutting.channels),
    ):
        if before is not None and before.get(name) != now:
            changed.append(f"{name} {before.get(name)} -> {now}: all clips are cut again")
    return {"decoded": work.decoded, "reused": work.reused, "rebuilt_because": changed}


def _closing_hint(corpus: Corpus) -> str:
    """What the one who typed the command should know first."""
    told = [
        f"{corpus.work['decoded']} cut, {corpus.work['reused']} as before",
        *corpus.work["rebuilt_because"],
    ]
    if corpus.summary["skipped"]:
        told.append(f"{len(corpus.summary['skipped'])} files skipped")
    if waiting := corpus.summary["captions_to_write"]:
        file = corpus.folder / waiting["file"]
        told.append(
            f"{waiting['recordings']} recordings have no words: type them into {file} and run this again"
        )
    return "; ".join(told)
