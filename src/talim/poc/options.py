"""What the user asks of the whole road, and the recipes that it comes to."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.backbones import registry, resolve
from talim.corpus.prepare import LICENCE_USES
from talim.errors import UsageError
from talim.licences import allows_commercial_use, commercial_use_objection
from talim.recipe import Recipe

KINDS = ("linear", "conv", "transformer")
DESIGNS = tuple(f"{kind}@all:2.7%" for kind in KINDS)  # the paper's 40M of 1.5B


@dataclass(frozen=True)
class PocOptions:
    """What the user asked of the whole road, besides the folder and where to put the result."""

    base: str = "nano-musicgen"
    designs: tuple[str, ...] = DESIGNS
    seed: int = 0
    hours: float | None = None
    describe: str | None = None
    held_out: tuple[str, ...] = ()
    held_out_fraction: float = 0.3  # a fifth of few recordings is often one, and one gives no interval
    clip_seconds: float = 10.0
    sample_seconds: float = 10.0
    settings: tuple[tuple[str, Any], ...] = ()  # dotted recipe keys, as after --set
    sampling: tuple[tuple[str, Any], ...] = ()  # of the samples: as in stages.generate.Sampling
    use: str = "any"  # or commercial: what forbids that, or is unknown, is left out
    gates: Path | None = None  # a YAML file with the user's own thresholds
    curve: bool = True  # whether to train on a quarter and a half of the recordings too
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.hours is not None and not 0 < self.hours <= 10_000:
            raise UsageError(
                f"--hours is {self.hours:g}; give a positive number of hours, for example --hours 1"
            )
        if self.use not in LICENCE_USES:
            raise UsageError(f"--use {self.use!r} is not known; choose one of {', '.join(LICENCE_USES)}")
        if not self.designs:
            raise UsageError("no design is named; give --design KIND@SITE:SIZE, or leave it out for three")


def check_base(wishes: PocOptions) -> None:
    """UsageError, naming bases that can be used, where the base's licence keeps from what is planned."""
    if wishes.use != "commercial":
        return
    licence = resolve.source_licence(resolve.resolve_source(wishes.base))
    if why := commercial_use_objection(licence):
        usable = [
            known.name
            for known in registry.MODELS.values()
            if allows_commercial_use(known.licence) == "allowed"
        ]
        raise UsageError(f"--use commercial: base {wishes.base}: {why}; usable are {', '.join(usable)}")


def recipes_of(wishes: PocOptions, out: Path) -> dict[str, Recipe]:
    """The recipe of each design by its name, on the corpus in DIR; UsageError where one makes no sense."""
    found = {}
    for text in wishes.designs:
        recipe = recipe_of(wishes, text, out)
        found[str(recipe.design)] = recipe
    return found


def recipe_of(wishes: PocOptions, design: str, out: Path) -> Recipe:
    """The recipe of one design; UsageError where it makes no sense."""
    values = {"base": wishes.base, "corpus": str(out / "corpus"), "design": design, "seed": wishes.seed}
    return recipes.load((), {**values, **dict(wishes.settings)})


def folder_name(design: str) -> str:
    """A design as the name of its run's folder: conv-all-2.7 for conv@all:2.7%."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", design).strip("-")


def channels(base: str) -> int:
    """Stereo clips for the stereo models, mono for all others."""
    known = registry.find_model(base)
    return known.channels if known else 1
