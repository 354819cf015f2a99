"""Write audio files atomically, with tags that can be read back."""

from __future__ import annotations

import io
import json
import os
import secrets
from pathlib import Path
from typing import Protocol

import numpy as np

from talim.audio.containers import PCM_CONTAINERS, add_wav_comment, wav_comment
from talim.audio.errors import AudioError

_WRITABLE = {
    ".flac": ("FLAC", "PCM_16"),
    ".wav": ("WAV", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
# Fields that players show; all tags are also stored as JSON in the comment field.
_NATIVE_TAGS = ("title", "artist", "album", "date", "genre", "copyright", "license", "software")
_BLOCK_FRAMES = 1 << 16


class Signal(Protocol):
    """What `write` needs of audio (`Audio` has a method that calls it, so it cannot be imported here)."""

    @property
    def samples(self) -> np.ndarray: ...  # float32 [C, T]

    @property
    def rate_hz(self) -> int: ...


def write(path: str | Path, audio: Signal, tags: dict[str, str] | None = None) -> None:
    """Write .flac or .wav (16 bit), .ogg or .mp3 atomically; `read_tags` returns the same tags.

    Audio beyond full scale is attenuated as a whole, never clipped. AudioError for other suffixes, samples that are
    not finite, and files that cannot be written.
    """
    path = Path(path)
    if path.suffix.lower() not in _WRITABLE:
        raise AudioError(f"{path}: cannot write {path.suffix or 'a file without a suffix'}; use .flac or .wav")
    if not np.isfinite(audio.samples).all():
        raise AudioError(f"{path}: not written: the sound holds samples that are not numbers (NaN or infinite)")
    data = _encode(path.suffix.lower(), audio, dict(tags or {}))
    _write_bytes(path, data)


def read_tags(path: str | Path) -> dict[str, str]:
    """The tags written by `write`; of other files the standard tag fields."""
    path = Path(path)
    try:
        comment = wav_comment(path)
        native = {} if comment is not None else _native_tags(path)
    except OSError as error:
        raise AudioError(f"{path}: its tags cannot be read: {error.strerror or error}") from error
    comment = native.pop("comment", "") if comment is None else comment
    try:
        tags = json.loads(comment)
    except (ValueError, RecursionError):
        tags = None
    if isinstance(tags, dict):
        return {str(name): str(value) for name, value in tags.items()}
    return native | ({"comment": comment} if comment else {})


def _native_tags(path: Path) -> dict[str, str]:
    import soundfile

    with path.open("rb") as opened:
        start = opened.read(4)
    if start in (*PCM_CONTAINERS, b"fLaC", b"OggS"):  # of other files libmpg123 would print what it thinks of them
        try:
            with soundfile.SoundFile(str(path)) as file:
                return {name: text for name, text in file.copy_metadata().items() if text}
        except soundfile.LibsndfileError:
            pass
    import av
    import av.error

    try:
        with av.open(str(path)) as container:
            return {str(name).lower(): str(text) for name, text in container.metadata.items() if text}
    except (av.error.FFmpegError, ValueError) as error:
        raise AudioError(f"{path}: its tags cannot be read: not a sound file") from error


def _encode(suffix: str, audio: Signal, tags: dict[str, str]) -> bytes:
    import soundfile

    channels, frames = audio.samples.shape
    samples = audio.samples / max(1.0, float(np.abs(audio.samples).max(initial=0.0)))
    if suffix in (".flac", ".wav"):
        # Rounding k / 32768 reads back as exactly the same float, so hashes survive a round trip.
        samples = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype(np.int16)
    container, subtype = _WRITABLE[suffix]
    buffer = io.BytesIO()
    try:
        with soundfile.SoundFile(buffer, "w", audio.rate_hz, channels, subtype=subtype, format=container) as file:
            if tags and suffix != ".wav":
                for name in _NATIVE_TAGS:
                    if tags.get(name):
                        setattr(file, name, tags[name])
                file.comment = json.dumps(tags, ensure_ascii=suffix == ".mp3", sort_keys=True)
            for start in range(0, frames, _BLOCK_FRAMES):  # one huge call overflows the Vorbis encoder
                file.write(np.ascontiguousarray(samples[:, start : start + _BLOCK_FRAMES].T))
    except soundfile.LibsndfileError as error:
        detail = f"{channels} channels at {audio.rate_hz} Hz"
        raise AudioError(f"cannot write {detail} as {container}: {error}; resample, or use .flac") from error
    if suffix == ".wav" and tags:
        return add_wav_comment(buffer.getvalue(), json.dumps(tags, sort_keys=True))
    return buffer.getvalue()


def _write_bytes(path: Path, data: bytes) -> None:
    """Write a file atomically (temporary file in the same folder, fsync, rename); AudioError if that fails."""
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        name = path.parent / f".tmp-{secrets.token_hex(8)}{path.suffix}"
        with open(name, "xb") as file:  # with the mode that the user's umask gives to a new file
            temporary = str(name)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        if temporary:
            Path(temporary).unlink(missing_ok=True)
        raise AudioError(f"cannot write {path}: {error.strerror or error}") from error
