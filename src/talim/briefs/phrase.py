"""The phrase that a brief's candidates go on from: how a base uses it, its provenance, its copy for reviewers."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim import audio
from talim.audio.provenance import GENERATED_TAG
from talim.briefs.brief import Brief
from talim.briefs.postprocess import normalize_loudness, untrimmed_seconds
from talim.errors import TalimError, UsageError
from talim.generation.phrase import RIGHTS, Phrase, PhraseOptions, read_phrase, read_phrases

FILE = "candidates/phrase.flac"  # in the folder of candidates
NEW_MUSIC, WHOLE, VARIATION = "new music", "phrase and new music", "variation of the phrase"
# options of talim generate, which its messages name, as a brief has them
_KEYS = {
    "--continue-seconds": "phrase.seconds:",
    "--leave-out-phrase": "phrase.keep: false",
    "--strength": "phrase.strength",
    "--continue": "phrase.file",
}


@dataclass(frozen=True)
class BriefPhrase:
    """A brief's phrase, with the options that one base uses it with."""

    phrase: Phrase
    options: PhraseOptions
    rights: str
    loop: bool

    @property
    def kept_seconds(self) -> float:
        """How much of a piece is the phrase, at its beginning."""
        return self.phrase.audio.seconds if self.options.keep and self.options.strength is None else 0.0

    @property
    def parts(self) -> tuple[str, str]:
        """What a piece is as a whole, and what of it is new."""
        if self.options.strength is not None:
            return VARIATION, VARIATION
        return (WHOLE if self.options.keep else NEW_MUSIC), NEW_MUSIC

    @property
    def tags(self) -> dict[str, str]:
        """Provenance of a piece, as talim generate writes it, with the rights that the brief states."""
        tags = self.phrase.tags(self.options) | {"phrase_rights": f"{self.rights} ({RIGHTS})"}
        if self.loop and "ai_generated_from_seconds" in tags:  # what follows its end fades into its beginning
            tags["ai_generated_from_seconds"] = "0.000"
        return tags

    def begun(self, pieces: int) -> dict[str, Any]:
        """Keywords of `generate_clips` for pieces that begin from the phrase."""
        return {"phrases": [self.phrase.audio] * pieces, "phrase_options": self.options}

    def seconds_of(self, length: float) -> float:
        """How much is generated where `length` seconds are needed: those, or a variation as long as the phrase."""
        return length if self.options.strength is None else self.phrase.audio.seconds


def read_brief_phrase(brief: Brief, base: str) -> BriefPhrase | None:
    """The phrase as `base` uses it; None for a brief without one.

    UsageError or AudioError as talim generate gives them, with the keys of the brief; UsageError for a variation, which
    is as long as its phrase, of another length than the brief asks for.
    """
    spec, path = brief.phrase, brief.phrase_path
    if spec is None or path is None:
        return None
    try:
        options = PhraseOptions(spec.seconds, spec.keep, spec.strength)
        (phrase,), options = read_phrases(base, [path], options, None)
    except UsageError as error:
        raise UsageError(_in_keys_of_briefs(str(error))) from None
    needed = untrimmed_seconds(brief)
    if options.strength is not None and abs(phrase.audio.seconds - needed) > brief.length_tolerance_seconds + 1e-3:
        raise UsageError(_other_length(brief, base, phrase.audio.seconds, needed))
    return BriefPhrase(phrase, options, spec.rights, brief.loop)


def _other_length(brief: Brief, base: str, seconds: float, needed: float) -> str:
    loop = f", with {needed - brief.seconds:g} s for the cross-fade of the loop" * brief.loop
    mend = (
        f"add phrase.seconds: {needed:g} to use its end"
        if seconds > needed
        else f"give a longer one, or seconds: {max(1.0, seconds - (needed - brief.seconds)):g}"
    )
    return (
        f"phrase.file: {base} makes a variation of a phrase, as long as the phrase: what is used of it lasts "
        f"{seconds:.2f} s, and the brief asks for {brief.seconds:g} s{loop}: {mend}"
    )


def _in_keys_of_briefs(message: str) -> str:
    for option, key in _KEYS.items():
        message = message.replace(option, key)
    return message


def write_phrase(folder: Path, brief: Brief, used: BriefPhrase) -> None:
    """Store what is used of the phrase, at the loudness of the brief, where reviewers can hear it."""
    tags = {"title": used.phrase.name, "phrase_rights": used.tags["phrase_rights"]}
    if used.phrase.is_generated:
        tags[GENERATED_TAG] = "AI-generated"
    audio.write(folder / FILE, normalize_loudness(used.phrase.audio, brief.loudness_lufs), tags)


def is_same_phrase(brief: Brief, tags: dict[str, str]) -> bool:
    """Whether a candidate's tags name the brief's phrase, as far as the phrase's file is here to compare."""
    spec, path = brief.phrase, brief.phrase_path
    if spec is None or path is None:
        return "phrase" not in tags
    return "phrase" in tags and (not path.is_file() or tags["phrase_sha256"] == read_phrase(path, spec.seconds).hash)


def stored_hash(folder: Path) -> str:
    """SHA-256 of the phrase's file that reviewers hear; TalimError if it is not there."""
    path = folder / FILE
    if not path.is_file():
        raise TalimError(f"{path}: the phrase of this brief is missing; add --run RUN to write it again")
    return hashlib.sha256(path.read_bytes()).hexdigest()
