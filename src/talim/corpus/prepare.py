"""From a folder of recordings to a corpus: clips, words, rights and a split, kept up to date."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

from talim.corpus.captions import Words, describe_file, read_metadata, write_editable
from talim.corpus.importers import SourceFile, find_recordings
from talim.corpus.manifest import Clip, Corpus
from talim.corpus.sources import Cutting, Progress, Work, cut_all
from talim.corpus.split import Piece, make_split
from talim.corpus.stock import earlier_summary, edited_rows, remove_corpus, remove_stale, store
from talim.corpus.summary import on_sides, summarise
from talim.errors import TalimError, UsageError
from talim.run import Run


def prepare(
    folder: str | Path,
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
    progress: Progress | None = None,
) -> Corpus:
    """Make or update the corpus `out` from the recordings below `folder`; only what is new is decoded.

    Files that cannot be used are listed in summary["skipped"]. Raises UsageError for wishes that make no
    sense (no recordings, unknown held-out name), TalimError where nothing usable remains or the disk refuses.
    """
    folder, out = Path(folder), Path(out)
    cutting = Cutting(float(clip_seconds), int(rate_hz), int(channels))
    _check_wishes(cutting, held_out_share, describe, out)
    files = find_recordings(folder, out)
    rows, notes = read_metadata(folder, out, files)
    with Run(out).lock():
        before = earlier_summary(out)
        work = cut_all(files, out, cutting, progress)
        try:
            edited = edited_rows(out)
            words = _describe_all(files, rows, edited, describe, work)
            clips = _make_clips(folder, words, work)
            division = make_split(
                [_piece(clip) for clip in clips],
                share=held_out_share,
                seed=seed,
                step=split,
                held_out=held_out,
            )
        except TalimError:
            if before is None:
                remove_corpus(out)
            raise
        waiting = write_editable(out / "metadata.csv", words, edited)
        summary = summarise(clips, division, seed, cutting, words, work, notes, len(waiting))
        done = _report(before, work, cutting)
        corpus = Corpus(out, on_sides(clips, division), summary, done)
        store(corpus)
        remove_stale(out, work.cuts.values(), cutting)
    if progress:
        progress(len(files), len(files), _last_word(corpus))
    return corpus


def _check_wishes(cutting: Cutting, share: float, describe: str | None, out: Path) -> None:
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
    files: list[SourceFile],
    rows: dict[str, dict[str, str]],
    edited: dict[str, dict[str, str]],
    describe: str | None,
    work: Work,
) -> dict[str, Words]:
    """The words of every file; one whose words cannot be read is skipped and reported."""
    words: dict[str, Words] = {}
    for file in files:
        if file.name not in work.cuts:
            continue
        try:
            own, typed = rows.get(file.name, {}), edited.get(file.name, {})
            words[file.name] = describe_file(file, own, typed, describe)
        except TalimError as error:
            work.skipped.append({"file": file.name, "reason": f"its words: {error}"})
    return words


def _make_clips(folder: Path, words: dict[str, Words], work: Work) -> list[Clip]:
    """Every clip, still on no side of the split, in the order of files and time."""
    if not words:
        first = work.skipped[0]
        what = (
            f"none of its sound files can be used ({len(work.skipped)}); {first['file']}: {first['reason']}"
        )
        raise TalimError(f"{folder}: {what}")
    slugs = _slugs(list(words), work)
    clips = []
    for name, said in words.items():
        cut = work.cuts[name]
        for piece in cut.clips:
            clips.append(
                Clip(
                    id=f"{slugs[name]}-{piece.start_seconds:07.1f}",
                    file=piece.file,
                    recording=said.recording,
                    performer=said.performer,
                    start_seconds=piece.start_seconds,
                    seconds=piece.seconds,
                    caption=said.caption,
                    split="train",
                    audio_hash=piece.audio_hash,
                    source_file=name,
                    source_hash=cut.source_hash,
                    licence=said.licence,
                    source=said.source,
                    consent=said.consent,
                    extra=dict(said.extra),
                )
            )
    return clips


def _slugs(names: list[str], work: Work) -> dict[str, str]:
    """A short readable name for every file, with a part of its hash where two would be the same."""
    plain = {name: re.sub(r"\W+", "-", Path(name).stem).strip("-").lower()[:60] or "clip" for name in names}
    count = Counter(plain.values())
    return {
        name: slug if count[slug] == 1 else f"{slug}-{work.cuts[name].source_hash[:8]}"
        for name, slug in plain.items()
    }


def _piece(clip: Clip) -> Piece:
    return Piece(clip.id, clip.recording, clip.performer, clip.source_file, clip.start_seconds, clip.seconds)


def _report(before: dict[str, Any] | None, work: Work, cutting: Cutting) -> dict[str, Any]:
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


def _last_word(corpus: Corpus) -> str:
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
