"""An open listening test: protocol, stimuli, translations and votes, and the random names of stimuli."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.errors import TalimError, UsageError
from talim.html import languages
from talim.listening import protocol as protocols
from talim.listening.database import sqlite_url
from talim.listening.export import DATABASE
from talim.listening.participant_store import ParticipantStore, RequestRejectedError
from talim.listening.protocol import Protocol
from talim.listening.stimuli import StimulusSet, prepare
from talim.listening.vote_store import Vote, VoteStore

STATIC = Path(__file__).parent / "static"
WORDS = "words"
_KEYS = "keys.json"


@dataclass(frozen=True)
class ServedSession:
    """What the servers of listening tests and of reviews share. `secret` is stored in DIR/keys.json."""

    folder: Path
    translations: dict[str, dict[str, Any]]
    secret: str
    store: ParticipantStore

    def random_name(self, message: str) -> str:
        """32 hex digits that depend on `message` and cannot be computed without the secret."""
        return hmac.new(self.secret.encode(), message.encode(), hashlib.sha256).hexdigest()[:32]

    def consent_hash(self, language: str) -> str:
        """Hash of the consent text in this language; RequestRejectedError for a language that is not offered."""
        if language not in self.translations:
            raise RequestRejectedError("malformed", f"there are no texts in {language}", 422)
        return hashlib.sha256("\n".join(self.translations[language]["consent_text"]).encode()).hexdigest()

    def public_turn(self, participant: Mapping[str, Any], turn: dict[str, Any]) -> dict[str, Any]:
        """What the page gets of a turn: nothing that tells where its audio comes from."""
        raise NotImplementedError

    def sounds(self, participant: str, turn: dict[str, Any]) -> dict[str, Callable[[], bytes]]:
        """The audio of a turn: random names, and functions that read the WAV files."""
        raise NotImplementedError

    def check_answer(self, answer: Any, turn: dict[str, Any]) -> float:
        """The seconds that answering a turn takes at least; RequestRejectedError unless the answer is complete, on its
        scale, and given after enough was played.
        """
        raise NotImplementedError


@dataclass(frozen=True)
class ListeningTestSession(ServedSession):
    """The state of the server for one test. `organiser_token` is stored in DIR/keys.json."""

    store: VoteStore
    organiser_token: str
    protocol: Protocol
    stimuli: StimulusSet
    test_hash: str

    def names(self, listener: str, trial: dict[str, Any]) -> list[str]:
        """The random names of a trial's stimuli, in order; in MUSHRA the open reference comes last.

        The same stimulus has another name in every trial and for every listener.
        """
        count = len(trial["order"]) + (self.protocol.kind == "mushra")
        return [self.random_name(f"{self.test_hash}/{listener}/{trial['position']}/{i}") for i in range(count)]

    def sounds(self, participant: str, turn: dict[str, Any]) -> dict[str, Callable[[], bytes]]:
        """The audio of a trial by random name; MUSHRA's open reference included."""
        conditions = [*turn["order"], self.protocol.reference]
        paths = [self.stimuli.path(turn["item"], str(c)) for c in conditions[: len(self.names(participant, turn))]]
        return {name: path.read_bytes for name, path in zip(self.names(participant, turn), paths, strict=True)}

    def public_turn(self, participant: Mapping[str, Any], turn: dict[str, Any]) -> dict[str, Any]:
        """A trial without its kind and conditions."""
        names = self.names(participant["id"], turn)
        public = {
            "trials": participant["turns"],
            "stimuli": names[: len(turn["order"])],
            "reference": names[-1] if self.protocol.kind == "mushra" else None,
            "aspect": turn["aspect"],
            "minimum_seconds": self.min_listening_seconds(turn),
        }
        show_prompt = self.protocol.trials.show_prompt
        return public | ({"prompt": self.stimuli.prompts[turn["item"]]} if show_prompt else {})

    def check_answer(self, answer: Vote, turn: dict[str, Any]) -> float:
        """All questions answered on their scale, and all stimuli played long enough, one after the other."""
        if turn["aspect"] is None:
            keys = {aspect.name for aspect in self.protocol.aspects}
            fits = all(value is None or -2 <= value <= 2 for value in answer.answers.values())
        else:
            keys = {str(index) for index in range(len(turn["order"]))}
            fits = all(value is not None and 0 <= value <= 100 for value in answer.answers.values())
        if answer.answers.keys() != keys or not fits or len(answer.listened_seconds) != len(turn["order"]):
            raise RequestRejectedError("malformed", "the answers are not those of this trial", 422)
        minimum_seconds = self.min_listening_seconds(turn)
        if min(answer.listened_seconds) < minimum_seconds:
            raise RequestRejectedError("not_listened", f"not all stimuli were played for {minimum_seconds:g} s")
        return minimum_seconds * len(turn["order"])

    def min_listening_seconds(self, trial: dict[str, Any]) -> float:
        """How long each stimulus of a trial must be played: the protocol's minimum, or all of a shorter one."""
        import soundfile

        length = soundfile.info(str(self.stimuli.path(trial["item"], trial["order"][0]))).duration
        return min(self.protocol.trials.minimum_seconds, max(0.0, length - 0.25))


def open_test(folder: Path, database: str | None = None, site: str = "here") -> ListeningTestSession:
    """Prepare the stimuli and open the database. TalimError if it holds votes of another test."""
    protocol = protocols.load(folder)
    translations = {
        language: texts | {"consent_text": consent_text(texts, protocol)}
        for language, texts in read_translations(folder, protocol.languages).items()
    }
    stimuli = prepare(folder, protocol)
    store = VoteStore(database or sqlite_url(folder / DATABASE))
    test_hash = store.open_test(protocol, stimuli.content_hashes, stimuli.prompts, site)
    keys = read_secrets(folder)
    return ListeningTestSession(
        folder, translations, keys["secret"], store, keys["organiser"], protocol, stimuli, test_hash
    )


def consent_text(texts: Mapping[str, Any], protocol: Protocol) -> list[str]:
    """The paragraphs that listeners agree to, with who keeps the answers and whether they may be published."""
    contact = texts["consent_contact"].replace("{contact}", protocol.contact) if protocol.contact else ""
    published = texts["consent_published" if protocol.publish else "consent_unpublished"]
    return [text.replace("{contact}", contact).replace("{published}", published) for text in texts["consent_text"]]


def read_translations(folder: Path, codes: tuple[str, ...], builtin: str = "listen") -> dict[str, dict[str, Any]]:
    """The texts of a page by language: FOLDER/words/LANGUAGE.json, else the built-in ones of `html.languages`.

    UsageError for a language without a file, TalimError for keys that a translation lacks.
    """
    original = languages.FOLDER / languages.ENGLISH / f"{builtin}.json"
    english = read_json(original)
    translations = {}
    for language in codes:
        candidates = [folder / WORDS / f"{language}.json", languages.FOLDER / language / f"{builtin}.json"]
        path = next((path for path in candidates if path.is_file()), None)
        if path is None:
            raise UsageError(f"no texts for language {language}: translate {original} into {candidates[0]}")
        translations[language] = read_json(path)
        if missing := missing_keys(english, translations[language]):
            raise TalimError(f"{path}: lacks {', '.join(missing)}")
    return translations


def missing_keys(reference: dict[str, Any], translation: Any, prefix: str = "") -> list[str]:
    """Dotted keys of `reference` that `translation` lacks or has with another type."""
    missing = []
    for key, value in reference.items():
        translated = translation.get(key) if isinstance(translation, dict) else None
        if isinstance(value, dict):
            missing += missing_keys(value, translated, f"{prefix}{key}.")
        elif type(translated) is not type(value):
            missing.append(prefix + key)
    return missing


def read_secrets(folder: Path) -> dict[str, str]:
    """The organiser's token and the secret behind random names; created once, readable by the owner only."""
    path = folder / _KEYS
    if not path.is_file():
        keys = {"organiser": secrets.token_urlsafe(24), "secret": secrets.token_hex(32)}
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "w", encoding="utf-8") as handle:
            json.dump(keys, handle)
    keys = read_json(path)
    if not isinstance(keys, dict) or not all(keys.get(name) for name in ("organiser", "secret")):
        raise TalimError(f"{path}: not a key file of talim; delete it to create new keys and organiser links")
    return keys
