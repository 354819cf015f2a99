"""What every importer is given and gives back."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from talim.audio import Audio, is_audio_name
from talim.corpus.importers.folder import walk_folders
from talim.corpus.recordings import ImportResult
from talim.synthesis.symbolic_score import SymbolicScore

MBID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)


class ScoreRenderer(Protocol):
    """Plays what holds no sound; given by the one who calls, for a corpus knows no instruments."""

    @property
    def instruments(self) -> Sequence[str]:
        """What scores can be played on."""
        ...

    def score(self, score: SymbolicScore, instrument: str, seed: int) -> Audio:
        """The score played by one of the instruments."""
        ...


@dataclass(frozen=True)
class ImportRequest:
    """What is to be imported: a source as it was typed, a detail after the kind's colon, the corpus's folder."""

    source: str
    out: Path
    detail: str = ""
    sounding: ScoreRenderer | None = None

    @property
    def path(self) -> Path:
        """The source as a path."""
        return Path(self.source)


@dataclass(frozen=True)
class Importer:
    """One kind of source: its name, what it is, how it is recognised and how it is read."""

    kind: str
    description: str
    recognises: Callable[[Path], bool]
    find: Callable[[ImportRequest], ImportResult]


def audio_by_mbid(folder: Path, out: Path) -> dict[str, list[Path]]:
    """Sound files below a folder by the MusicBrainz id in their name (or their folder's name)."""
    found: dict[str, list[Path]] = {}
    for place in walk_folders(folder, out):
        for path in sorted(place.iterdir()):
            if is_audio_name(path) and path.is_file() and not path.name.startswith("."):
                named = MBID.search(path.name) or MBID.search(path.parent.name)
                if named:
                    found.setdefault(named.group().lower(), []).append(path)
    return found
