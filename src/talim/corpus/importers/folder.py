"""Your own folder: every sound file below it, with what metadata files and texts beside it say."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from talim.audio import is_audio_name
from talim.audio.read import PHONE_SUFFIXES, SOUNDFILE_SUFFIXES
from talim.corpus.metadata import read_metadata, read_sections
from talim.corpus.recordings import FileAudio, ImportResult, SourceFile, normalize_path
from talim.errors import UsageError


def list_recordings(source: Path, out: Path) -> ImportResult:
    """Every sound file below a folder, sorted by name; hidden files and prepared corpora are left out.

    Files that are none although their name says so are listed. Raises UsageError where there is no such
    folder or no sound file in it.
    """
    check_folder(source, out)
    left_out: list[dict[str, str]] = []
    paths = [path for path in _candidates(source, out, left_out) if _is_readable_file(source, path, left_out)]
    if not paths:
        known = ", ".join(sorted(SOUNDFILE_SUFFIXES | PHONE_SUFFIXES))
        first = f"; {left_out[0]['file']}: {left_out[0]['reason']}" if left_out else ""
        raise UsageError(
            f"{source}: no sound file in it or below it; files ending in {known} are read{first}"
        )
    names = {normalize_path(path.relative_to(source)): path for path in paths}
    places = list(walk_folders(source, out))
    rows, notes = read_metadata(source, places, set(names))
    sections = read_sections(source, places)
    files = [
        SourceFile(path, name, FileAudio(path), rows.get(name, {}), sections.get(name, ()))
        for name, path in sorted(names.items())
    ]
    return ImportResult("folder", str(source), tuple(files), tuple(left_out), tuple(notes))


def check_folder(source: Path, out: Path) -> None:
    """UsageError where `source` is no folder, or is the corpus itself."""
    if not source.is_dir():
        what = "is a file; give the folder it lies in" if source.exists() else "no such folder"
        raise UsageError(f"{source}: {what}; usage: talim prepare SOURCE --out CORPUS")
    if source.resolve() == out.resolve():
        raise UsageError(f"{out}: the corpus cannot be the folder of recordings itself; choose another --out")


def walk_folders(folder: Path, out: Path, unreadable: list[OSError] | None = None) -> Iterator[Path]:
    """The folder and all folders below it, without hidden ones, prepared corpora and the output folder."""
    outside = out.resolve()
    for place, below, _ in os.walk(folder, onerror=None if unreadable is None else unreadable.append):
        here = Path(place)
        below[:] = sorted(
            name
            for name in below
            if not name.startswith(".")
            and (here / name).resolve() != outside
            and not (here / name / "corpus.jsonl").exists()
        )
        yield here


def _candidates(source: Path, out: Path, left_out: list[dict[str, str]]) -> Iterator[Path]:
    """Everything whose name or first bytes say that it is sound; folders that refuse are reported."""
    refused: list[OSError] = []
    for place in walk_folders(source, out, refused):
        try:
            entries = sorted(place.iterdir())
        except OSError:
            continue  # os.walk has already said so
        for path in entries:
            if not path.name.startswith(".") and (is_audio_name(path) or _has_audio_header(path)):
                yield path
    for error in refused:
        name = normalize_path(Path(str(error.filename)).relative_to(source))
        left_out.append({"file": name, "reason": f"a folder that cannot be read: {error.strerror or error}"})


def _is_readable_file(source: Path, path: Path, left_out: list[dict[str, str]]) -> bool:
    """Whether it is a file; else why it is none is written down."""
    try:
        if path.is_file():
            return True
    except OSError as error:  # in a folder that may be listed and not entered
        reason = f"cannot be read: {error.strerror or error}"
        left_out.append({"file": normalize_path(path.relative_to(source)), "reason": reason})
        return False
    reason = "a folder, although its name ends like a sound file's" if path.is_dir() else "not a file"
    if path.is_symlink() and not path.exists():
        reason = f"a broken link: {Path(os.readlink(path)).name} is not there"
    left_out.append({"file": normalize_path(path.relative_to(source)), "reason": reason})
    return False


def _has_audio_header(path: Path) -> bool:
    """Whether a file with an ending of no sound file begins like WAV, FLAC, Ogg or a tagged MP3."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    return head[:4] in (b"fLaC", b"OggS") or head[:3] == b"ID3" or head[:4] + head[8:] == b"RIFFWAVE"
