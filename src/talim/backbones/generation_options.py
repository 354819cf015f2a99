"""Generation options and conditioning of each model family: defaults, and checks before a model is loaded."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from talim.backbones.resolve import family_by_name
from talim.errors import UsageError
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from talim.beats_chords import BeatsAndChords

DEFAULT_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "musicgen": {"guidance_scale": 3.0, "temperature": 1.0, "top_k": 250},
    "mustango": {"guidance_scale": 3.0, "sampling_steps": 100, "sampler": "ddpm"},
}
FAMILY_LOSS_WEIGHTINGS: Mapping[str, tuple[str, ...]] = {
    "musicgen": (),
    "mustango": ("min_snr_v", "min_snr_eps", "none"),
}
BEAT_CHORD_FAMILIES = ("mustango",)
VARIATION_FAMILIES = ("mustango",)  # they vary a phrase; the others go on from its end
DEFAULT_STRENGTH = 0.5
MAX_VARIATION_SECONDS = 60.0  # attention of a U-Net is quadratic in the length
DISPLAY_NAMES = {"musicgen": "MusicGen", "mustango": "Mustango"}


def resolve_options(
    base: str, given: Mapping[str, Any], beats_chords: Sequence[BeatsAndChords], predict: bool = False
) -> dict[str, Any]:
    """All generation options of a base, given or default; no weights are read.

    UsageError for an option that it lacks, and for beats and chords (given or to `predict`) that it does not support.
    """
    family = family_by_name(base)
    check_beats_chords(family, base, beats_chords, predict)
    return resolve_family_options(family, base, given)


def resolve_family_options(family: str, name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """All options of the family, given or default; UsageError for an unknown one, naming the families that have it."""
    defaults = DEFAULT_OPTIONS[family]
    for option in given:
        if option not in defaults:
            owners = [DISPLAY_NAMES[key] for key, options in DEFAULT_OPTIONS.items() if option in options]
            hint = f"{' and '.join(owners)} has it" if owners else "no base has it"
            raise UsageError(
                f"{_flag(option)} is no option of {name}: {hint}; {DISPLAY_NAMES[family]} takes "
                f"{', '.join(_flag(option) for option in defaults)}"
            )
    return {**defaults, **given}


def check_beats_chords(
    family: str, name: str, beats_chords: Sequence[BeatsAndChords] | None, predict: bool = False
) -> None:
    """UsageError for beats or chords that the model does not support, or any for a text-only model."""
    if family not in BEAT_CHORD_FAMILIES:
        if predict or any(beats_chords or ()):
            raise unsupported_conditioning_error(name)
        return
    from talim.backbones.mustango.beat_chord_vocabulary import check_vocabulary

    for condition in beats_chords or ():
        check_vocabulary(condition)


def check_melody(takes_melody: bool, name: str, melody: Sequence[Any] | None) -> None:
    """UsageError for any melody given to a model that takes none."""
    if not takes_melody and any(row is not None for row in melody or ()):
        raise unsupported_melody_error(name)


def unsupported_melody_error(name: str) -> UsageError:
    """Error for a melody given to a model that takes none."""
    return UsageError(
        f"{name} takes no melody: MusicGen-melody does (--base musicgen-melody), and adapters that are trained on it"
    )


def unsupported_conditioning_error(name: str) -> UsageError:
    """Error for beats or chords given to a text-only model."""
    return UsageError(
        f"{name} takes no beats or chords: Mustango does (--base mustango); put tempo and key into the prompt"
    )


def check_strength(family: str, name: str, strength: float | None) -> None:
    """UsageError for a strength out of range, or for one given to a model that goes on from a phrase."""
    if strength is None:
        return
    if family not in VARIATION_FAMILIES:
        raise UsageError(
            f"--strength is no option of {name}, which goes on from the end of a phrase; it says how far Mustango "
            "(--base mustango) varies one: leave it out"
        )
    if not 0 <= strength <= 1:
        raise UsageError(f"--strength is {strength:g}; it must be between 0 (the phrase) and 1 (nothing of it)")


def loss_weighting(family: str, name: str, requested: str | None) -> str | None:
    """The loss weighting requested, or the family's first; UsageError for one that the family lacks."""
    valid = FAMILY_LOSS_WEIGHTINGS[family]
    if requested is None:
        return valid[0] if valid else None
    if requested not in valid:
        hint = f"use one of {', '.join(valid)}" if valid else "only Mustango has noise levels; leave it out"
        raise UsageError(f"training.loss_weighting {requested} is not supported by {name}: {hint}")
    return requested


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def clip_seeds(seed: int | Sequence[int], count: int) -> list[int]:
    """The seed of each clip of a call: `seed`, `seed` + 1, ..., or one of several for each.

    Each clip has its own, so that it is the same alone and in any batch. UsageError where there are not as many.
    """
    seeds = list(seed) if isinstance(seed, Sequence) else [int(seed) + index for index in range(count)]
    if len(seeds) != count:
        arrived = f"{format_counted(len(seeds), 'seed')} for {format_counted(count, 'clip')}"
        raise UsageError(f"{arrived}; give one for each, or the first one alone")
    return seeds
