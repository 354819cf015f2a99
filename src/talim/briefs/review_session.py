"""A brief ready for review: its candidates, words and reviews, and the names under which sounds go out."""

from __future__ import annotations

import hashlib
import hmac
import io
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.briefs import candidates
from talim.briefs.brief import Brief
from talim.briefs.review_store import DATABASE, ReviewStore
from talim.listening.database import sqlite_url
from talim.listening.session import read_page_text, read_secrets

WORDS = "words/review"
_MAX_CACHED_SOUNDS = 16  # encoded sounds in memory


@dataclass(frozen=True)
class ReviewSession:
    """All that the server needs of one brief. `secret` stays in DIR/keys.json."""

    folder: Path
    brief: Brief
    rows: dict[str, dict[str, Any]]  # candidates by id
    reviews: ReviewStore
    digest: str
    words: dict[str, dict[str, Any]]
    secret: str
    _encoded: dict[str, bytes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def name(self, reviewer: str, candidate: str) -> str:
        """The random name of a candidate's sound, another one for each reviewer."""
        message = f"{self.digest}/{reviewer}/{candidate}"
        return hmac.new(self.secret.encode(), message.encode(), hashlib.sha256).hexdigest()[:32]

    def sound(self, candidate: str) -> bytes:
        """A WAV without tags, which would name the design; a loop twice, so that its seam is heard."""
        with self._lock:  # requests come in threads
            if candidate not in self._encoded:
                if len(self._encoded) >= _MAX_CACHED_SOUNDS:
                    self._encoded.pop(next(iter(self._encoded)))
                self._encoded[candidate] = self._encode(candidate)
            return self._encoded[candidate]

    def min_heard_seconds(self, candidate: str) -> float:
        """How much must be heard before a review: the brief's minimum, or all of a shorter piece."""
        return min(self.brief.minimum_seconds, max(0.0, self.rows[candidate]["seconds"] - 0.25))

    def consent_hash(self, language: str) -> str:
        """Which wording a reviewer agreed to."""
        return hashlib.sha256("\n".join(self.words[language]["consent_text"]).encode()).hexdigest()

    def _encode(self, candidate: str) -> bytes:
        import soundfile

        piece = audio.read(self.folder / self.rows[candidate]["file"])
        samples = np.tile(piece.samples, 2) if self.brief.loop else piece.samples
        buffer = io.BytesIO()
        soundfile.write(buffer, samples.T, piece.rate_hz, format="WAV", subtype="PCM_16")
        return buffer.getvalue()


def is_frozen(folder: Path, database: str | None = None) -> bool:
    """Whether the candidates of a folder were reviewed already."""
    if database is None and not (folder / DATABASE).is_file():
        return False
    return ReviewStore(database or sqlite_url(folder / DATABASE)).frozen


def open_brief(folder: Path, brief: Brief, database: str | None = None) -> ReviewSession:
    """Open the database of a folder with candidates and check that it holds this very brief and these sounds."""
    rows = {row["id"]: row for row in candidates.read_candidates(folder)}
    words = read_page_text(folder, brief.languages, WORDS)
    reviews = ReviewStore(database or sqlite_url(folder / DATABASE))
    digest = reviews.open_brief(brief, {name: row["sha256"] for name, row in rows.items()})
    return ReviewSession(folder, brief, rows, reviews, digest, words, read_secrets(folder)["secret"])
