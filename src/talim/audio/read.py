"""Read audio files: whole or in blocks, and find them by name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from talim.audio.audio import Audio, Resampler
from talim.audio.decode import decode_blocks, length_by_header
from talim.audio.errors import TooLongError
from talim.errors import TalimError
from talim.path_suggestions import did_you_mean

SOUNDFILE_SUFFIXES = {".wav", ".flac", ".ogg", ".oga", ".mp3", ".opus", ".aif", ".aiff", ".au", ".w64", ".rf64"}
PHONE_SUFFIXES = frozenset(
    {".m4a", ".aac", ".mp4", ".m4b", ".3gp", ".3gpp", ".3g2", ".amr", ".caf", ".wma", ".webm", ".mka", ".mov"}
    | {".mkv", ".m4p", ".aac", ".aifc", ".wv", ".ape", ".ac3", ".m4r", ".mp2", ".avi", ".flv", ".asf", ".snd", ".tta"}
    | {".mpg", ".mpeg", ".vob", ".mts", ".m2ts", ".m4v", ".wmv", ".ogv"}
)


def is_audio_name(path: str | Path) -> bool:
    """Whether the suffix is that of an audio format that talim reads."""
    return Path(path).suffix.lower().rstrip() in SOUNDFILE_SUFFIXES | PHONE_SUFFIXES


def list_audio_files(path: Path) -> list[Path]:
    """Audio files (by suffix) in a folder and its subfolders, sorted; or the file itself. TalimError if missing."""
    if not path.exists():
        raise TalimError(f"{path}: no such file or folder{did_you_mean(path)}; name one that holds audio files")
    return sorted(file for file in path.rglob("*") if is_audio_name(file)) if path.is_dir() else [path]


def read(path: str | Path, remarks: list[str] | None = None) -> Audio:
    """Read a whole file as float32 [C, T] at its own rate.

    AudioError, with file and reason, for files that are missing, empty, not audio or not finite. A file that is
    damaged or breaks off is an error too, unless `remarks` is given: then what is there is read, and `remarks` says so.
    """
    blocks = list(decode_blocks(Path(path), remarks))
    return Audio(np.concatenate([block.samples for block in blocks], axis=1), blocks[0].rate_hz)


def blocks_up_to(path: str | Path, max_seconds: float, remarks: list[str] | None = None) -> Iterator[Audio]:
    """The blocks of `decode_blocks`; TooLongError for a file of more than `max_seconds`.

    That is told by its header before anything is decoded, else as soon as so much has been read.
    """
    stated = length_by_header(Path(path))
    if stated is not None and stated > max_seconds:
        raise TooLongError(path, f"{stated:.1f} s")
    frames = 0
    for block in decode_blocks(Path(path), remarks):
        frames += block.frames
        if frames > max_seconds * block.rate_hz:
            raise TooLongError(path, f"more than {max_seconds:g} s")
        yield block


def read_part(path: str | Path, start_seconds: float, seconds: float) -> Audio:
    """`seconds` of a file from `start_seconds` (0 or more), as much as is there; only that part is held in memory.

    Errors as in `read`, but a file that breaks off is read as far as it goes.
    """
    parts: list[np.ndarray] = []
    at = rate_hz = 0
    for block in decode_blocks(Path(path), []):
        rate_hz = block.rate_hz
        first, last = round(start_seconds * rate_hz), round((start_seconds + seconds) * rate_hz)
        parts.append(block.samples[:, max(0, first - at) : max(0, last - at)])
        at += block.frames
        if at >= last:
            break
    return Audio(np.concatenate(parts, axis=1), rate_hz)


def read_middle(path: str | Path, seconds: float) -> Audio:
    """As `read_part`, of the middle; of the beginning where the header does not tell the length."""
    return read_part(path, max(0.0, ((length_by_header(Path(path)) or 0.0) - seconds) / 2), seconds)


def read_mono_blocks(
    path: str | Path, rate_hz: int, remarks: list[str] | None = None, start_seconds: float = 0.0
) -> Iterator[np.ndarray]:
    """The mean of the channels of a file at `rate_hz`, in blocks float32 [n]; equal to `read`, `mono` and `resample`.

    What comes before `start_seconds` (0 or more) is left out. Memory does not depend on the length. Errors and
    `remarks` as in `read`.
    """
    resampler: Resampler | None = None
    at = 0
    for block in decode_blocks(Path(path), remarks):
        resampler = resampler or Resampler(block.rate_hz, rate_hz, 1)
        first = max(0, round(start_seconds * block.rate_hz) - at)
        at += block.frames
        yield resampler.add(block.mono().samples[:, first:])[0]
    if resampler is not None:
        yield resampler.finish()[0]
