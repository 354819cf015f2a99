"""What can be asked of a base model when it makes music: the options of each family and their usual values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from talim.backbones.resolve import family_by_name
from talim.errors import UsageError

if TYPE_CHECKING:
    from talim.beats_chords import BeatsAndChords

if TYPE_CHECKING:
    from talim.beats_chords import BeatsAndChords


def resolve_options(
    base: str, given: Mapping[str, Any], music: Sequence[BeatsAndChords], predicted: bool = False
) -> dict[str, Any]:
    """Every option of a base with its value, given or usual; no weights are read.

    UsageError for an option that it has not, and for beats and chords that it cannot hear.
    """
    family = family_by_name(base)
    check_music(family, base, music, predicted)
    return resolve_family_options(family, base, given)


DEFAULT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "musicgen": {"guidance": 3.0, "temperature": 1.0, "top_k": 250},
    "mustango": {"guidance": 3.0, "steps": 100, "sampler": "ddpm"},
}

FAMILY_LOSS_WEIGHTINGS: Mapping[str, tuple[str, ...]] = {
    "musicgen": (),
    "mustango": ("v", "reference", "none"),
}

BEAT_CHORD_FAMILIES = ("mustango",)  # beats and chords, besides words

DISPLAY_NAMES = {"musicgen": "MusicGen", "mustango": "Mustango"}


def resolve_family_options(family: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of the family, as given or as usual; UsageError for one that it has not, saying who has."""
    usual = DEFAULT_OPTIONS[family]
    for option in given:
        if option not in usual:
            has = [DISPLAY_NAMES[other] for other, theirs in DEFAULT_OPTIONS.items() if option in theirs]
            owner = f"{' and '.join(has)} has it" if has else "no base has it"
            raise UsageError(
                f"{_typed(option)} is no option of {name}: {owner}; {DISPLAY_NAMES[family]} takes "
                f"{', '.join(_typed(option) for option in usual)}"
            )
    return {**usual, **given}


def check_music(
    family: str, name: str, music: Sequence[BeatsAndChords] | None, predicted: bool = False
) -> None:
    """UsageError where beats or chords are given to, or asked of, a base that hears none, or not these."""
    if family not in BEAT_CHORD_FAMILIES:
        if predicted or any(music or ()):
            raise unsupported_conditioning_error(name)
        return
    from talim.backbones.mustango.beat_chord_vocabulary import check_vocabulary

    for one in music or ():
        check_vocabulary(one)


def unsupported_conditioning_error(name: str) -> UsageError:
    """What to say where beats or chords meet a base that hears words alone."""
    return UsageError(
        f"{name} hears no beats or chords: Mustango does (--base mustango); put tempo and key into the words"
    )


def loss_weighting(family: str, name: str, asked: str | None) -> str | None:
    """How a family weighs noise levels in training: as asked, else its first; UsageError where it cannot."""
    known = FAMILY_LOSS_WEIGHTINGS[family]
    if asked is None:
        return known[0] if known else None
    if asked not in known:
        takes = (
            f"it takes {', '.join(known)}"
            if known
            else "only Mustango learns from noise levels; leave it out"
        )
        raise UsageError(f"training.loss_weighting {asked} is none of {name}: {takes}")
    return asked


def _typed(option: str) -> str:
    return f"--{option.replace('_', '-')}"
