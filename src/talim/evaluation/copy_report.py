"""Clips that contain passages of the training recordings: passage and source by name and time, with audio."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.atomic_io import write_json, write_text
from talim.errors import UsageError
from talim.evaluation.copy_scores import fingerprint_of
from talim.html.audio_player import DecodedAudio, audio_player
from talim.html.render import render
from talim.metrics import audio_matching, copy_detection
from talim.metrics.cache import MetricCache
from talim.metrics.copy_detection import FALSE_POSITIVE_RATE, CopyMatch

MAX_NULL_CLIPS = 200  # pieces of the training set that are compared with one another, at most
CONTEXT_SECONDS = 0.5  # played before and after a passage


def find_copies(
    clips: Sequence[Path], training: Sequence[Path], cache: MetricCache, seed: int = 0
) -> dict[str, Any]:
    """The passage of each clip that is most like the training recordings, and whether it is a copy (p <= 0.01).

    Strangers are pieces of the training set, as long as the clips are in the middle, drawn by `seed`, each compared
    with the other recordings. UsageError for no clips or fewer than two recordings.
    """
    if not clips or len(training) < 2:
        raise UsageError(
            f"{len(clips)} clips and {len(training)} training recordings: at least 1 and 2 are needed, "
            "the recordings to tell what strangers share; name folders that hold sound files"
        )
    prints = {path: fingerprint_of(audio.read(path), cache) for path in {*clips, *training}}
    sources = audio_matching.build_reference_audio([prints[path] for path in training])
    frames = int(np.median([prints[path].shape[1] for path in clips]))
    strangers = _null_similarities(sources, frames, np.random.default_rng(seed))
    rows = []
    for path in clips:
        own = [n for n, other in enumerate(training) if other.resolve() == path.resolve()]
        finding = copy_detection.find_audio_copy(prints[path], sources, strangers, own)
        rows.append({"clip": str(path), **_as_dict(finding, training)})
    return {
        "gate": FALSE_POSITIVE_RATE,
        "training": len(training),
        "strangers": len(strangers),
        "copied": sum(row["copied"] for row in rows),
        "clips": sorted(rows, key=lambda row: row["finding"]["p_value"] if row["finding"] else 2.0),
    }


def _null_similarities(
    sources: audio_matching.ReferenceAudio, frames: int, rng: np.random.Generator
) -> np.ndarray:
    """Likeness of pieces of the sources, `frames` long, to the other sources [n]."""
    places = [
        (n, start)
        for n, made in enumerate(sources.prints)
        for start in range(0, max(1, made.shape[1] - frames + 1), frames)
    ]
    chosen = rng.permutation(len(places))[:MAX_NULL_CLIPS]
    found = [
        audio_matching.find_audio_match(sources.prints[n][:, start : start + frames], sources, [n])
        for n, start in (places[c] for c in chosen)
    ]
    return np.array([match.likeness for match in found if match is not None])


def _as_dict(finding: CopyMatch | None, training: Sequence[Path]) -> dict[str, Any]:
    if finding is None:
        return {"copied": False, "finding": None}
    named = {**asdict(finding), "source": str(training[finding.source])}
    return {"copied": finding.p_value <= FALSE_POSITIVE_RATE, "finding": named}


def copy_report(result: dict[str, Any]) -> str:
    """The findings as one page, with the passage and its source to hear where both files are there."""
    cards = [
        {
            **row,
            "name": Path(row["clip"]).name,
            "source": Path(row["finding"]["source"]).name if row["finding"] else None,
            "players": _players(row) if row["copied"] else [],
        }
        for row in result["clips"]
    ]
    return render("copies.html", result=result, cards=cards, version=version("talim"))


def _players(row: dict[str, Any]) -> list[Any]:
    """The passage in the clip and in the source, each with half a second around; none where a file is missing."""
    found = []
    for path, (start, end), label in (
        (row["clip"], row["finding"]["clip_seconds"], "the passage in the clip"),
        (row["finding"]["source"], row["finding"]["source_seconds"], "the passage in the source"),
    ):
        if not Path(path).is_file():
            return []
        first = max(0.0, start - CONTEXT_SECONDS)
        part = audio.read(path).mono().cut(first, end + CONTEXT_SECONDS - first)
        found.append((label, audio_player(DecodedAudio(part.samples.T, part.rate_hz), label)))
    return found


def list_audio_files(place: Path) -> list[Path]:
    """The sound files of a folder, or the file itself. UsageError for what is not there."""
    if not place.exists():
        raise UsageError(f"{place}: there is no such file or folder; name one that holds sound files")
    return sorted(p for p in place.rglob("*") if audio.is_audio_name(p)) if place.is_dir() else [place]


def find_copies_in_folders(
    clips: Path, training: Path, out: Path, cache: Path | None = None, seed: int = 0
) -> dict[str, Any]:
    """Search the audio files of `clips` for passages of those in `training`; write OUT/copies.json and copies.html.

    Both may be one file or a folder. `cache` is a folder that keeps fingerprints between calls.
    """
    result = find_copies(list_audio_files(clips), list_audio_files(training), MetricCache(cache), seed)
    write_json(out / "copies.json", result)
    write_text(out / "copies.html", copy_report(result))
    return result
