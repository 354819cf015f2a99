"""A test ready to be heard: its protocol, sounds, words and votes, and the names under which sounds go out."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.errors import TalimError, UsageError
from talim.listening import protocol as protocols
from talim.listening import stimuli as sounds
from talim.listening.database import sqlite_url
from talim.listening.export import DATABASE
from talim.listening.protocol import Protocol
from talim.listening.stimuli import StimulusSet
from talim.listening.vote_store import VoteStore

STATIC = Path(__file__).parent / "static"
WORDS = "words"
_KEYS = "keys.json"


@dataclass(frozen=True)
class ListeningTestSession:
    """All that the server needs of one test. `organiser_token` and `secret` stay in DIR/keys.json."""

    folder: Path
    protocol: Protocol
    material: StimulusSet
    store: VoteStore
    digest: str
    words: dict[str, dict[str, Any]]
    organiser_token: str
    secret: str

    def names(self, listener: str, trial: dict[str, Any]) -> list[str]:
        """The random names of a trial's sounds, in order; in MUSHRA the open reference comes last.

        Other trials and listeners have other names for the same sound, so a name tells nothing.
        """
        count = len(trial["order"]) + (self.protocol.kind == "mushra")
        message = f"{self.digest}/{listener}/{trial['position']}/"
        return [
            hmac.new(self.secret.encode(), f"{message}{place}".encode(), hashlib.sha256).hexdigest()[:32]
            for place in range(count)
        ]

    def sound(self, listener: str, trial: dict[str, Any], name: str) -> Path | None:
        """The file behind a name of this trial, or None."""
        conditions = [*trial["order"], self.protocol.reference]
        for known, condition in zip(self.names(listener, trial), conditions, strict=False):
            if hmac.compare_digest(known.encode(), name.encode()):
                return self.material.path(trial["item"], str(condition))
        return None

    def min_heard_seconds(self, trial: dict[str, Any]) -> float:
        """How much of each sound of a trial must be heard: the protocol's minimum, or all of a shorter one."""
        import soundfile

        length = soundfile.info(str(self.material.path(trial["item"], trial["order"][0]))).duration
        return min(self.protocol.trials.minimum_seconds, max(0.0, length - 0.25))

    def consent_hash(self, language: str) -> str:
        """Which wording a listener agreed to."""
        return hashlib.sha256("\n".join(self.words[language]["consent_text"]).encode()).hexdigest()


def open_test(folder: Path, database: str | None = None, site: str = "here") -> ListeningTestSession:
    """Prepare the sounds, open the database and check that it holds this very test."""
    protocol = protocols.load(folder)
    words = read_page_text(folder, protocol.languages)
    material = sounds.prepare(folder, protocol)
    store = VoteStore(database or sqlite_url(folder / DATABASE))
    digest = store.open_test(protocol, material.sounds, material.prompts, site)
    keys = read_secrets(folder)
    return ListeningTestSession(
        folder, protocol, material, store, digest, words, keys["organiser"], keys["secret"]
    )


def read_page_text(folder: Path, languages: tuple[str, ...], kind: str = WORDS) -> dict[str, dict[str, Any]]:
    """A page's words by language: FOLDER/words/LANGUAGE.json, else what comes with talim as that `kind`.

    TalimError names a language without a file, and keys that a translation lacks.
    """
    english = read_json(STATIC / kind / "en.json")
    found = {}
    for language in languages:
        places = [folder / WORDS / f"{language}.json", STATIC / kind / f"{language}.json"]
        path = next((place for place in places if place.is_file()), None)
        if path is None:
            raise UsageError(f"no words for language {language}: translate en.json into {places[0]}")
        found[language] = read_json(path)
        if lacking := missing_keys(english, found[language]):
            raise TalimError(f"{path}: lacks {', '.join(lacking)}")
    return found


def missing_keys(whole: dict[str, Any], part: Any, prefix: str = "") -> list[str]:
    """Dotted keys of `whole` that `part` has not, or has of another kind."""
    found = []
    for key, value in whole.items():
        other = part.get(key) if isinstance(part, dict) else None
        if isinstance(value, dict):
            found += missing_keys(value, other, f"{prefix}{key}.")
        elif type(other) is not type(value):
            found.append(prefix + key)
    return found


def read_secrets(folder: Path) -> dict[str, str]:
    """The organiser's token and the secret of the names; made once, readable by the owner only."""
    path = folder / _KEYS
    if not path.is_file():
        made = {"organiser": secrets.token_urlsafe(24), "secret": secrets.token_hex(32)}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as handle:
            json.dump(made, handle)
    keys = read_json(path)
    if not isinstance(keys, dict) or not all(keys.get(name) for name in ("organiser", "secret")):
        raise TalimError(f"{path}: not the keys that talim wrote; delete it, and old organiser links end")
    return keys
