"""What a study file says about the trials before its own: `tune` finds settings, `plateau` finds the steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from pydantic import Field, field_validator

from talim.design.expression import Design
from talim.html.formatting import format_counted
from talim.strict_yaml import StrictModel

STEPS, WARMUP = "training.steps", "training.warmup_steps"
RATE = "training.learning_rate"
LORA_KINDS = ("lora", "dora")
ALPHA_SUFFIX = "alpha_per_rank"
MAX_RATE = 1.0  # of a recipe


class TuningRule(StrictModel):
    """`tune`: each family of designs is trained with every value on every seed; the validation loss decides.

    Where the best value is the least or the greatest of several, the grid grows there by its own ratio.
    """

    learning_rate: tuple[float, ...] = Field(min_length=2, description="the grid that is begun with")
    lora_alpha_ratio: tuple[float, ...] = Field(default=(), description="lora_alpha / r, for lora and dora")
    seeds: tuple[int, ...] = Field(default=(100,), min_length=1, max_length=2, description="not those of trials")
    corpora: tuple[str, ...] = Field(default=(), description="whose validation clips decide; none: all that are used")
    per: Literal["corpus", "genre"] = Field(default="corpus", description="what has settings of its own")
    family: tuple[Literal["kind", "site", "size"], ...] = Field(
        default=("kind",), description="what the designs of a family share: kind; kind and site; kind, site and size"
    )
    max_growth: int = Field(default=3, ge=0, le=20, description="values that may be added to each grid")

    @field_validator("learning_rate", "lora_alpha_ratio")
    @classmethod
    def _sorted_positive_and_different(cls, values: tuple[float, ...]) -> tuple[float, ...]:
        if any(value <= 0 for value in values) or len(set(values)) < len(values):
            raise ValueError("expected different values above 0")
        return tuple(sorted(values))

    @field_validator("learning_rate")
    @classmethod
    def _not_above_the_largest_rate(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if rates and rates[-1] > MAX_RATE:
            raise ValueError(f"{rates[-1]:g} is above {MAX_RATE:g}, the largest learning rate")
        return rates

    @field_validator("family")
    @classmethod
    def _nested(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        ordered = tuple(name for name in ("kind", "site", "size") if name in names)
        if ordered not in (("kind",), ("kind", "site"), ("kind", "site", "size")):
            raise ValueError("expected [kind], [kind, site] or [kind, site, size]")
        return ordered

    def grids(self, design: Design) -> dict[str, tuple[float, ...]]:
        """The values to begin with, by dotted recipe key, of the settings that the design has."""
        grids = {RATE: self.learning_rate}
        if self.lora_alpha_ratio:
            grids |= {alpha_key(kind): self.lora_alpha_ratio for kind in kinds_of(design) if kind in LORA_KINDS}
        return grids

    def family_of(self, design: Design) -> str:
        """What names the design's family: `family_name` of what the rule's families share."""
        return family_name(design, self.family)

    def check(
        self, trial_seeds: Sequence[int], groups: Mapping[str, str], used: Sequence[str], settings: Sequence[str]
    ) -> None:
        """ValueError for seeds of trials, corpora of trials that nothing tunes, settings said twice.

        `groups` says of each corpus what has settings of its own (corpus or genre), `used` are those of the trials,
        `settings` the recipe keys of the study's overrides.
        """
        if repeated := sorted(set(self.seeds) & set(trial_seeds)):
            raise ValueError(f"tune.seeds: {repeated[0]} is a seed of trials, and would be tuned for; take another")
        tuned = {groups[name] for name in self.corpora}
        if self.corpora and (left := [name for name in used if groups[name] not in tuned]):
            raise ValueError(
                f"tune.corpora: nothing tunes the trials on {left[0]}; name it, too, or leave out corpora"
                + ("" if self.per == "genre" else ", or share settings with per: genre")
            )
        own = {RATE, *((alpha_key(kind) for kind in LORA_KINDS) if self.lora_alpha_ratio else ())}
        if said := sorted(own & set(settings)):
            raise ValueError(f"overrides: {said[0]} is what tune decides; leave out one of them")


class PlateauRule(StrictModel):
    """`plateau`: long pilot trainings, from whose curves the steps of all trials follow."""

    max_steps: int = Field(ge=20, le=10_000_000, description="steps of a pilot, and the most that trials get")
    designs: tuple[str, ...] = Field(default=(), description="to pilot; none: one for each base")
    corpora: tuple[str, ...] = Field(default=(), description="to pilot on; none: all that are used")
    seed: int = Field(default=100, ge=0, lt=2**31, description="not one of the trials")

    def check(self, trial_seeds: Sequence[int], settings: Sequence[str], least: int) -> None:
        """ValueError for a seed of trials, for steps said twice, and for fewer than the `least` that trials need."""
        if self.seed in trial_seeds:
            raise ValueError(f"plateau.seed: {self.seed} is a seed of trials; take another")
        if STEPS in settings:
            raise ValueError(f"overrides: {STEPS} is what plateau decides; leave out one of them")
        if self.max_steps < least:
            raise ValueError(
                f"plateau.max_steps: {format_counted(self.max_steps, 'step')}: too few for the warm-up, as "
                "each trial, also with a "
                f"fraction of the steps, trains as long after it as in it; expected {least} or more"
            )


def least_steps(warmup_steps: int, fractions: Iterable[float] = ()) -> int:
    """Steps of which even the least of `fractions` (above 0, below 1) leaves as many after the warm-up as in it."""
    return math.ceil(2 * warmup_steps / min(fractions, default=1.0))


def family_name(design: Design, shared: Sequence[str]) -> str:
    """The design's kind, kind@site where sites are `shared` too, or all of it; those of a mixture joined by +.

    `full` has its site in any case, as that is its size: all of the base takes a lower rate than its last layer.
    """
    if "size" in shared:
        return str(design)
    by_site = "site" in shared
    names = (f"{part.kind}@{part.site}" if by_site or part.kind == "full" else part.kind for part in design.parts)
    return "+".join(dict.fromkeys(names))


def kinds_of(design: Design) -> list[str]:
    """The kinds of a design's parts, each once."""
    return list(dict.fromkeys(part.kind for part in design.parts))


def alpha_key(kind: str) -> str:
    """The recipe key of LoRA's alpha per rank."""
    return f"kind_options.{kind}.{ALPHA_SUFFIX}"
