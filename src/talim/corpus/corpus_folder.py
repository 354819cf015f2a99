"""The files of a corpus folder: what an earlier run left, writing a new manifest, deleting what is stale."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from talim.atomic_io import friendly_os_errors, parse_json, write_text
from talim.corpus.changed_sides import tell_changed_sides
from talim.corpus.columns import recording_columns, with_known_columns
from talim.corpus.file_matching import FileMatcher
from talim.corpus.manifest import Corpus, manifest_text
from talim.corpus.recordings import normalize_path
from talim.corpus.segment import SegmentationConfig, SegmentedRecording, generated_files, segmentation_file
from talim.corpus.tables import format_lines, read_table
from talim.progress import Progress


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
