"""What can be asked of a base model when it makes music: the options of each family and their usual values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from talim.errors import UsageError

if TYPE_CHECKING:
    from talim.music import Music

OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "musicgen": {"guidance": 3.0, "temperature": 1.0, "top_k": 250},
    "mustango": {"guidance": 3.0, "steps": 100, "sampler": "ddpm"},
}
WEIGHTINGS: Mapping[str, tuple[str, ...]] = {"musicgen": (), "mustango": ("v", "reference", "none")}
HEAR_MUSIC = ("mustango",)  # beats and chords, besides words
SPOKEN = {"musicgen": "MusicGen", "mustango": "Mustango"}


def settled(family: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """Every option of the family, as given or as usual; UsageError for one that it has not, saying who has."""
    usual = OPTIONS[family]
    for option in given:
        if option not in usual:
            has = [SPOKEN[other] for other, theirs in OPTIONS.items() if option in theirs]
            owner = f"{' and '.join(has)} has it" if has else "no base has it"
            raise UsageError(
                f"{_typed(option)} is no option of {name}: {owner}; {SPOKEN[family]} takes "
                f"{', '.join(_typed(option) for option in usual)}"
            )
    return {**usual, **given}


def check_music(family: str, name: str, music: Sequence[Music] | None, predicted: bool = False) -> None:
    """UsageError where beats or chords are given to, or asked of, a base that hears none, or not these."""
    if family not in HEAR_MUSIC:
        if predicted or any(music or ()):
            raise deaf(name)
        return
    from talim.backbones.mustango.music import check

    for one in music or ():
        check(one)


def deaf(name: str) -> UsageError:
    """What to say where beats or chords meet a base that hears words alone."""
    return UsageError(
        f"{name} hears no beats or chords: Mustango does (--base mustango); put tempo and key into the words"
    )


def weighting(family: str, name: str, asked: str | None) -> str | None:
    """How a family weighs noise levels in training: as asked, else its first; UsageError where it cannot."""
    known = WEIGHTINGS[family]
    if asked is None:
        return known[0] if known else None
    if asked not in known:
        takes = (
            f"it takes {', '.join(known)}"
            if known
            else "only Mustango learns from noise levels; leave it out"
        )
        raise UsageError(f"training.weighting {asked} is none of {name}: {takes}")
    return asked


def _typed(option: str) -> str:
    return f"--{option.replace('_', '-')}"
