"""Reads the tags of a sound file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from talim.audio.decode import PCM_CONTAINERS, open_container, open_file, riff_chunks
from talim.audio.errors import AudioError


def read_tags(path: str | Path) -> dict[str, str]:
    """The tags written by `write`, in whatever format they are now; of other files the standard tag fields."""
    path = Path(path)
    try:
        comment = wav_comment(path)
        native = {"comment": comment} if comment else {} if comment is not None else _libsndfile_tags(path)
        stored = _stored_tags(native)
        if stored is None and not (comment or native.get("comment")):
            native = _ffmpeg_tags(path, native) | native
            stored = _stored_tags(native)
    except OSError as error:
        raise AudioError(f"{path}: its tags cannot be read: {error.strerror or error}") from error
    return native if stored is None else stored


def wav_comment(path: Path) -> str | None:
    """The comment (ICMT) of a WAV file; None if it has none or is no WAV file."""
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            return None
        size = file.seek(0, 2)
        for name, at, length in riff_chunks(file, size):
            if name != b"LIST":
                continue
            file.seek(at)
            info = file.read(length)
            offset = info.find(b"ICMT")
            if info[:4] == b"INFO" and offset >= 0:
                count = int.from_bytes(info[offset + 4 : offset + 8], "little")
                return info[offset + 8 : offset + 8 + count].rstrip(b"\0").decode("utf-8", "replace")
    return None


def _stored_tags(native: Mapping[str, str]) -> dict[str, str] | None:
    """The tags that `write` stored as JSON in the comment, under whatever name another program has kept it."""
    for text in native.values():
        if not text.startswith("{"):
            continue
        try:
            tags = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(tags, dict):
            return {str(name): str(value) for name, value in tags.items()}
    return None


def _libsndfile_tags(path: Path) -> dict[str, str]:
    """The tag fields of a PCM container, FLAC or Ogg file; none of others, which libsndfile would print about."""
    import soundfile

    with path.open("rb") as opened:
        start = opened.read(4)
    if start not in (*PCM_CONTAINERS, b"fLaC", b"OggS"):
        return {}
    try:
        with soundfile.SoundFile(str(path)) as file:
            return {name: text for name, text in file.copy_metadata().items() if text}
    except soundfile.LibsndfileError:
        return {}


def _ffmpeg_tags(path: Path, native: Mapping[str, str]) -> dict[str, str]:
    """The tags of the file and of its sound; AudioError for what is none, unless libsndfile has read its tags."""
    import av.error

    try:
        with open_file(path) as file, open_container(path, file) as container:
            tags = dict(container.metadata)
            for stream in container.streams.audio[:1]:
                tags |= stream.metadata
            return {str(name).lower(): str(text) for name, text in tags.items() if text}
    except (av.error.FFmpegError, ValueError) as error:
        if native:
            return {}
        raise AudioError(f"{path}: its tags cannot be read: not a sound file") from error
