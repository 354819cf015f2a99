"""A recording that generation begins from: its last seconds, read once, with what is recorded of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from talim.audio import Audio, AudioError, content_hash, read_tags
from talim.audio.decode import decode_blocks
from talim.audio.errors import TooLongError
from talim.audio.provenance import generated_by
from talim.audio.read import blocks_up_to
from talim.backbones import generation_options
from talim.backbones.generation_options import MAX_VARIATION_SECONDS
from talim.backbones.resolve import family_by_name
from talim.errors import UsageError
from talim.generation.sources import check_range
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

MAX_PHRASE_SECONDS = 3600.0
SILENCE = 1e-4  # of full scale
RIGHTS = "given by the user, not checked by talim"


@dataclass(frozen=True)
class PhraseOptions:
    """How phrases are used; UsageError for values out of range.

    `seconds` is how much of a recording's end is the phrase (None: all of it). `keep` says whether a continuation comes
    after the phrase or alone; `strength` how far a base that varies phrases goes, 0 to 1 (None: its default).
    """

    seconds: float | None = None
    keep: bool = True
    strength: float | None = None

    def __post_init__(self) -> None:
        if self.seconds is not None:
            check_range("--continue-seconds", self.seconds, 0.01, MAX_PHRASE_SECONDS)

    @property
    def given(self) -> list[str]:
        """The options that differ from their defaults, as they are typed."""
        flags = {"--continue-seconds": self.seconds is not None, "--leave-out-phrase": not self.keep}
        flags |= {"--strength": self.strength is not None}
        return [flag for flag, is_given in flags.items() if is_given]


ALL_KEPT = PhraseOptions()


@dataclass(frozen=True)
class Phrase:
    """The sound to begin from, at its own rate; `whole_seconds` is the length of the recording that it ends."""

    audio: Audio
    name: str  # of the file, without its folder
    whole_seconds: float
    is_generated: bool = False  # its tags say that a program made it
    remarks: Sequence[str] = field(default=())

    @cached_property
    def hash(self) -> str:
        """SHA-256 of the samples that are used."""
        return content_hash(self.audio)

    def described(self, backbone: Backbone, options: PhraseOptions) -> str:
        """What is used of the recording, and how, in one line."""
        used, whole = f"{self.audio.seconds:.2f} s", f"{self.whole_seconds:.2f} s"
        part = f"all of its {whole}" if self.audio.seconds == self.whole_seconds else f"the last {used} of its {whole}"
        if options.seconds is not None and self.whole_seconds < options.seconds:
            part += f" (it is shorter than --continue-seconds {options.seconds:g})"
        changes = []
        if self.audio.channels != backbone.channels:
            changes.append(f"{self.audio.channels} channels become {backbone.channels}")
        if self.audio.rate_hz != backbone.rate_hz:
            changes.append(f"resampled from {self.audio.rate_hz} to {backbone.rate_hz} Hz")
        return f"phrase {self.name}: {'; '.join([part, *changes, self._use(backbone, options)])}"

    def _use(self, backbone: Backbone, options: PhraseOptions) -> str:
        if options.strength is not None:
            return f"{backbone.name} varies it (strength {options.strength:g}), it does not go on from it"
        context = backbone.context_seconds(self.audio.seconds)
        text = "the music goes on from it"
        if self.audio.seconds - context >= 1 / backbone.frame_rate_hz:
            text = f"the music goes on from its last {context:.2f} s, as {backbone.name} hears no more"
        return f"{text}, and {'comes after' if options.keep else 'is written without'} it"

    def tags(self, options: PhraseOptions) -> dict[str, str]:
        """Provenance of a piece that begins from it; `options` as `read_phrases` returns them."""
        tags = {
            "phrase": self.name,
            "phrase_sha256": self.hash,
            "phrase_seconds": f"{self.audio.seconds:.3f}",
            "phrase_rights": RIGHTS,
            "phrase_use": "continued" if options.strength is None else "varied",
        }
        if self.is_generated:
            tags["phrase_ai_generated"] = "AI-generated"
        if options.strength is not None:
            return tags | {"strength": f"{options.strength:g}"}
        if options.keep and not self.is_generated:
            tags["ai_generated_from_seconds"] = f"{self.audio.seconds:.3f}"
        return tags | {"phrase_kept": "yes" if options.keep else "no"}


def read_phrases(
    base: str, given: Sequence[Audio | Path | str], options: PhraseOptions, seconds: float | None
) -> tuple[list[Phrase], PhraseOptions]:
    """The phrases, and the options with the strength of a base that varies them, None for one that goes on from them.

    `seconds` is the length that was asked for, if any. UsageError for options without a phrase and for those that the
    base does not have, UsageError or AudioError for what is no phrase.
    """
    if not given:
        if options.given:
            raise UsageError(f"{options.given[0]} says how a phrase is used; add --continue with the file of one")
        return [], options
    family = family_by_name(base)
    generation_options.check_strength(family, base, options.strength)
    if family not in generation_options.VARIATION_FAMILIES:
        return [read_phrase(each, options.seconds) for each in given], options
    if not options.keep:
        raise UsageError(f"{base} varies a phrase and keeps nothing of it: leave out --leave-out-phrase")
    if seconds is not None:
        raise UsageError(
            f"{base} makes a variation of a phrase, as long as the phrase, and does not go on from it: leave out "
            "--seconds (--continue-seconds uses the end of the recording only), or go on with --base musicgen-small"
        )
    phrases = [read_phrase(each, options.seconds, base) for each in given]
    strength = generation_options.DEFAULT_STRENGTH if options.strength is None else options.strength
    return phrases, replace(options, strength=strength)


def pair_phrases(prompts: Sequence[str], phrases: Sequence[Phrase]) -> tuple[list[str], list[Phrase | None]]:
    """A prompt and a phrase (None without phrases) for each piece: one for all, or one for each, in order."""
    count = max(len(prompts), len(phrases))
    if not phrases:
        return [*prompts], [None] * count
    if len(prompts) not in (1, count) or len(phrases) not in (1, count):
        raise UsageError(
            f"--continue was given {format_counted(len(phrases), 'time')} and --prompt "
            f"{format_counted(len(prompts), 'time')}; give one of them once, or "
            "both equally often, in order"
        )
    return [*prompts] * (count // len(prompts)), [*phrases] * (count // len(phrases))


def read_phrase(given: Audio | Path | str, seconds: float | None = None, varied_by: str = "") -> Phrase:
    """The last `seconds` of a file or of an Audio, all of a shorter one; only that is held in memory.

    `varied_by` is the name of a base that varies it, which takes less. UsageError or AudioError for one without sound,
    and for one that is too long, as far as its header tells before it is read.
    """
    limit = MAX_VARIATION_SECONDS if varied_by else MAX_PHRASE_SECONDS
    if isinstance(given, Audio):
        phrase = Phrase(_last(given, seconds), "a sound in memory", given.seconds, bool(generated_by(given.tags)))
    else:
        try:
            phrase = _read_file(Path(given), seconds, limit)
        except TooLongError as error:
            raise _too_long(Path(given).name, error.length, varied_by) from None
    samples = phrase.audio.samples
    if not samples.size or not np.isfinite(samples).all():
        raise UsageError(f"--continue: {phrase.name} holds {'no samples' if not samples.size else 'NaN or infinity'}")
    if phrase.audio.seconds > limit:
        raise _too_long(phrase.name, f"{phrase.audio.seconds:.1f} s", varied_by)
    if phrase.audio.peak < SILENCE:
        raise UsageError(
            f"--continue: what is used of {phrase.name} is silent (peak {phrase.audio.peak:.1e} of full scale), so "
            "there is nothing to go on from; give a recording that ends with music, or a larger --continue-seconds"
        )
    return phrase


def _too_long(name: str, length: str, varied_by: str) -> UsageError:
    if varied_by:
        limit = f"{MAX_VARIATION_SECONDS:g}"
        return UsageError(
            f"--continue: {name} is {length} long; {varied_by} varies up to {limit} s at once: add --continue-seconds "
            f"{limit}, or a smaller number, to use its end"
        )
    return UsageError(
        f"--continue: {name} is {length} long; a phrase has up to {MAX_PHRASE_SECONDS:.0f} s: add --continue-seconds "
        "30 to use its end"
    )


def _read_file(path: Path, seconds: float | None, limit_seconds: float) -> Phrase:
    """The phrase in a file; TooLongError where all of it is asked for and that is more than the limit."""
    remarks: list[str] = []
    kept: list[np.ndarray] = []
    frames = rate_hz = 0
    for block in decode_blocks(path, remarks) if seconds else blocks_up_to(path, limit_seconds, remarks):
        rate_hz = block.rate_hz
        frames += block.frames
        kept.append(block.samples)
        while seconds and sum(part.shape[1] for part in kept[1:]) >= round(seconds * rate_hz):
            kept.pop(0)
    if not kept:
        raise AudioError(f"{path}: empty: it holds 0 seconds of sound")
    whole = Audio(np.concatenate(kept, axis=1), rate_hz)
    return Phrase(_last(whole, seconds), path.name, frames / rate_hz, _is_generated(path), remarks)


def _is_generated(path: Path) -> bool:
    try:
        return bool(generated_by(read_tags(path)))
    except AudioError:
        return False


def _last(whole: Audio, seconds: float | None) -> Audio:
    count = whole.frames if seconds is None else max(1, round(seconds * whole.rate_hz))
    return Audio(whole.samples[:, -count:], whole.rate_hz)
