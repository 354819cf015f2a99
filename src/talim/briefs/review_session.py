"""An open review of a brief: candidates, translations and reviews, and the random names of audio files."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.briefs import candidates
from talim.briefs import phrase as phrase_file
from talim.briefs.brief import Brief
from talim.briefs.review_store import DATABASE, Review, ReviewStore
from talim.html.phrases import translate
from talim.listening.database import sqlite_url
from talim.listening.participant_store import RequestRejectedError
from talim.listening.session import ServedSession, read_secrets, read_translations

WORDS = "review"
COMMA = ", "  # between the parts of a list; a phrase of its own


@dataclass(frozen=True)
class ReviewSession(ServedSession):
    """The state of the server for one brief."""

    store: ReviewStore
    brief: Brief
    rows: dict[str, dict[str, Any]]  # candidates by id
    brief_hash: str
    phrase_hash: str = ""  # of the file of the brief's phrase, where there is one

    def name(self, reviewer: str, candidate: str) -> str:
        """The random name of a candidate's audio, different for each reviewer."""
        return self.random_name(f"{self.brief_hash}/{reviewer}/{candidate}")

    def wav(self, candidate: str) -> bytes:
        """The candidate as WAV without tags, which name the contender; a loop is repeated to expose its seam."""
        row = self.rows[candidate]
        return _encode(self.folder / row["file"], row["sha256"], self.brief.loop)

    def sounds(self, participant: str, turn: dict[str, Any]) -> dict[str, Callable[[], bytes]]:
        """The audio of the candidate, and of the brief's phrase, under their random names."""
        name = turn["candidate"]
        sounds = {self.name(participant, name): partial(self.wav, name)}
        if self.phrase_hash:
            phrase = partial(_encode, self.folder / phrase_file.FILE, self.phrase_hash, False)
            sounds[self.name(participant, f"{name}/phrase")] = phrase
        return sounds

    def public_turn(self, participant: Mapping[str, Any], turn: dict[str, Any]) -> dict[str, Any]:
        """A candidate with its failed checks, in every language, without its contender."""
        name = turn["candidate"]
        failed = [check for check in self.rows[name]["checks"] if check["passed"] is False]
        return {
            "candidates": participant["turns"],
            "audio": self.name(participant["id"], name),
            "minimum_seconds": self.min_listening_seconds(name),
            "failed": [self._check(check) for check in failed],
        } | ({"phrase": self._phrase_of(participant["id"], name)} if self.phrase_hash else {})

    def _phrase_of(self, participant: str, candidate: str) -> dict[str, Any]:
        """The random name of the phrase's audio, and how many seconds of it the candidate begins with."""
        audio_name = self.name(participant, f"{candidate}/phrase")
        return {"audio": audio_name, "kept_seconds": self._phrase_seconds(candidate)}

    def _phrase_seconds(self, candidate: str) -> float:
        return self.rows[candidate].get("phrase_seconds", 0.0)

    def _check(self, check: dict[str, Any]) -> dict[str, Any]:
        """A check's name, what was judged, and its measured and required value by language."""
        by_language = {
            key: {language: translate(check[key], phrases) for language, phrases in self._phrases()}
            for key in ("measured", "required", "part")
            if check.get(key) is not None and (key != "part" or check[key])
        }
        return {"name": check["name"]} | by_language

    def wanted(self) -> dict[str, Any]:
        """What the brief asks for; music and mood by language."""
        brief, phrases = self.brief, self._phrases()
        moods = [part.strip() for part in (brief.mood or "").split(",") if part.strip()]
        return {
            "prompt": {language: _described(brief, table) for language, table in phrases},
            "mood": {language: _listed([("mood", mood) for mood in moods], table) for language, table in phrases},
            "seconds": brief.seconds,
            "loop": brief.loop,
        } | ({"phrase": True} if self.phrase_hash else {})

    def _phrases(self) -> list[tuple[str, dict[str, str]]]:
        return [(language, texts.get("phrases", {})) for language, texts in self.translations.items()]

    def check_answer(self, answer: Review, turn: dict[str, Any]) -> float:
        """Reasons of the brief, at least one (or a note) unless the verdict is accept, and enough of it heard."""
        reasons = answer.reasons
        if not set(reasons) <= set(self.brief.reasons) or len(set(reasons)) != len(reasons):
            raise RequestRejectedError("malformed", "reasons that the brief does not have", 422)
        if answer.verdict != "accept" and not reasons and not answer.note:
            raise RequestRejectedError("reason_needed", "neither a reason nor a note", 422)
        minimum_seconds = self.min_listening_seconds(turn["candidate"])
        if answer.listened_seconds < minimum_seconds:
            raise RequestRejectedError("not_listened", f"it was not played for {minimum_seconds:g} s")
        return minimum_seconds

    def min_listening_seconds(self, candidate: str) -> float:
        """How long a candidate must be played before a review: the brief's minimum, or all of a shorter piece.

        A phrase at its beginning does not count, so that some of the new music is always heard.
        """
        needed = self.brief.minimum_seconds + self._phrase_seconds(candidate) * bool(self.brief.minimum_seconds)
        return min(needed, max(0.0, self.rows[candidate]["seconds"] - 0.25))


def _described(brief: Brief, phrases: Mapping[str, str]) -> str:
    """The music that a brief asks for: its labels in the language of `phrases`, a prompt of its own as it is."""
    if not phrases or brief.prompt == "":
        return brief.prompt_text
    if brief.prompt:
        return _listed([("prompt", brief.prompt)], phrases)
    labels = [("tradition", brief.tradition), ("mode", brief.mode), ("cycle", brief.cycle)]
    labels += [("instrument", name) for name in brief.instruments]
    labels += [("tempo", f"{brief.tempo_bpm:g}")] if brief.tempo_bpm else []
    return _listed([(kind, text) for kind, text in labels if text], phrases) or _listed(
        [("mood", brief.mood or "")], phrases
    )


def _listed(labels: Sequence[tuple[str, str]], phrases: Mapping[str, str]) -> str:
    """Labels (kind, text) as a list in the language of `phrases`; texts without a phrase stay as they are."""
    spoken = []
    for kind, text in labels:
        key = f"{kind} {text}" if kind == "prompt" else f"{kind} {text.lower()}"
        known = key in phrases
        translated = translate(key if known else f"{kind} {text}", phrases)
        spoken.append(text if translated == f"{kind} {text}" else translated)
    return phrases.get(COMMA, COMMA).join(spoken)


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
    store = ReviewStore(database or sqlite_url(folder / DATABASE))
    brief_hash = store.open_brief(brief, {name: row["sha256"] for name, row in rows.items()})
    secret, phrase_hash = read_secrets(folder)["secret"], phrase_file.stored_hash(folder) if brief.phrase else ""
    return ReviewSession(folder, translations, secret, store, brief, rows, brief_hash, phrase_hash)
