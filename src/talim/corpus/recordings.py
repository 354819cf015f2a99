"""A recording as an importer returns it: its audio, its name and its metadata."""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from talim.audio import Audio, AudioError, read_tags
from talim.audio.decode import decode_blocks
from talim.errors import TalimError


class AudioSource(Protocol):
    """Where a recording's samples come from; both methods raise TalimError where they are not available."""

    def hash(self) -> str:
        """64 hex digits that change whenever the samples would."""
        ...

    def blocks(self, remarks: list[str]) -> Iterator[Audio]:
        """All samples in blocks float32 [C, n] of one rate; what is worth telling is added to `remarks`."""
        ...

    def tags(self) -> dict[str, str]:
        """The tags of the sound file; none where they cannot be read."""
        ...


@dataclass(frozen=True)
class FileAudio:
    """An audio file."""

    path: Path

    def hash(self) -> str:
        return file_hash(self.path)

    def blocks(self, remarks: list[str]) -> Iterator[Audio]:
        try:
            yield from decode_blocks(self.path, remarks)
        except AudioError as error:
            raise AudioError(str(error).removeprefix(f"{self.path}: ")) from error

    def tags(self) -> dict[str, str]:
        try:
            return read_tags(self.path) if self.path.is_file() else {}
        except AudioError:  # decoding tells what is wrong with the file
            return {}


@dataclass(frozen=True)
class EmbeddedAudio:
    """An encoded audio file inside a larger file (a table's cell), fetched when it is needed."""

    fetch: Callable[[], bytes]
    suffix: str  # of the encoded file, such as ".flac"

    def hash(self) -> str:
        return hashlib.sha256(self.fetch()).hexdigest()

    def blocks(self, remarks: list[str]) -> Iterator[Audio]:
        with self._written() as file:
            yield from file.blocks(remarks)

    def tags(self) -> dict[str, str]:
        with self._written() as file:
            return file.tags()

    @contextlib.contextmanager
    def _written(self) -> Iterator[FileAudio]:
        """As a file, while it is needed."""
        with tempfile.TemporaryDirectory(prefix="talim-") as folder:
            path = Path(folder) / f"audio{self.suffix}"
            path.write_bytes(self.fetch())
            yield FileAudio(path)


@dataclass(frozen=True)
class RenderedAudio:
    """Audio rendered from a file that holds none, such as a score."""

    path: Path
    rendering_key: str  # names the rendering: another key means other samples
    render: Callable[[], Audio]

    def hash(self) -> str:
        return hashlib.sha256(f"{file_hash(self.path)} {self.rendering_key}".encode()).hexdigest()

    def blocks(self, remarks: list[str]) -> Iterator[Audio]:
        yield self.render()

    def tags(self) -> dict[str, str]:
        return {}


@dataclass(frozen=True)
class AnnotatedSection:
    """A part of a recording; `cells` holds the labels that are valid in it only."""

    start_seconds: float
    seconds: float
    name: str
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceFile:
    """One recording: its file, its name in the source, its audio and its row of metadata."""

    path: Path
    name: str  # posix, Unicode NFC: the same on every system
    audio: AudioSource
    row: Mapping[str, str] = field(default_factory=dict)  # lower-case columns, no empty cells
    sections: tuple[AnnotatedSection, ...] = ()

    @property
    def folder(self) -> Path:
        """The source folder, within which files beside the recording must lie."""
        parents = self.path.parents
        return parents[min(self.name.count("/"), len(parents) - 1)]


@dataclass(frozen=True)
class ImportResult:
    """What an importer returns: recordings, skipped files with reasons, and notes."""

    format: str
    source: str  # as the user named it, for messages
    files: tuple[SourceFile, ...]
    skipped: tuple[dict[str, str], ...] = ()  # rows {"file", "reason"}
    notes: tuple[dict[str, str], ...] = ()  # rows {"file", "note"}


def normalize_path(path: Path | str) -> str:
    """A relative path for comparing and storing: forward slashes, Unicode NFC, valid UTF-8."""
    text = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
    slashed = text.replace("\\", "/") if text == str(path) else text.replace("\\x", "%")
    return unicodedata.normalize("NFC", "/".join(part for part in slashed.split("/") if part not in ("", ".")))


def file_hash(path: Path) -> str:
    """Sha256 (hex) of a file's bytes; TalimError where it cannot be read, or is no regular file."""
    if path.exists() and not path.is_file():
        raise TalimError(f"{path}: is a folder, device, pipe or socket, expected a file")
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TalimError(f"{path}: cannot be read: {error.strerror or error}") from error
