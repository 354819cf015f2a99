"""A recording as an importer returns it: its audio, its name, its row of metadata; and whether a model made it.

AI-generated files are left out of a corpus, unless its metadata include them on purpose: an adapter trained on what a
model made learns that model's output, and scores against it say nothing about music. Only tags and metadata can tell:
of a copy without its tags nothing is known.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from talim.audio import Audio, AudioError, read_tags
from talim.audio.decode import decode_blocks
from talim.audio.provenance import generated_by
from talim.errors import TalimError
from talim.html.formatting import format_counted

GENERATED_COLUMN, INCLUDE = "ai_generated", "include"
HOW_TO_INCLUDE = f"to use such a file on purpose, write {INCLUDE} in a column {GENERATED_COLUMN} of metadata.csv"
_DENIALS = frozenset({"no", "n", "false", "f", "0", "0.0", "none", "human"})
_SHOWN_NAMES = 4


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


def leave_out_generated(
    imported: ImportResult, edited: Mapping[str, Mapping[str, str]]
) -> tuple[ImportResult, dict[str, str]]:
    """The source without AI-generated files, which are listed in `skipped`; and what made those that are included.

    A file is AI-generated if its tags say so, or its cell in the column `ai_generated` ("yes"); the cell "include"
    keeps it. `edited` are the rows of the corpus's own metadata.csv, which win. TalimError where no file remains.
    """
    makers = {file.name: maker for file in imported.files if (maker := _maker(file, edited))}
    included = {file.name for file in imported.files if _stated(file, edited) == INCLUDE}
    left_out = [name for name in makers if name not in included]
    if not left_out:
        return imported, makers
    if len(left_out) == len(imported.files):
        raise TalimError(
            f"{imported.source}: holds AI-generated music only ({generated_sentence(left_out)}, "
            f"{left_out[0]} by {makers[left_out[0]]}); give recordings, or, {HOW_TO_INCLUDE}"
        )
    skipped = [
        {"file": name, "reason": f"AI-generated, by {makers[name]}", GENERATED_COLUMN: makers[name]}
        for name in left_out
    ]
    files = tuple(file for file in imported.files if file.name not in {*left_out})
    return (
        replace(imported, files=files, skipped=(*imported.skipped, *skipped)),
        {name: makers[name] for name in makers if name in included},
    )


def generated_lines(imported: ImportResult, makers: Mapping[str, str]) -> list[str]:
    """What to tell before the work: each file that is left out as AI-generated, and which are used all the same."""
    lines = [f"left out {row['file']}: {row['reason']}" for row in imported.skipped if GENERATED_COLUMN in row]
    lines += [HOW_TO_INCLUDE] if lines else []
    return lines + ([f"used, as the metadata ask for it: {generated_sentence(makers)}"] if makers else [])


def generated_sentence(names: Iterable[str | Path]) -> str:
    """How many files are AI-generated, with the first names: "2 files are AI-generated: a.flac, b.flac"."""
    listed = [str(name) for name in names]
    verb = "is" if len(listed) == 1 else "are"
    more = f" and {len(listed) - _SHOWN_NAMES} more" if len(listed) > _SHOWN_NAMES else ""
    return f"{format_counted(len(listed), 'file')} {verb} AI-generated: {', '.join(listed[:_SHOWN_NAMES])}{more}"


def real_music_warning(paths: Iterable[Path], consequence: str) -> str:
    """A sentence where files that are taken as real music are AI-generated by their tags; "" where none is."""
    found = [path for path in paths if generated_by(FileAudio(path).tags())]
    return f"{generated_sentence(found)}, by the tags; {consequence}" if found else ""


def _maker(file: SourceFile, edited: Mapping[str, Mapping[str, str]]) -> str:
    """What made an AI-generated file; "" for a recording."""
    try:
        maker = generated_by(file.audio.tags())
    except Exception:  # a cell of a data set that cannot be fetched: decoding tells of it
        maker = ""
    stated = _stated(file, edited)
    return maker or ("an unnamed program, says its metadata" if stated and stated not in _DENIALS else "")


def _stated(file: SourceFile, edited: Mapping[str, Mapping[str, str]]) -> str:
    return {**file.row, **edited.get(file.name, {})}.get(GENERATED_COLUMN, "").strip().casefold()
