"""Scores of a folder of generated audio against a folder of real audio, without a run and without a model."""

from __future__ import annotations

import hashlib
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.atomic_io import write_json, write_text
from talim.audio import Audio, content_hash
from talim.audio.provenance import given_seconds
from talim.audio.read import read_mono_blocks
from talim.corpus.recordings import FileAudio, real_music_warning
from talim.errors import TalimError
from talim.evaluation import clip_measures, music_scores, score_table
from talim.evaluation.copy_scores import only_generated
from talim.evaluation.protocol import score_protocol
from talim.evaluation.score_table import ClipSet
from talim.html.formatting import format_counted
from talim.metrics import pitch
from talim.metrics.cache import MetricCache
from talim.progress import Progress, counted
from talim.run import provenance
from talim.terminal_text import one_line

CLIP_SECONDS = 10.0
MIN_CLIP_SECONDS = 1.0
MIN_CLIPS = 60  # long files are divided until a folder has so many clips, if it is long enough


def evaluate_folders(
    real: Path,
    generated: Path,
    *,
    out: Path | None = None,
    protocol: str = "default",
    num_workers: int = 1,
    seed: int = 0,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Measures and distances of the audio files in `generated`, with those in `real` as the reference.

    Files are divided into clips of equal length: 10 s, or the shortest file's length; of a continuation, by its tags,
    only what was generated. Every file counts as one recording: intervals and the reference of a distance (one half of
    the real files against the other) are by file.
    Returns `protocol`, `scores` and `warnings`; written to the JSON file `out`, and as a page next to it, if given.
    `protocol` "paper" adds the two Fréchet distances of the paper, which need their models' weights. TalimError for
    folders with fewer than two audio files or a file shorter than 1 s.
    """
    music_scores.check_protocol(protocol)
    progress = progress or Progress()
    files = {"real": _audio_files(real), "generated": _audio_files(generated)}
    given = {path: seconds for path in files["generated"] if (seconds := given_seconds(FileAudio(path).tags()))}
    lengths = {
        "real": _lengths(files["real"], {}, "real", progress),
        "generated": _lengths(files["generated"], given, "generated", progress),
    }
    clip_seconds, shortest = min((seconds, path) for group in lengths.values() for path, seconds in group.items())
    clip_seconds = min(CLIP_SECONDS, clip_seconds)
    real_set = _clip_set(lengths["real"], {}, clip_seconds, num_workers, progress, "real")
    generated_set = _clip_set(lengths["generated"], given, clip_seconds, num_workers, progress, "generated")
    rng, cache = np.random.default_rng(seed), MetricCache(None)
    rows = score_table.clip_measure_rows(generated_set, real_set, None)
    distances, warnings = score_table.distance_rows(generated_set, real_set, None, cache, rng, progress=progress)
    rows += distances
    if clip_seconds < CLIP_SECONDS - music_scores.LENGTH_TOLERANCE:
        lengths = f"{clip_seconds:.3g} s are compared instead of {CLIP_SECONDS:g} s"
        note = f"clips of {lengths}, as {shortest} is only that long"
        warnings = [note, *warnings]
    if given:
        warnings = [only_generated(len(given)), *warnings]
    not_real = real_music_warning(files["real"], "the scores compare with them as if they were real music")
    warnings = [f"of the real music, {not_real}"] * bool(not_real) + warnings
    if protocol == "paper":
        rows += music_scores.paper_distance_scores(generated_set, real_set, None, cache, rng)
    digest = hashlib.sha256("".join(map(content_hash, real_set.clips)).encode())
    facts = {
        "corpus": digest.hexdigest()[:16],
        "kind": protocol,
        "seconds": round(clip_seconds, 3),
        "rate_hz": pitch.RATE_HZ,
        "generated": len(generated_set.clips),
        "real": len(real_set.clips),
        "seed": seed,
    }
    result = {
        "protocol": score_protocol(facts),
        "scores": score_table.rows_as_json(rows),
        "warnings": warnings,
        "real": {"folder": str(real), "files": len(files["real"])},
        "generated": {"folder": str(generated), "files": len(files["generated"])},
        "provenance": provenance(),
        "command": f"talim evaluate --real {shlex.quote(str(real))} --generated {shlex.quote(str(generated))}",
    }
    if out is not None:
        write_json(out, result)
        write_text(out.with_suffix(".html"), score_table.score_page("Scores", result))
    return result


def _audio_files(folder: Path) -> list[Path]:
    files = audio.list_audio_files(folder)
    if len(files) < 2:
        raise TalimError(
            f"{folder}: {format_counted(len(files), 'audio file')}; two or more are needed, as intervals are by file"
        )
    return files


def _lengths(paths: list[Path], given: Mapping[Path, float], role: str, progress: Progress) -> dict[Path, float]:
    """The length of each file in seconds, without the phrase that was `given` at its beginning."""
    lengths = {}
    for number, path in enumerate(paths, start=1):
        remarks: list[str] = []
        blocks = read_mono_blocks(path, pitch.RATE_HZ, remarks, given.get(path, 0.0))
        lengths[path] = sum(block.size for block in blocks) / pitch.RATE_HZ
        for remark in remarks:
            progress.log(one_line(f"note: {path}: {remark}"))
        if lengths[path] < MIN_CLIP_SECONDS:
            raise TalimError(
                f"{path}: {lengths[path]:.2f} s; clips of at least {MIN_CLIP_SECONDS:g} s are needed, "
                "so move it out of the folder"
            )
        progress.step(f"reading {role} audio", number, len(paths))
    return lengths


def _clip_set(
    lengths: dict[Path, float],
    given: Mapping[Path, float],
    clip_seconds: float,
    num_workers: int,
    progress: Progress,
    role: str,
) -> ClipSet:
    """Clips of equal length, spread evenly over each file; a file has at least one."""
    per_file = max(1, round(MIN_CLIPS / len(lengths)))
    clips: list[Audio] = []
    names: list[str] = []
    for path, seconds in counted(lengths.items(), len(lengths), progress, f"cutting {role} audio into clips"):
        count = min(per_file, max(1, int(seconds / clip_seconds + 1e-6)))
        last_start = seconds - clip_seconds
        starts = np.linspace(0, last_start, count) if count > 1 else [last_start / 2]
        clips += _cut(path, given.get(path, 0.0), [max(0.0, float(start)) for start in starts], clip_seconds)
        names += [str(path)] * count
    measures = clip_measures.measure_clips(clips, None, num_workers, progress, f"measuring {role} audio")
    return ClipSet(clips, measures, names)


def _cut(path: Path, first_seconds: float, starts: Sequence[float], clip_seconds: float) -> list[Audio]:
    """Clips of a file from `first_seconds` on, in one channel at 16 kHz; only the clips are held in memory."""
    size = round(clip_seconds * pitch.RATE_HZ)
    firsts = [round(start * pitch.RATE_HZ) for start in starts]
    clips = [np.zeros(size, np.float32) for _ in firsts]
    ends = [0] * len(firsts)  # how much of each clip is there
    at = 0
    for block in read_mono_blocks(path, pitch.RATE_HZ, [], first_seconds):
        for number, first in enumerate(firsts):
            low, high = max(first, at), min(first + size, at + block.size)
            if low < high:
                clips[number][low - first : high - first] = block[low - at : high - at]
                ends[number] = high - first
        at += block.size
    return [Audio(clip[:end], pitch.RATE_HZ) for clip, end in zip(clips, ends, strict=True)]
