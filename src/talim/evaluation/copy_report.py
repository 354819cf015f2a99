"""`talim copies`: which clips contain passages of a folder's recordings, with the passages to listen to."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.atomic_io import write_json, write_text
from talim.audio.provenance import given_seconds
from talim.audio.read import read_part
from talim.corpus.recordings import FileAudio, file_hash, real_music_warning
from talim.errors import TalimError
from talim.evaluation import copy_scores
from talim.evaluation.copy_scores import MIN_NULL_CLIPS, fingerprint_of_file
from talim.html.audio_player import DecodedAudio, audio_player
from talim.html.formatting import format_counted
from talim.html.render import render
from talim.metrics import audio_matching, copy_detection
from talim.metrics.array_store import ArrayStore
from talim.metrics.cache import MetricCache
from talim.progress import Progress, counted

MAX_NULL_CLIPS = 200  # segments of the training set that are compared with one another, at most
CONTEXT_SECONDS = 0.5  # played before and after a passage


def find_copies_in_folders(
    clips: Path, training: Path, out: Path, cache: Path | None = None, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """`find_copies` of the audio files in two folders; writes OUT/copies.json and OUT/copies.html.

    `cache` is a folder that keeps fingerprints between calls. TalimError for folders that do not exist or hold too
    few files.
    """
    files = _audio_files(clips, "pieces to look for copies in"), _audio_files(training, "recordings")
    result = find_copies(*files, MetricCache(cache), seed, progress)
    result["folder"] = str(training)
    result["warning"] = real_music_warning(files[1], "they are searched as if they were recordings")
    write_json(out / "copies.json", result)
    write_text(out / "copies.html", copy_report(result))
    return result


def find_copies(
    clips: Sequence[Path], training: Sequence[Path], cache: MetricCache, seed: int = 0, progress: Progress | None = None
) -> dict[str, Any]:
    """The passage of each clip that is most similar to the training recordings, and whether it is a copy (p <= 0.01).

    The null distribution comes from segments of the training recordings, of the clips' median length and drawn by
    `seed`, each compared with the other recordings. Files are read in
    blocks; of a continuation that begins with the phrase given, by its tags, only what was generated is compared, and
    `continuations` counts them. TalimError for no clips or fewer than two recordings.
    """
    if not clips or not training:
        raise TalimError("a clip and recordings to compare it with are needed")
    if len(training) == 1:
        raise TalimError(
            f"{training[0]}: one recording is not enough. What counts as a copy is told by how much two recordings "
            "have in common of which neither copies the other, so there have to be two at least: name a folder with "
            "this one and others of the same kind of music"
        )
    progress = progress or Progress()
    progress.log(
        f"{format_counted(len(clips), 'clip')} to compare with {format_counted(len(training), 'recording')}; before "
        f"that, up to {MAX_NULL_CLIPS} segments of the recordings are compared with one another, and the time left is "
        "told after the first of these. What `talim evaluate` generates it has itself compared with the clips that "
        "were trained on: where that is all you want, this search is not needed"
    )
    key = _key_of(training, cache)
    read = counted(training, len(training), progress, "reading recordings")
    prints = (fingerprint_of_file(path, cache) for path in read)
    sources = audio_matching.build_reference_audio(prints, progress=progress)
    given = [given_seconds(FileAudio(path).tags()) for path in clips]
    pairs = counted(zip(clips, given, strict=True), len(clips), progress, "reading clips")
    own = ArrayStore(fingerprint_of_file(path, cache, start) for path, start in pairs)
    lengths = {str(path): (own.shape(n)[1] - 1) * audio_matching.HOP_SECONDS for n, path in enumerate(clips)}
    enough = [seconds for seconds in lengths.values() if seconds >= audio_matching.MIN_CLIP_SECONDS]
    clip_seconds = float(np.median(enough)) if enough else 0.0
    frames = round(clip_seconds / audio_matching.HOP_SECONDS)
    null = copy_scores.NO_NULL
    if enough:
        null = _null_similarities(sources, frames, np.random.default_rng(seed), progress, cache, key)
    matches = {}
    each = zip(clips, own, given, strict=True)
    for path, fingerprint, start in counted(each, len(clips), progress, "looking for copies in clips"):
        itself = [n for n, other in enumerate(training) if other.resolve() == path.resolve()]
        match = copy_detection.find_audio_copy(fingerprint, sources, null, itself)
        if match is not None:  # its times are those of the file
            first, last = match.clip_seconds
            match = replace(match, clip_seconds=(start + first, start + last))
        matches[str(path)] = match
    reason = _shortfall(len(null), clip_seconds) if enough else copy_scores.too_short([*lengths.values()])
    result = copy_scores.copies_as_dict(matches, lengths, training, len(null), reason)
    result["compared"] = ["copied_sound"]
    result["continuations"] = sum(start > 0 for start in given)
    result["clips"].sort(key=lambda row: row["match"]["p_value"] if row["match"] else 2.0)
    return result


def _shortfall(stretches: int, clip_seconds: float) -> str:
    """Why nothing can be checked where the recordings give too few stretches to compare; else empty."""
    if stretches >= MIN_NULL_CLIPS:
        return ""
    of = (
        f"stretches of the recordings, each as long as a clip ({clip_seconds:.3g} s) and each compared with "
        f"others of at least {audio_matching.PASSAGE_SECONDS:g} s"
    )
    return f"{copy_scores.null_needed(of, stretches)}: give more or longer recordings"


def _null_similarities(
    sources: audio_matching.ReferenceAudio,
    frames: int,
    rng: np.random.Generator,
    progress: Progress,
    cache: MetricCache,
    key: str,
) -> np.ndarray:
    """Similarity of segments of the sources, `frames` long, to the other sources [n]; kept in the cache by the `key`.

    How much unrelated music has in common decides what counts as a copy, and how often that is a false alarm.
    """
    segments = [
        (n, start)
        for n, fingerprint in enumerate(sources.prints)
        for start in range(0, max(1, fingerprint.shape[1] - frames + 1), frames)
    ]
    drawn = [segments[index] for index in rng.permutation(len(segments))[:MAX_NULL_CLIPS]]
    of = format_counted(len(sources.prints), "recording")
    progress.log(
        f"first, what unrelated music has in common, by which a copy is told: {format_counted(len(drawn), 'segment')} "
        f"of {frames * audio_matching.HOP_SECONDS:.3g} s of {of}, each compared with the others"
    )

    def similarities(n: int, start: int) -> np.ndarray:
        match = audio_matching.find_audio_match(sources.prints[n][:, start : start + frames], sources, [n])
        return np.array([] if match is None else [match.similarity])

    found = []
    for n, start in counted(drawn, len(drawn), progress, "segments of recordings compared with the others"):
        identity = f"null/{audio_matching.VERSION}/{frames}/{n}/{start}"
        found.append(cache.get_by_key(key, identity, lambda at=(n, start): similarities(*at)))
    return np.concatenate(found)


def _key_of(training: Sequence[Path], cache: MetricCache) -> str:
    """A hash of the training recordings in their order; no file is read for a cache that keeps nothing."""
    if cache.folder is None:
        return ""
    return hashlib.sha256("".join(map(file_hash, training)).encode()).hexdigest()


def _audio_files(path: Path, what: str) -> list[Path]:
    """The audio files of a folder; TalimError where there is none."""
    files = audio.list_audio_files(path)
    if not files:
        there = "is empty" if not any(path.iterdir()) else "holds no audio file"
        raise TalimError(f"{path}: {there}; name a folder with the {what}, for example .wav or .flac files")
    return files


def copy_report(result: dict[str, Any]) -> str:
    """The matches as one HTML page, with players of the passage and its source where both files exist."""
    cards = [
        {
            **row,
            "name": Path(row["clip"]).name,
            "source": Path(row["match"]["source"]).name if row["match"] else None,
            "players": _players(row) if row["copied"] else [],
            "reason": "; ".join(copy_scores.reasons_not_checked([row], result["not_checked"]))
            if row["copied"] is None
            else "",
        }
        for row in result["clips"]
    ]
    sentence = copy_scores.copies_sentence(result)
    return render("copies.html", result=result, sentence=sentence, cards=cards, version=version("talim"))


def _players(row: dict[str, Any]) -> list[Any]:
    """Players of the passage in the clip and in the source, with context; none if a file is missing."""
    players = []
    for path, (start, end), label in (
        (row["clip"], row["match"]["clip_seconds"], "the passage in the clip"),
        (row["match"]["source"], row["match"]["source_seconds"], "the passage in the source"),
    ):
        if not Path(path).is_file():
            return []
        first = max(0.0, start - CONTEXT_SECONDS)
        part = read_part(path, first, end + CONTEXT_SECONDS - first).mono()
        players.append((label, audio_player(DecodedAudio(part.samples.T, part.rate_hz), label)))
    return players
