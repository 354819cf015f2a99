"""A recording as an importer hands it over: its sound, its name, and all that its source says about it."""

from __future__ import annotations

import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from talim.audio import Audio, AudioError, read
from talim.errors import TalimError


class AudioSource(Protocol):
    """Where a recording's sound comes from; both methods raise TalimError where it cannot be had."""

    def hash(self) -> str:
        """64 hex digits that change whenever the sound would."""
        ...

    def read(self) -> Audio:
        """The whole sound, float32 [C, T]."""
        ...


@dataclass(frozen=True)
class FileAudio:
    """Sound in a file of its own."""

    path: Path

    def hash(self) -> str:
        """Sha256 of the file's bytes."""
        return file_hash(self.path)

    def read(self) -> Audio:
        """The decoded file."""
        try:
            return read(self.path)
        except AudioError as error:
            raise AudioError(str(error).removeprefix(f"{self.path}: ")) from error


@dataclass(frozen=True)
class EmbeddedAudio:
    """An encoded sound file inside a larger file (a table's cell); fetched only when it is needed."""

    fetch: Callable[[], bytes]
    suffix: str  # how the encoded file would end, such as ".flac"

    def hash(self) -> str:
        """Sha256 of the encoded bytes."""
        return hashlib.sha256(self.fetch()).hexdigest()

    def read(self) -> Audio:
        """The decoded bytes."""
        with tempfile.TemporaryDirectory(prefix="talim-") as place:
            path = Path(place) / f"sound{self.suffix}"
            path.write_bytes(self.fetch())
            return FileAudio(path).read()


@dataclass(frozen=True)
class RenderedAudio:
    """Sound that is made from a file that holds none: a score, a pitch track."""

    path: Path
    manner: str  # names how it is rendered: another manner is another sound
    render: Callable[[], Audio]

    def hash(self) -> str:
        """Sha256 over the file's bytes and the manner."""
        return hashlib.sha256(f"{file_hash(self.path)} {self.manner}".encode()).hexdigest()

    def read(self) -> Audio:
        """The rendered sound."""
        return self.render()


@dataclass(frozen=True)
class AnnotatedSection:
    """A part of a recording with labels of its own; `cells` is empty where nothing but the name is known."""

    start_seconds: float
    seconds: float
    name: str
    cells: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class SourceFile:
    """One recording as it was found: its file, its name in the source, its sound, its row of metadata."""

    path: Path
    name: str  # posix, Unicode NFC: the same on every system
    sound: AudioSource
    row: Mapping[str, str] = field(default_factory=dict)  # lower-case columns, no empty cells
    sections: tuple[AnnotatedSection, ...] = ()


@dataclass(frozen=True)
class ImportResult:
    """What an importer found in a source: recordings, what is left out and why, and remarks."""

    kind: str
    place: str  # the source as it was named, for messages
    files: tuple[SourceFile, ...]
    left_out: tuple[dict[str, str], ...] = ()  # rows {"file", "reason"}
    notes: tuple[dict[str, str], ...] = ()  # rows {"file", "note"}


def normalize_path(path: Path | str) -> str:
    """A relative path as it is compared and stored: forward slashes, composed characters, valid UTF-8."""
    text = os.fsencode(str(path)).decode("utf-8", "backslashreplace")
    slashed = text.replace("\\", "/") if text == str(path) else text.replace("\\x", "%")
    return unicodedata.normalize(
        "NFC", "/".join(part for part in slashed.split("/") if part not in ("", "."))
    )


def file_hash(path: Path) -> str:
    """Sha256 (hex) of a file's bytes; TalimError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TalimError(f"{path}: cannot be read: {error.strerror or error}") from error
