"""What lies in a corpus's folder: read what is there, put a new manifest in place, clear what is stale."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path
from typing import Any

from talim.atomic_io import friendly_os_errors, write_text
from talim.corpus.manifest import Corpus, manifest_text
from talim.corpus.metadata import read_table
from talim.corpus.recordings import normalize_path
from talim.corpus.segment import SegmentationConfig, SegmentedRecording, generated_files, segmentation_file


def read_edited_captions(out: Path) -> dict[str, dict[str, str]]:
    """What was typed into the corpus's own metadata.csv, by file name."""
    path = out / "metadata.csv"
    if not path.is_file():
        return {}
    rows = read_table(path)
    return {
        normalize_path(row["file_name"]): {k: v for k, v in row.items() if k != "file_name"} for row in rows
    }


def previous_summary(out: Path) -> dict[str, Any] | None:
    """The summary of the corpus as an earlier run left it, or None where there is none."""
    try:
        summary = json.loads((out / "summary.json").read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return summary if isinstance(summary, dict) and (out / "corpus.jsonl").is_file() else None


def write_corpus(corpus: Corpus) -> None:
    """Write the manifest, then the summary. In between there is no summary, so no mixture is ever loaded."""
    manifest, summary = corpus.folder / "corpus.jsonl", corpus.folder / "summary.json"
    lines = manifest_text(corpus.clips)
    words = json.dumps(corpus.summary, indent=2, ensure_ascii=False, allow_nan=False) + "\n"
    try:
        if manifest.read_text("utf-8") == lines and summary.read_text("utf-8") == words:
            return
    except (OSError, ValueError):
        pass
    with friendly_os_errors(summary):
        summary.unlink(missing_ok=True)
    write_text(manifest, lines)
    write_text(summary, words)


def remove_stale(out: Path, cuts: Collection[SegmentedRecording], cutting: SegmentationConfig) -> None:
    """Delete clips and notes that belong to no present source; after the new manifest is in place."""
    hashes = {cut.source_hash for cut in cuts}
    notes = {segmentation_file(out, source_hash, cutting) for source_hash in hashes}
    notes |= {path.with_suffix(".npy") for path in notes}
    clips = {out / clip.file for cut in cuts for clip in cut.clips}
    with friendly_os_errors(out):
        for path in generated_files(out):
            if path not in notes | clips:
                path.unlink()
        for path in (out / "clips").iterdir():
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()


def remove_corpus(out: Path) -> None:
    """Take back what a first run wrote when no corpus can come of it; other files stay."""
    with friendly_os_errors(out):
        for path in generated_files(out):
            path.unlink()
        (out / ".lock").unlink(missing_ok=True)
        for path in (*(out / "clips").glob("*"), out / "clips", out / "sources", out):
            if path.is_dir() and not any(path.iterdir()):
                path.rmdir()
