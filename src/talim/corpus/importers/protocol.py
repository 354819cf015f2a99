"""The interface of importers: what a format is given and what it returns."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from talim.audio import is_audio_name
from talim.corpus.importers.folder import walk_folders
from talim.corpus.recordings import ImportResult

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


def audio_by_mbid(folder: Path, out: Path) -> dict[str, list[Path]]:
    """Audio files below a folder by the MusicBrainz id (lower case) in their name or their folder's name."""
    files: dict[str, list[Path]] = {}
    for subfolder in walk_folders(folder, out):
        for path in sorted(subfolder.iterdir()):
            if is_audio_name(path) and path.is_file() and not path.name.startswith("."):
                mbid = MBID.search(path.name) or MBID.search(path.parent.name)
                if mbid:
                    files.setdefault(mbid.group().lower(), []).append(path)
    return files
