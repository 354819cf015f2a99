"""One recording -> clip files, and a note of what was made, so that nothing is decoded twice."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from talim.atomic_io import write_bytes, write_text
from talim.audio import Audio, AudioError, content_hash, read, write
from talim.audio.levels import RecordingLevels, measure_levels
from talim.corpus.clip_boundaries import MIN_CLIP_SECONDS, active_regions, clip_boundaries, conform_audio
from talim.corpus.near_duplicates import fingerprint_landmarks, pack_landmarks, unpack_landmarks
from talim.corpus.recordings import SourceFile
from talim.errors import TalimError

ProgressCallback = Callable[[int, int, str], None]  # files done, files in all, what is being done

_SEGMENTATION_VERSION = 2  # raise it when the same options would cut other clips


@dataclass(frozen=True)
class SegmentationConfig:
    """How recordings become clips; any change makes all clips anew."""

    clip_seconds: float
    rate_hz: int
    channels: int

    @property
    def key(self) -> str:
        """Eight hex digits that name this way of cutting."""
        text = json.dumps([_SEGMENTATION_VERSION, float(self.clip_seconds), self.rate_hz, self.channels])
        return hashlib.sha256(text.encode()).hexdigest()[:8]


class Segment(BaseModel):
    """A clip file as it was cut: where it lies in the corpus and where it came from in its source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    start_seconds: float
    seconds: float
    audio_hash: str
    bytes: int


class SegmentedRecording(BaseModel):
    """What became of one source file: its clips, or why there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_hash: str
    cutting: str
    clips: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None
    skipped_seconds: float = 0.0
    levels: RecordingLevels | None = None  # of the whole source; None where it cannot be used


def segmentation_file(corpus: Path, source_hash: str, cutting: SegmentationConfig) -> Path:
    """Where the note on one source lies."""
    return corpus / "sources" / f"{source_hash[:24]}-{cutting.key}.json"


def landmarks_file(corpus: Path, source_hash: str, cutting: SegmentationConfig) -> Path:
    """Where one source's landmarks lie, by which near-duplicates are found."""
    return segmentation_file(corpus, source_hash, cutting).with_suffix(".npy")


def load_landmarks(corpus: Path, source_hash: str, cutting: SegmentationConfig) -> np.ndarray:
    """The landmarks that were kept of a source; none where the file is gone or damaged."""
    try:
        return unpack_landmarks(landmarks_file(corpus, source_hash, cutting).read_bytes())
    except (OSError, ValueError):
        return np.empty((0, 2), np.uint32)


def load_segmentation(
    corpus: Path, source_hash: str, cutting: SegmentationConfig
) -> SegmentedRecording | None:
    """What an earlier run made of this very file, or None where it has to be made (again)."""
    try:
        cut = SegmentedRecording.model_validate_json(
            segmentation_file(corpus, source_hash, cutting).read_bytes()
        )
        whole = all((corpus / clip.file).stat().st_size == clip.bytes for clip in cut.clips)
        whole = whole and landmarks_file(corpus, source_hash, cutting).is_file()
    except (OSError, ValidationError):
        return None
    return cut if whole and cut.source_hash == source_hash and cut.cutting == cutting.key else None


def segment_file(
    corpus: Path, file: SourceFile, source_hash: str, cutting: SegmentationConfig
) -> SegmentedRecording:
    """Decode a recording, write its clips as FLAC, then the note on them; or say why it cannot be used.

    Raises TalimError only where the corpus cannot be written.
    """
    try:
        sound = file.sound.read()
        fitted, notes, points = _conform_and_split(sound, cutting)
    except (TalimError, MemoryError) as error:  # such a note is not kept: the file is tried again
        reason = str(error).removeprefix(f"{file.path}: ")
        if isinstance(error, MemoryError):
            reason = "too long for this machine's memory; cut it into parts"
        return SegmentedRecording(source_hash=source_hash, cutting=cutting.key, problem=reason)
    cut = SegmentedRecording(
        source_hash=source_hash,
        cutting=cutting.key,
        clips=tuple(_write_clip(corpus, fitted, at, end, source_hash, cutting) for at, end in points),
        notes=tuple(notes),
        skipped_seconds=round(fitted.seconds - sum(end - at for at, end in points) / fitted.rate_hz, 3),
        levels=measure_levels(sound),
    )
    write_bytes(landmarks_file(corpus, source_hash, cutting), pack_landmarks(fingerprint_landmarks(fitted)))
    write_text(segmentation_file(corpus, source_hash, cutting), cut.model_dump_json(indent=1) + "\n")
    return cut


def generated_files(corpus: Path) -> list[Path]:
    """The clips and notes that talim wrote into a corpus, and what a killed run left half-written.

    They are told from anything else by their names.
    """
    clips = [
        path for path in corpus.glob("clips/*/*.flac") if re.fullmatch(r"[0-9a-f]{12}-\d{8,}", path.stem)
    ]
    kept = [*corpus.glob("sources/*.json"), *corpus.glob("sources/*.npy")]
    notes = [path for path in kept if re.fullmatch(r"[0-9a-f]{24}-\w{8}", path.stem)]
    torn = [*corpus.glob("clips/*/.tmp-*.flac"), *corpus.glob("sources/.*.part"), *corpus.glob(".*.part")]
    return clips + notes + torn


def _conform_and_split(
    audio: Audio, cutting: SegmentationConfig
) -> tuple[Audio, list[str], list[tuple[int, int]]]:
    """The sound at the corpus's rate, notes on it, and its clips as [start, stop) in samples."""
    if audio.seconds < MIN_CLIP_SECONDS:
        raise AudioError(f"too short: {audio.seconds:.2f} s, at least {MIN_CLIP_SECONDS:.0f} s are needed")
    fitted, notes = conform_audio(audio, cutting.rate_hz, cutting.channels)
    stretches = active_regions(fitted)
    if not stretches:
        raise AudioError("silent: nothing in it is louder than -70 dBFS")
    points = clip_boundaries(stretches, fitted.rate_hz, cutting.clip_seconds)
    if not points:
        raise AudioError(f"almost silent: no stretch of {MIN_CLIP_SECONDS:.0f} s sounds")
    return fitted, notes, points


def _write_clip(
    corpus: Path, audio: Audio, start: int, stop: int, source_hash: str, cutting: SegmentationConfig
) -> Segment:
    name = f"clips/{cutting.key}/{source_hash[:12]}-{round(1000 * start / audio.rate_hz):08d}.flac"
    path = corpus / name
    write(path, Audio(audio.samples[:, start:stop], audio.rate_hz))
    return Segment(
        file=name,
        start_seconds=round(start / audio.rate_hz, 4),
        seconds=round((stop - start) / audio.rate_hz, 4),
        audio_hash=content_hash(read(path)),  # of what is stored: 16 bits
        bytes=path.stat().st_size,
    )


@dataclass
class PrepareStats:
    """What one call did, file by file."""

    cuts: dict[str, SegmentedRecording] = field(default_factory=dict)  # by file name
    skipped: list[dict[str, str]] = field(default_factory=list)
    decoded: int = 0
    reused: int = 0


def segment_all(
    files: Sequence[SourceFile], out: Path, cutting: SegmentationConfig, progress: ProgressCallback | None
) -> PrepareStats:
    """Cut every file that is new or changed; the same sound found twice is used once."""
    say = progress or (lambda done, total, what: None)
    work = PrepareStats()
    seen: dict[object, str] = {}
    for done, file in enumerate(files):
        say(done, len(files), file.name)
        try:
            source_hash = file.sound.hash()
        except TalimError as error:
            work.skipped.append({"file": file.name, "reason": str(error).removeprefix(f"{file.path}: ")})
            continue
        twin = seen.get(source_hash)
        cut = None if twin else load_segmentation(out, source_hash, cutting)
        if cut is not None:
            work.reused += 1
        elif not twin:
            cut = segment_file(out, file, source_hash, cutting)
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
    return work
