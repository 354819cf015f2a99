"""The interface of importers: what a format is given and what it returns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from talim.audio import is_audio_name
from talim.corpus.importers.folder import walk_folders
from talim.corpus.recordings import ImportResult, normalize_path

MBID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


@dataclass(frozen=True)
class ImportRequest:
    """A source as the user named it, the corpus folder, and the DETAIL of FORMAT:DETAIL."""

    source: str
    out: Path
    detail: str = ""

    @property
    def path(self) -> Path:
        return Path(self.source)


@dataclass(frozen=True)
class Importer:
    """One source format: its name, a description, how to recognise it and how to read it."""

    format: str
    description: str
    matches: Callable[[Path], bool]
    list_recordings: Callable[[ImportRequest], ImportResult]


def audio_by_mbid(folder: Path, out: Path, skipped: list[dict[str, str]]) -> dict[str, list[Path]]:
    """Audio files below a folder by the MusicBrainz id (lower case) in their name or their folder's name.

    Folders that cannot be read are added to `skipped`.
    """
    files: dict[str, list[Path]] = {}
    unreadable: list[OSError] = []
    for subfolder in walk_folders(folder, out, unreadable):
        try:
            entries = sorted(subfolder.iterdir())
        except OSError:
            continue  # walk_folders has reported it
        for path in entries:
            if is_audio_name(path) and path.is_file() and not path.name.startswith("."):
                mbid = MBID.search(path.name) or MBID.search(path.parent.name)
                if mbid:
                    files.setdefault(mbid.group().lower(), []).append(path)
    for error in unreadable:
        name = normalize_path(Path(str(error.filename)).relative_to(folder))
        skipped.append({"file": name, "reason": f"a folder that cannot be read: {error.strerror or error}"})
    return files
