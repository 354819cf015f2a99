"""A folder of recordings: every audio file below it, with the metadata files in it."""

from __future__ import annotations

import difflib
import os
from collections.abc import Iterator
from pathlib import Path

from talim.audio import is_audio_name
from talim.audio.read import PHONE_SUFFIXES, SOUNDFILE_SUFFIXES
from talim.corpus.metadata import read_metadata, read_sections
from talim.corpus.recordings import FileAudio, ImportResult, SourceFile, normalize_path
from talim.errors import TalimError, UsageError
from talim.path_suggestions import did_you_mean

# Sound and scores of kinds that are not read, so that each is told by name.
UNREAD_SUFFIXES = frozenset(
    {".aax", ".aa", ".mid", ".midi", ".kar", ".ra", ".rm", ".dsf", ".dff", ".dss", ".ds2", ".vox", ".gsm", ".msv"}
    | {".shn", ".mpc", ".voc", ".cda", ".m4u", ".dvf", ".sd2", ".aup", ".aup3", ".als", ".cpr", ".flp", ".ptx", ".rpp"}
)
_ARCHIVES = frozenset({".zip", ".rar", ".7z", ".tar", ".tgz"})
_STAND_INS = {  # endings behind the name of a sound file
    ".icloud": "in iCloud and not on this machine; download it first",
    ".lnk": "a shortcut of Windows, not the sound itself; copy that here",
    ".url": "a link, not the sound itself; download that",
    ".gz": "packed; unpack it",
    **dict.fromkeys((".part", ".partial", ".crdownload", ".download", ".opdownload"), "an unfinished download"),
}
_MAX_COMPARED = 500  # recordings without a text: looking for similar names among more takes too long
_MIN_SIMILARITY = 0.85  # of the names of a text and of the recording that it may belong to
_MP4_BRANDS = (b"M4A ", b"M4B ", b"M4V ", b"mp4", b"isom", b"iso", b"dash", b"qt  ", b"3gp", b"3g2")  # no pictures
_MPEG_SYNC = frozenset(
    {b"\xff\xfb", b"\xff\xfa", b"\xff\xf3", b"\xff\xf2", b"\xff\xe3", b"\xff\xe2", b"\xff\xf1", b"\xff\xf9"}
)
_COMPANION_SUFFIXES = (".txt", ".beats", ".chords")  # of files beside a recording that carry its name


def list_recordings(source: Path, out: Path) -> ImportResult:
    """Every audio file below a folder, sorted by name; hidden files and prepared corpora are ignored.

    Unreadable entries with an audio file's name are listed in `skipped`. Raises TalimError where there is no such
    folder or no audio file in it.
    """
    check_folder(source, out)
    skipped: list[dict[str, str]] = []
    paths = [path for path in _candidates(source, out, skipped) if _is_readable_file(source, path, skipped)]
    if not paths:
        suffixes = ", ".join(sorted(SOUNDFILE_SUFFIXES | PHONE_SUFFIXES))
        first = f"; {skipped[0]['file']}: {skipped[0]['reason']}" if skipped else ""
        raise TalimError(f"{source}: no audio file in it or below it; files ending in {suffixes} are read{first}")
    names: dict[str, Path] = {}
    for path in paths:
        name = normalize_path(path.relative_to(source))
        if names.setdefault(name, path) is not path:
            reason = "another file has this name too, in other forms of its letters; rename one of them"
            skipped.append({"file": name, "reason": reason})
    folders = list(walk_folders(source, out))
    rows, notes = read_metadata(source, folders, set(names))
    sections, section_notes = read_sections(source, folders, set(names))
    notes += _misnamed_companions(source, folders, names)
    files = [
        SourceFile(path, name, FileAudio(path), rows.get(name, {}), sections.get(name, ()))
        for name, path in sorted(names.items())
    ]
    return ImportResult("folder", str(source), tuple(files), tuple(skipped), (*notes, *section_notes))


def check_folder(source: Path, out: Path) -> None:
    """TalimError where `source` is not a folder, UsageError where it is the corpus itself."""
    if not source.is_dir():
        problem = "is a file; give its folder" if source.exists() else f"no such folder{did_you_mean(source)}"
        raise TalimError(f"{source}: {problem}; usage: talim prepare SOURCE --out CORPUS")
    if source.resolve() == out.resolve():
        raise UsageError(f"{out}: the corpus cannot be the folder of recordings itself; choose another --out")


def walk_folders(folder: Path, out: Path, unreadable: list[OSError] | None = None) -> Iterator[Path]:
    """The folder and all folders below it, without hidden ones, prepared corpora and the output folder."""
    corpus = out.resolve()
    for name, subfolders, _ in os.walk(folder, onerror=None if unreadable is None else unreadable.append):
        here = Path(name)
        subfolders[:] = sorted(
            name
            for name in subfolders
            if not name.startswith(".")
            and (here / name).resolve() != corpus
            and not (here / name / "corpus.jsonl").exists()
        )
        yield here


def _candidates(source: Path, out: Path, skipped: list[dict[str, str]]) -> Iterator[Path]:
    """Every entry with an audio file's name or header; unreadable folders are added to `skipped`."""
    unreadable: list[OSError] = []
    for folder in walk_folders(source, out, unreadable):
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue  # os.walk has reported it
        for path in entries:
            if reason := _why_unread(path, source, out):
                skipped.append({"file": normalize_path(path.relative_to(source)), "reason": reason})
            elif not path.name.startswith(".") and (is_audio_name(path) or _has_audio_header(path)):
                yield path
    for error in unreadable:
        name = normalize_path(Path(str(error.filename)).relative_to(source))
        skipped.append({"file": name, "reason": f"a folder that cannot be read: {error.strerror or error}"})


def _why_unread(path: Path, source: Path, out: Path) -> str:
    """Why an entry that holds sound, or may hold it, is not read; empty for all others."""
    suffix = path.suffix.lower()
    if suffix in _STAND_INS and is_audio_name(path.stem):
        return _STAND_INS[suffix]
    if path.name.startswith("."):
        return "" if path.name.startswith("._") or not is_audio_name(path) else "hidden, as its name begins with a dot"
    try:
        if path.is_dir():
            if path.is_symlink() and not path.resolve().is_relative_to(source.resolve()):
                return "a link to a folder, which is not followed; give that folder, or copy it"
            corpus = (path / "corpus.jsonl").exists() and path.resolve() != out.resolve()
            return "a corpus of talim prepare, not recordings" if corpus else ""
        if not path.is_file():
            return ""
    except OSError:  # told as a folder that cannot be read, or as a file
        return ""
    if suffix in _ARCHIVES:
        return "an archive, into which talim does not look; unpack it"
    if suffix not in UNREAD_SUFFIXES:
        return ""
    return f"talim does not read {path.suffix.lower()} files; export it as WAV or FLAC"


def _is_readable_file(source: Path, path: Path, skipped: list[dict[str, str]]) -> bool:
    """Whether it is a file; if not, the reason is added to `skipped`."""
    try:
        if path.is_file():
            return True
        reason = "a folder, although it has an audio file's name" if path.is_dir() else "not a file"
        if path.is_symlink() and not path.exists():
            reason = f"a broken link: {Path(os.readlink(path)).name} does not exist"
    except OSError as error:  # in a folder that may be listed but not entered
        reason = f"cannot be read: {error.strerror or error}"
    skipped.append({"file": normalize_path(path.relative_to(source)), "reason": reason})
    return False


def _has_audio_header(path: Path) -> bool:
    """Whether a file begins like a sound file: WAV, AIFF, CAF, FLAC, Ogg, MPEG, MP4, Matroska, ASF or AMR."""
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            head = file.read(12)
    except OSError:
        return False
    if head[4:8] == b"ftyp":
        return head[8:].startswith(_MP4_BRANDS)
    if head[:4] in (b"RIFF", b"RF64", b"FORM"):
        return head[8:] in (b"WAVE", b"AIFF", b"AIFC")
    starts = (b"fLaC", b"OggS", b"ID3", b"caff", b"riff", b".snd", b"#!AMR", b"\x1aE\xdf\xa3", b"0&\xb2u\x8ef\xcf\x11")
    return head.startswith(starts) or head[:2] in _MPEG_SYNC


def _misnamed_companions(source: Path, folders: list[Path], names: dict[str, Path]) -> Iterator[dict[str, str]]:
    """Notes on texts, beats and chords whose names are nearly a recording's, so that they are not read for it."""
    stems = {normalize_path(path.with_suffix("").relative_to(source)).casefold(): path for path in names.values()}
    read = {path.with_suffix(suffix) for path in names.values() for suffix in _COMPANION_SUFFIXES}
    for folder in folders:
        try:
            entries = sorted(folder.iterdir())
        except OSError:
            continue  # listed as a folder that cannot be read
        for path in entries:
            if path.suffix.lower() not in _COMPANION_SUFFIXES or path in read:
                continue
            name, suffix = normalize_path(path.relative_to(source)), path.suffix.lower()
            stem = name.rpartition(".")[0].casefold()
            without = [each for each, sound in stems.items() if not sound.with_suffix(suffix).exists()]
            near = difflib.get_close_matches(stem, without, 1, _MIN_SIMILARITY) if len(without) <= _MAX_COMPARED else []
            if recording := stems.get(stem) or (stems[near[0]] if near else None):
                wanted = recording.with_suffix(suffix).name
                yield {"file": name, "note": f"not read: for {recording.name} it must be called {wanted}"}
            elif suffix != ".txt":
                yield {"file": name, "note": "not read: no recording has this name"}
