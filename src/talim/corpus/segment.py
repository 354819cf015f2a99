"""Cuts recordings into clip files, with a record of each so that no file is decoded twice.

Silence is skipped, the rest divided evenly. A recording is on disk at the corpus's rate and channels while its clips
are cut (`ResampledSound`), so that memory does not follow its length.
"""

from __future__ import annotations

import hashlib
import json
import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from pydantic import BaseModel, ConfigDict, ValidationError

from talim.atomic_io import write_bytes, write_text
from talim.audio import Audio, AudioError, content_hash, read, write
from talim.audio.audio import Resampler
from talim.audio.decode import stated_seconds
from talim.audio.levels import (
    FRAME_SECONDS,
    MIN_LOUD_DBFS,
    Extremes,
    FrameLevelMeter,
    LevelMeter,
    RecordingLevels,
    silent_levels,
)
from talim.corpus.near_duplicates import LandmarkFinder, pack_landmarks, unpack_landmarks
from talim.corpus.recordings import AudioSource, SourceFile
from talim.errors import TalimError
from talim.progress import Progress
from talim.terminal_text import one_line

PROGRESS_TITLE = "preparing recordings"
_SEGMENTATION_VERSION = 3  # raise it when the same options would cut other clips
MIN_CLIP_SECONDS = 1.0
_SKIPPED_SILENCE_SECONDS = 2.0  # shorter pauses are part of the music
_MARGIN_SECONDS = 0.1  # added around active regions, to keep attacks and decays
_HELD_SAMPLES = 16_000_000  # shorter sounds stay in memory and are decoded once
_SPOOL_BYTES = 64_000_000  # a resampled sound beyond this goes to disk
_BLOCK_FRAMES = 1 << 19


@dataclass(frozen=True)
class SegmentationConfig:
    """How recordings become clips; any change cuts all clips anew."""

    clip_seconds: float
    rate_hz: int
    channels: int

    @property
    def key(self) -> str:
        """Eight hex digits that identify the configuration."""
        text = json.dumps([_SEGMENTATION_VERSION, float(self.clip_seconds), self.rate_hz, self.channels])
        return hashlib.sha256(text.encode()).hexdigest()[:8]


class Segment(BaseModel):
    """A clip file: its path in the corpus and its position in the source."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    start_seconds: float
    seconds: float
    audio_hash: str
    bytes: int


class SegmentedRecording(BaseModel):
    """What became of one source file: its clips, or in `problem` why there are none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source_hash: str
    config_key: str
    clips: tuple[Segment, ...] = ()
    notes: tuple[str, ...] = ()
    problem: str | None = None
    silence_skipped_seconds: float = 0.0
    levels: RecordingLevels | None = None  # of the whole source; None where it cannot be used


def segmentation_file(corpus: Path, source_hash: str, config: SegmentationConfig) -> Path:
    """The JSON record of one segmented source; its landmarks (.npy) lie beside it."""
    return corpus / "sources" / f"{source_hash[:24]}-{config.key}.json"


def load_landmarks(corpus: Path, source_hash: str, config: SegmentationConfig) -> np.ndarray:
    """The stored landmarks of a source, uint32 [n, 2]; none where the file is missing or damaged."""
    try:
        path = segmentation_file(corpus, source_hash, config).with_suffix(".npy")
        return unpack_landmarks(path.read_bytes())
    except (OSError, ValueError):
        return np.empty((0, 2), np.uint32)


def load_segmentation(corpus: Path, source_hash: str, config: SegmentationConfig) -> SegmentedRecording | None:
    """The stored segmentation of this very file, or None where it is missing or incomplete."""
    record = segmentation_file(corpus, source_hash, config)
    try:
        segmented = SegmentedRecording.model_validate_json(record.read_bytes())
        complete = all((corpus / clip.file).stat().st_size == clip.bytes for clip in segmented.clips)
    except (OSError, ValidationError):
        return None
    complete = complete and record.with_suffix(".npy").is_file()
    same = (segmented.source_hash, segmented.config_key) == (source_hash, config.key)
    return segmented if complete and same else None


def segment_file(
    corpus: Path,
    file: SourceFile,
    source_hash: str,
    config: SegmentationConfig,
    on_progress: Callable[[float, int], None] = lambda seconds, number: None,
) -> SegmentedRecording:
    """Decode a recording, write its clips as FLAC, then their record; or say why the file cannot be used.

    Raises TalimError only where the corpus cannot be written. `on_progress` is that of `ResampledSound`.
    """
    try:
        sound = ResampledSound(file.audio, config.rate_hz, config.channels, corpus / "sources", on_progress)
    except Exception as error:  # no record is stored: the next run tries the file again
        if isinstance(error, OSError) and not isinstance(error, TalimError):
            raise TalimError(f"{corpus}: cannot be written: {error.strerror or error}") from error
        return SegmentedRecording(source_hash=source_hash, config_key=config.key, problem=_problem(error, file.path))
    with sound:
        try:
            boundaries = _clips_of(sound, config)
        except AudioError as error:
            problem = "; ".join([str(error), *sound.notes]).replace("; what is there is used", "")
            return SegmentedRecording(source_hash=source_hash, config_key=config.key, problem=problem)
        used_seconds = sum(stop - start for start, stop in boundaries) / sound.rate_hz
        segmented = SegmentedRecording(
            source_hash=source_hash,
            config_key=config.key,
            clips=tuple(_write_clip(corpus, sound, start, stop, source_hash, config) for start, stop in boundaries),
            notes=tuple(sound.notes),
            silence_skipped_seconds=round(sound.seconds - used_seconds, 3),
            levels=sound.levels,
        )
        finder = LandmarkFinder(sound.rate_hz)
        for block in sound.blocks():
            finder.add(block)
    record = segmentation_file(corpus, source_hash, config)
    write_bytes(record.with_suffix(".npy"), pack_landmarks(finder.landmarks()))
    write_text(record, segmented.model_dump_json(indent=1) + "\n")
    return segmented


def _problem(error: Exception, path: Path) -> str:
    """Why a file cannot be used, in a line; what nobody foresaw with its type, so that it can be reported."""
    if isinstance(error, MemoryError):
        return "too large for this machine's memory; cut it into parts"
    text = " ".join(str(error).removeprefix(f"{path}: ").split())
    return text if isinstance(error, TalimError) else f"cannot be decoded ({type(error).__name__}: {text[:200]})"


def generated_files(corpus: Path) -> list[Path]:
    """Clips and records that talim wrote, recognised by their names, and partial files of a killed run."""
    clips = [path for path in corpus.glob("clips/*/*.flac") if re.fullmatch(r"[0-9a-f]{12}-\d{8,}", path.stem)]
    records = [*corpus.glob("sources/*.json"), *corpus.glob("sources/*.npy")]
    records = [path for path in records if re.fullmatch(r"[0-9a-f]{24}-\w{8}", path.stem)]
    partial = [path for place in ("clips/*", "sources", ".") for path in corpus.glob(f"{place}/.*.part")]
    return clips + records + partial


def _clips_of(sound: ResampledSound, config: SegmentationConfig) -> list[tuple[int, int]]:
    """The clips of a sound as [start, stop) in samples; AudioError where there are none."""
    if sound.source_seconds < MIN_CLIP_SECONDS:
        raise AudioError(f"too short: {sound.source_seconds:.2f} s, at least {MIN_CLIP_SECONDS:.0f} s are needed")
    regions = active_regions(sound.frame_levels_dbfs, sound.frames, sound.rate_hz)
    if not regions:
        loud = sound.levels.peak_dbfs is not None and sound.levels.peak_dbfs > MIN_LOUD_DBFS
        what = "a constant voltage, no sound" if loud else "silent"
        raise AudioError(f"{what}: nothing in it that changes is louder than {MIN_LOUD_DBFS:.0f} dBFS")
    boundaries = clip_boundaries(regions, sound.rate_hz, config.clip_seconds)
    if not boundaries:
        raise AudioError(f"almost silent: no stretch of {MIN_CLIP_SECONDS:.0f} s is above the silence threshold")
    return boundaries


def active_regions(levels_dbfs: np.ndarray, frames: int, rate_hz: int) -> list[tuple[int, int]]:
    """Regions [start, stop) in samples that are not silent, separated by silences of 2 s and more.

    `levels_dbfs` [n] are those of `talim.audio.levels.frame_levels_dbfs`, of a sound of `frames` samples.
    """
    if frames == 0:
        return []
    active = np.flatnonzero(~silent_levels(levels_dbfs))
    if not active.size:
        return []
    frame, margin = (round(seconds * rate_hz) for seconds in (FRAME_SECONDS, _MARGIN_SECONDS))
    breaks = np.flatnonzero(np.diff(active) * FRAME_SECONDS > _SKIPPED_SILENCE_SECONDS)
    starts = active[np.concatenate([[0], breaks + 1])] * frame - margin
    stops = (active[np.concatenate([breaks, [len(active) - 1]])] + 1) * frame + margin
    return [(max(0, int(a)), min(frames, int(b))) for a, b in zip(starts, stops, strict=True)]


def clip_boundaries(regions: list[tuple[int, int]], rate_hz: int, clip_seconds: float) -> list[tuple[int, int]]:
    """Clips [start, stop) in samples: each region divided evenly; a remainder shorter than 1 s is dropped."""
    length, shortest = round(clip_seconds * rate_hz), round(MIN_CLIP_SECONDS * rate_hz)
    return [
        (clip_start, min(clip_start + length, stop))
        for start, stop in regions
        for clip_start in range(start, stop, length)
        if min(clip_start + length, stop) - clip_start >= shortest
    ]


def _write_clip(
    corpus: Path, sound: ResampledSound, start: int, stop: int, source_hash: str, config: SegmentationConfig
) -> Segment:
    name = f"clips/{config.key}/{source_hash[:12]}-{round(1000 * start / sound.rate_hz):08d}.flac"
    path = corpus / name
    write(path, sound.cut(start, stop))
    return Segment(
        file=name,
        start_seconds=round(start / sound.rate_hz, 4),
        seconds=round((stop - start) / sound.rate_hz, 4),
        audio_hash=content_hash(read(path)),  # of the stored 16 bits
        bytes=path.stat().st_size,
    )


def copy_row(name: str, original: str, what: str) -> dict[str, str]:
    """The row in `skipped` of a file that holds nothing but what another one holds."""
    return {"file": name, "reason": f"the same {what} as {original}", "copy_of": original}


@dataclass
class PrepareStats:
    """What one call did with each file."""

    segmented: dict[str, SegmentedRecording] = field(default_factory=dict)  # by file name
    skipped: list[dict[str, str]] = field(default_factory=list)  # rows {"file", "reason"}, and "copy_of" of copies
    decoded: int = 0
    reused: int = 0


def segment_all(files: Sequence[SourceFile], out: Path, config: SegmentationConfig, progress: Progress) -> PrepareStats:
    """Segment every new or changed file; of files with equal bytes or equal clips only the first is used.

    Give the file that is to be kept of such ones first.
    """
    stats = PrepareStats()
    used: dict[object, str] = {}  # source hash, and tuple of clip hashes -> file name
    for done, file in enumerate(files):
        progress.step(PROGRESS_TITLE, done, len(files), file.name)
        try:
            source_hash = file.audio.hash()
        except Exception as error:
            stats.skipped.append({"file": file.name, "reason": _problem(error, file.path)})
            continue
        duplicate_of, segmented = used.get(source_hash), None
        if duplicate_of is None:
            segmented = load_segmentation(out, source_hash, config)
            if segmented:
                stats.reused += 1
            else:
                segmented = segment_file(out, file, source_hash, config, _minutes_shown(file, progress))
                stats.decoded += not segmented.problem
            duplicate_of = used.get(tuple(clip.audio_hash for clip in segmented.clips))
        if segmented is not None and segmented.problem:
            stats.skipped.append({"file": file.name, "reason": segmented.problem})
        elif segmented is None or duplicate_of is not None:
            stats.skipped.append(copy_row(file.name, duplicate_of or "", "audio"))
        else:
            stats.segmented[file.name] = segmented
            for note in segmented.notes:
                progress.log(one_line(f"note: {file.name}: {note}"))
            used[source_hash] = used[tuple(clip.audio_hash for clip in segmented.clips)] = file.name
    return stats


def _minutes_shown(file: SourceFile, progress: Progress) -> Callable[[float, int], None]:
    """Tells the progress within a long file: minutes of sound, in the two passes of `ResampledSound`."""
    total: int | None = None

    def show(seconds: float, number: int) -> None:
        nonlocal total
        minutes = int(seconds / 60)
        if total is None and minutes:
            total = max(minutes + 1, round(stated_seconds(file.path) / 60))
        if total is not None:
            title = f"measuring {file.name}, minutes" if number == 1 else f"cutting {file.name}, minutes"
            progress.step(title, min(minutes, total - 1), total)

    return show


class ResampledSound:
    """The sound of a recording at `rate_hz` in `channels`, within full scale; use it as a context manager.

    Two passes over the source: the first finds peaks and whether channels cancel out, the second measures levels and
    resamples. `notes` says what was changed or is incomplete; `levels` are those of the source; `frame_levels_dbfs` are
    those of this sound. `on_progress` is told the seconds of source that are done, and in which of the two passes.
    """

    def __init__(
        self,
        source: AudioSource,
        rate_hz: int,
        channels: int,
        folder: Path,
        on_progress: Callable[[float, int], None] = lambda seconds, number: None,
    ) -> None:
        self.rate_hz, self.channels = rate_hz, channels
        self.notes: list[str] = []
        self.frames = 0
        blocks = _Blocks(source, self.notes)
        extremes, source_rate_hz = _measure_extremes(blocks, on_progress)
        self.source_seconds = extremes.frames / source_rate_hz
        mix = self._mixing(extremes)
        meter = LevelMeter(source_rate_hz, extremes)
        converted = Extremes(channels)
        frame_levels = FrameLevelMeter(rate_hz, channels)
        resampler = Resampler(source_rate_hz, rate_hz, channels)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=str(folder), prefix=".", suffix=".part")  # noqa: SIM115
        try:
            for samples in _resampled(blocks, mix, resampler, meter, on_progress):
                converted.add(samples)
                frame_levels.add(samples)
                self._file.write(np.ascontiguousarray(samples.T, dtype="<f4").data)
                self.frames += samples.shape[1]
        except BaseException:
            self._file.close()
            raise
        self.levels: RecordingLevels = meter.levels()
        peak = converted.peak  # resampling may overshoot even where the source fits
        self._gain = 1 / peak if peak > 1 else 1.0
        self.frame_levels_dbfs = frame_levels.levels_dbfs() + 20 * np.log10(self._gain)  # [n], frames of 50 ms

    def _mixing(self, extremes: Extremes) -> Callable[[Audio], Audio]:
        """How channels become those of the corpus; notes what is unusual."""
        if extremes.peak > 1.001:
            self.notes.append(f"peaks {20 * np.log10(extremes.peak):.1f} dB above full scale; attenuated as a whole")
        if self.channels == 1 < len(extremes.power) and extremes.mixed_power < 0.01 * extremes.power.max():
            loudest = int(np.argmax(extremes.power))
            self.notes.append(f"its channels cancel each other out; only channel {loudest + 1} is used")
            return lambda audio: Audio(audio.samples[loudest], audio.rate_hz)
        return lambda audio: audio.to_channels(self.channels)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate_hz

    def cut(self, start: int, stop: int) -> Audio:
        """The samples [start, stop)."""
        size = 4 * self.channels
        self._file.seek(start * size)
        samples = np.frombuffer(self._file.read((stop - start) * size), "<f4").reshape(-1, self.channels).T
        return Audio(samples * np.float32(self._gain) if self._gain != 1 else samples, self.rate_hz)

    def blocks(self) -> Iterator[Audio]:
        """The whole sound in blocks."""
        for start in range(0, self.frames, _BLOCK_FRAMES):
            yield self.cut(start, min(start + _BLOCK_FRAMES, self.frames))

    def __enter__(self) -> ResampledSound:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


class _Blocks:
    """The blocks of a source, as often as needed; a short one is decoded once."""

    def __init__(self, source: AudioSource, remarks: list[str]) -> None:
        self._source, self._remarks = source, remarks
        self._held: list[Audio] | None = []

    def first_pass(self) -> Iterator[Audio]:
        samples = 0
        for block in self._source.blocks(self._remarks):
            samples += block.samples.size
            if self._held is not None:
                self._held.append(block)
            if samples > _HELD_SAMPLES:
                self._held = None
            yield block

    def again(self) -> Iterator[Audio]:
        return iter(self._held) if self._held is not None else self._source.blocks([])


def _measure_extremes(blocks: _Blocks, on_progress: Callable[[float, int], None]) -> tuple[Extremes, int]:
    extremes, rate_hz = None, 0
    for block in blocks.first_pass():
        extremes, rate_hz = extremes or Extremes(block.channels), block.rate_hz
        extremes.add(block.samples)
        on_progress(extremes.frames / rate_hz, 1)
    if extremes is None or not extremes.frames:
        raise AudioError("empty: it holds 0 seconds of sound")
    return extremes, rate_hz


def _resampled(
    blocks: _Blocks,
    mix: Callable[[Audio], Audio],
    resampler: Resampler,
    meter: LevelMeter,
    on_progress: Callable[[float, int], None],
) -> Iterator[np.ndarray]:
    """The mixed and resampled blocks; the source's blocks are measured on the way."""
    seconds = 0.0
    for block in blocks.again():
        meter.add(block.samples)
        yield resampler.add(mix(block).samples)
        seconds += block.seconds
        on_progress(seconds, 2)
    yield resampler.finish()
