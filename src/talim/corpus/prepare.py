"""From a folder of recordings to a corpus: clips, words, rights and a split, kept up to date."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talim.corpus.captions import Words, describe_file, read_metadata, read_table, write_editable
from talim.corpus.importers import SourceFile, file_hash, find_recordings, plain_name
from talim.corpus.manifest import Clip, Corpus, manifest_text
from talim.corpus.sources import Cut, Cutting, cut_file, known_cut, make_cut, own_files
from talim.corpus.split import Piece, make_split
from talim.corpus.summary import summarise
from talim.errors import TalimError, UsageError
from talim.run import Run, explained, write_text

Progress = Callable[[int, int, str], None]  # files done, files in all, what is being done


@dataclass
class _Work:
    """What one call did, file by file."""

    cuts: dict[str, Cut] = field(default_factory=dict)  # by file name
    skipped: list[dict[str, str]] = field(default_factory=list)
    decoded: int = 0
    reused: int = 0


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
        before = _before(out)
        work = _cut_all(files, out, cutting, progress)
        try:
            edited = _edited_rows(out)
            words = _describe_all([f for f in files if f.name in work.cuts], rows, edited, describe, work)
            if not words:
                first = work.skipped[0]
                what = f"none of its {len(files)} sound files can be used; {first['file']}: {first['reason']}"
                raise TalimError(f"{folder}: {what}")
            clips = _make_clips(words, work)
            division = make_split(
                [_piece(clip) for clip in clips],
                share=held_out_share,
                seed=seed,
                step=split,
                held_out=held_out,
            )
        except TalimError:
            if before is None:
                _remove_corpus(out)
            raise
        waiting = write_editable(out / "metadata.csv", words, edited)
        sided = [
            clip.model_copy(update={"split": side}) for clip in clips if (side := division.sides.get(clip.id))
        ]
        gap = [clip for clip in clips if clip.id not in division.sides]
        summary = summarise(sided, gap, division, seed, cutting, words, work.cuts)
        summary |= {
            "skipped": sorted(work.skipped, key=lambda row: row["file"]),
            "notes": notes + _notes(work),
        }
        if waiting:
            summary["captions_to_write"] = {"file": "metadata.csv", "recordings": len(waiting)}
        corpus = Corpus(out, tuple(sided), summary, _report(before, work, cutting))
        _store(corpus)
        _remove_stale(out, work, cutting)
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


def _cut_all(files: list[SourceFile], out: Path, cutting: Cutting, progress: Progress | None) -> _Work:
    """Cut every file that is new or changed; the same sound found twice is used once."""
    say = progress or (lambda done, total, what: None)
    work = _Work()
    seen: dict[object, str] = {}
    for done, file in enumerate(files):
        say(done, len(files), file.name)
        try:
            source_hash = file_hash(file.path)
        except TalimError as error:
            work.skipped.append({"file": file.name, "reason": str(error).removeprefix(f"{file.path}: ")})
            continue
        twin = seen.get(source_hash)
        cut = None if twin else known_cut(out, source_hash, cutting)
        if cut is not None:
            work.reused += 1
        elif not twin:
            cut = make_cut(out, file, source_hash, cutting)
            work.decoded += not cut.problem
        if cut is not None and cut.clips:
            twin = seen.get(tuple(clip.audio_hash for clip in cut.clips))
        if twin or cut is None:
            work.skipped.append({"file": file.name, "reason": f"the same sound as {twin}"})
        elif cut.problem:
            work.skipped.append({"file": file.name, "reason": cut.problem})
        else:
            work.cuts[file.name] = cut
            seen[source_hash] = seen[tuple(clip.audio_hash for clip in cut.clips)] = file.name
    say(len(files), len(files), "recordings are cut")
    return work


def _describe_all(
    usable: list[SourceFile],
    rows: dict[str, dict[str, str]],
    edited: dict[str, dict[str, str]],
    describe: str | None,
    work: _Work,
) -> dict[str, Words]:
    """The words of every file; one whose words cannot be read is skipped and reported."""
    words: dict[str, Words] = {}
    for file in usable:
        try:
            own, typed = rows.get(file.name, {}), edited.get(file.name, {})
            words[file.name] = describe_file(file, own, typed, describe)
        except TalimError as error:
            work.skipped.append({"file": file.name, "reason": f"its words: {error}"})
    return words


def _edited_rows(out: Path) -> dict[str, dict[str, str]]:
    """What was typed into the corpus's own metadata.csv, by file name."""
    path = out / "metadata.csv"
    if not path.is_file():
        return {}
    rows = read_table(path)
    return {plain_name(row["file_name"]): {k: v for k, v in row.items() if k != "file_name"} for row in rows}


def _make_clips(words: dict[str, Words], work: _Work) -> list[Clip]:
    """Every clip, still on no side of the split, in the order of files and time."""
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


def _slugs(names: list[str], work: _Work) -> dict[str, str]:
    """A short readable name for every file, with a part of its hash where two would be the same."""
    plain = {name: re.sub(r"\W+", "-", Path(name).stem).strip("-").lower()[:60] or "clip" for name in names}
    count = Counter(plain.values())
    return {
        name: slug if count[slug] == 1 else f"{slug}-{work.cuts[name].source_hash[:8]}"
        for name, slug in plain.items()
    }


def _piece(clip: Clip) -> Piece:
    return Piece(clip.id, clip.recording, clip.performer, clip.source_file, clip.start_seconds, clip.seconds)


def _notes(work: _Work) -> list[dict[str, str]]:
    return [{"file": name, "note": note} for name, cut in sorted(work.cuts.items()) for note in cut.notes]


def _before(out: Path) -> dict[str, Any] | None:
    """The summary of the corpus as an earlier run left it, or None where there is none."""
    try:
        summary = json.loads((out / "summary.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) and (out / "corpus.jsonl").is_file() else None


def _report(before: dict[str, Any] | None, work: _Work, cutting: Cutting) -> dict[str, Any]:
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


def _store(corpus: Corpus) -> None:
    """Write the manifest, then the summary. In between there is no summary, so no mixture is ever loaded."""
    manifest, summary = corpus.folder / "corpus.jsonl", corpus.folder / "summary.json"
    lines = manifest_text(corpus.clips)
    words = json.dumps(corpus.summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        if manifest.read_text("utf-8") == lines and summary.read_text("utf-8") == words:
            return
    except (OSError, ValueError):
        pass
    with explained(summary):
        summary.unlink(missing_ok=True)
    write_text(manifest, lines)
    write_text(summary, words)


def _remove_stale(out: Path, work: _Work, cutting: Cutting) -> None:
    """Delete clips and notes that belong to no present source; after the new manifest is in place."""
    hashes = {cut.source_hash for cut in work.cuts.values()}
    notes = {cut_file(out, source_hash, cutting) for source_hash in hashes}
    clips = {out / clip.file for cut in work.cuts.values() for clip in cut.clips}
    with explained(out):
        for path in own_files(out):
            if path not in notes | clips:
                path.unlink()
        for path in (out / "clips").iterdir():
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def _remove_corpus(out: Path) -> None:
    """Take back what a first run wrote when no corpus can come of it; other files stay."""
    with explained(out):
        for path in own_files(out):
            path.unlink()
        (out / ".lock").unlink(missing_ok=True)
        for path in (*(out / "clips").glob("*"), out / "clips", out / "sources", out):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
