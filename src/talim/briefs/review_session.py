"""An open review of a brief: candidates, translations and reviews, and the random names of audio files."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.briefs import candidates
from talim.briefs.brief import Brief
from talim.briefs.review_store import DATABASE, ReviewStore
from talim.listening.database import sqlite_url
from talim.listening.session import ServedSession, read_secrets, read_translations

WORDS = "words/review"


@dataclass(frozen=True)
class ReviewSession(ServedSession):
    """The state of the server for one brief."""

    brief: Brief
    rows: dict[str, dict[str, Any]]  # candidates by id
    reviews: ReviewStore
    brief_hash: str

    def name(self, reviewer: str, candidate: str) -> str:
        """The random name of a candidate's audio, different for each reviewer."""
        return self.random_name(f"{self.brief_hash}/{reviewer}/{candidate}")

    def wav(self, candidate: str) -> bytes:
        """The candidate as WAV without tags, which name the contender; a loop is repeated to expose its seam."""
        row = self.rows[candidate]
        return _encode(self.folder / row["file"], row["sha256"], self.brief.loop)

    def min_listening_seconds(self, candidate: str) -> float:
        """How long a candidate must be played before a review: the brief's minimum, or all of a shorter piece."""
        return min(self.brief.minimum_seconds, max(0.0, self.rows[candidate]["seconds"] - 0.25))


@lru_cache(maxsize=16)
def _encode(path: Path, sha256: str, loop: bool) -> bytes:
    """The file as WAV, a loop twice; `sha256` makes a changed file another entry of the cache."""
    import soundfile

    piece, buffer = audio.read(path), io.BytesIO()
    samples = np.tile(piece.samples, 2) if loop else piece.samples
    soundfile.write(buffer, samples.T, piece.rate_hz, format="WAV", subtype="PCM_16")
    return buffer.getvalue()


def is_frozen(folder: Path, database: str | None = None) -> bool:
    """Whether the candidates of a folder have been reviewed."""
    if database is None and not (folder / DATABASE).is_file():
        return False
    return ReviewStore(database or sqlite_url(folder / DATABASE)).frozen


def open_brief(folder: Path, brief: Brief, database: str | None = None) -> ReviewSession:
    """Open the review database of a folder. TalimError if it holds reviews of another brief or other candidates."""
    rows = {row["id"]: row for row in candidates.read_candidates(folder)}
    translations = read_translations(folder, brief.languages, WORDS)
    reviews = ReviewStore(database or sqlite_url(folder / DATABASE))
    brief_hash = reviews.open_brief(brief, {name: row["sha256"] for name, row in rows.items()})
    return ReviewSession(folder, translations, read_secrets(folder)["secret"], brief, rows, reviews, brief_hash)
