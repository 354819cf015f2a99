"""Find recordings: walk a folder and name every sound file in it."""

from __future__ import annotations

import hashlib
import os
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from talim.audio import is_audio_name
from talim.audio.reading import PHONE_SUFFIXES, SOUNDFILE_SUFFIXES
from talim.errors import TalimError, UsageError


@dataclass(frozen=True)
class SourceFile:
    """A sound file as it was found: where it lies, and its name relative to the folder of recordings."""

    path: Path
    name: str  # posix, Unicode NFC: the same on every system


def find_recordings(folder: Path, out: Path) -> list[SourceFile]:
    """Every sound file below a folder, sorted by name; hidden files and prepared corpora are left out.

    Raises UsageError where there is no such folder or no sound file in it.
    """
    if not folder.is_dir():
        what = "is a file; give the folder it lies in" if folder.exists() else "no such folder"
        raise UsageError(f"{folder}: {what}; usage: talim prepare FOLDER --out CORPUS")
    if folder.resolve() == out.resolve():
        raise UsageError(f"{out}: the corpus cannot be the folder of recordings itself; choose another --out")
    found = [
        SourceFile(path, plain_name(path.relative_to(folder)))
        for place in walk(folder, out)
        for path in place.iterdir()
        if is_audio_name(path) and not path.name.startswith(".") and path.is_file()
    ]
    if not found:
        known = ", ".join(sorted(SOUNDFILE_SUFFIXES | PHONE_SUFFIXES))
        raise UsageError(f"{folder}: no sound file in it or below it; files ending in {known} are read")
    return sorted(found, key=lambda file: file.name)


def walk(folder: Path, out: Path) -> Iterator[Path]:
    """The folder and all folders below it, without hidden ones, prepared corpora and the output folder."""
    outside = out.resolve()
    for place, below, _ in os.walk(folder):
        here = Path(place)
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".")
            and (here / name).resolve() != outside
            and not (here / name / "corpus.jsonl").exists()
        )
        yield here


def plain_name(path: Path | str) -> str:
    """A relative path as it is compared and stored: forward slashes, composed characters."""
    parts = str(path).replace("\\", "/").split("/")
    return unicodedata.normalize("NFC", "/".join(part for part in parts if part not in ("", ".")))


def file_hash(path: Path) -> str:
    """Sha256 (hex) of a file's bytes; TalimError where it cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise TalimError(f"{path}: cannot be read: {error.strerror or error}") from error
