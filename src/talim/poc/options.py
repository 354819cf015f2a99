"""Options of the proof of concept, and the recipes that follow from them."""

from __future__ import annotations

import json
import math
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.backbones import registry, resolve
from talim.corpus.prepare import LICENCE_USES
from talim.errors import UsageError
from talim.html.formatting import format_counted, format_duration, format_setting
from talim.licences import allows_commercial_use, commercial_use_objection
from talim.recipe import CLIP_SECONDS, Recipe
from talim.reporting.catalogue import Texts, duration, in_languages, machine_price

STEPS, FRACTION = "training.steps", "training.train_fraction"
OWN_OPTIONS = {
    "base": "give --base",
    "corpus": "it is prepared from FOLDER into --out",
    "design": "give --design",
    "seed": "give --seed",
}
VALUE_OPTIONS = {
    "base": "--base",
    "hours": "--hours",
    "caption": "--caption",
    "seed": "--seed",
    "license_use": "--use",
    "gates": "--gates",
    "device": "--device",
    "price_per_hour": "--price-per-hour",
}
# The least seconds before the first design, for a design, and for a step, with a miniature base.
FIRST_SECONDS, DESIGN_SECONDS, STEP_SECONDS = 10.0, 10.0, 0.02
TWO_CORES = 4  # times as long, with evaluations
KINDS = ("linear", "conv", "transformer")
DESIGNS = tuple(f"{kind}@all:2.7%" for kind in KINDS)  # the paper's 40M of 1.5B


@dataclass(frozen=True)
class PocOptions:
    """Options of a proof of concept; `hours` is the time budget, None for the steps of the recipe."""

    base: str = "nano-musicgen"
    designs: tuple[str, ...] = DESIGNS
    seed: int = 0
    hours: float | None = None
    caption: str | None = None
    held_out: tuple[str, ...] = ()
    held_out_fraction: float | None = None  # as `talim prepare` has it
    clip_seconds: float = CLIP_SECONDS
    sample_seconds: float = 10.0
    settings: tuple[tuple[str, Any], ...] = ()  # dotted recipe keys, as after --set
    generation_options: tuple[tuple[str, Any], ...] = ()  # fields of generation.generate.GenerationOptions
    license_use: str = "any"  # "commercial" excludes recordings whose licence forbids it or is unknown
    gates: Path | None = None  # YAML file with thresholds
    learning_curve: bool = True  # also train on a quarter and on a half of the recordings
    tune: bool = True  # try learning rates for each kind of design first, where time allows
    device: str = "auto"
    larger_base: bool = True  # predict the time of a full training of the larger base to go on with
    price_per_hour: float | None = None  # of this machine, in any currency; for the report only

    def __post_init__(self) -> None:
        if self.hours is not None and not 0 < self.hours <= 10_000:
            raise UsageError(f"--hours is {self.hours:g}; give a positive number of hours, for example --hours 1")
        if self.license_use not in LICENCE_USES:
            raise UsageError(f"--use {self.license_use!r} is unknown; choose one of {', '.join(LICENCE_USES)}")
        if not self.designs:
            raise UsageError("no design; give --design KIND@SITE:SIZE, or leave it out for the default three")
        if self.price_per_hour is not None and not 0 < self.price_per_hour < 1e9:
            raise UsageError(f"--price-per-hour is {self.price_per_hour:g}; give a price above 0, for example 0.5")
        self._check_settings()

    def _check_settings(self) -> None:
        """UsageError for a recipe key that another option decides: it would be overruled without a word."""
        keys = {key for key, _ in self.settings}
        for key in sorted(keys & set(OWN_OPTIONS)):
            raise UsageError(f"--set {key}: talim poc decides it itself; {OWN_OPTIONS[key]}")
        if self.hours is not None and STEPS in keys:
            raise UsageError(
                f"--hours {self.hours:g} and --set {STEPS} contradict each other, as --hours chooses the number of "
                "steps; give one of them"
            )
        if self.learning_curve and FRACTION in keys:
            raise UsageError(f"--set {FRACTION}: the learning curve varies it; give --no-learning-curve with it")


def check_base(options: PocOptions) -> None:
    """Before any work: UsageError, naming usable bases, if the base's licence does not allow the intended use.

    TalimError if the base is neither on this machine nor reachable.
    """
    check_base_use(options.base, options.license_use)
    resolve.check_reachable(resolve.resolve_source(options.base))


def check_base_use(base: str, license_use: str) -> None:
    """UsageError, naming usable bases, if the base's licence does not allow the intended use; fetches nothing."""
    if license_use != "commercial":
        return
    if objection := commercial_use_objection(resolve.source_licence(resolve.resolve_source(base))):
        usable = [entry for entry in registry.MODELS.values() if allows_commercial_use(entry.licence) == "allowed"]
        names = [f"{entry.name} (a miniature, to try the way)" if not entry.hub_id else entry.name for entry in usable]
        raise UsageError(f"--use commercial: base {base}: {objection}; usable are {', '.join(names)}")


def build_recipes(options: PocOptions, out: Path) -> dict[str, Recipe]:
    """The recipe of each design, by its canonical expression, on the corpus in OUT. UsageError for wrong values."""
    by_design = {}
    for design in options.designs:
        values = {"base": options.base, "corpus": str(out / "corpus"), "design": design, "seed": options.seed}
        recipe = recipes.load((), values | dict(options.settings))
        recipes.check_own_design(recipe, "a proof of concept")
        by_design[str(recipe.design)] = recipe
    return by_design


def folder_name(design: str) -> str:
    """A design as the name of its run's folder: conv-all-2.7 for conv@all:2.7%."""
    return re.sub(r"[^A-Za-z0-9.]+", "-", design).strip("-")


def poc_command(folder: Path, out: Path, options: PocOptions, *more: str) -> str:
    """The command line that runs the pipeline with these options, from anywhere; `more` are appended.

    Options that the command does not have, as the demonstration's, are left out.
    """
    default = PocOptions()
    words = ["talim", "poc", str(folder.resolve()), "--out", str(out.resolve())]
    options = replace(
        options, base=resolve.absolute_name(options.base), gates=options.gates and options.gates.resolve()
    )
    for name, option in VALUE_OPTIONS.items():
        value = getattr(options, name)
        if value != getattr(default, name):
            words += [option, format_setting(value) if isinstance(value, float) else str(value)]
    if options.designs != default.designs:
        words += [word for design in options.designs for word in ("--design", design)]
    words += [word for name in options.held_out for word in ("--held-out", name)]
    words += [word for key, value in options.settings for word in ("--set", f"{key}={json.dumps(value)}")]
    words += [] if options.learning_curve else ["--no-learning-curve"]
    words += [] if options.tune else ["--no-tune"]
    return shlex.join([*words, *more])


def hours_option(seconds: float, price_per_hour: float | None = None) -> Texts:
    """A time budget as the option to type, rounded up to two digits, and as a duration with its price."""
    hours = seconds / 3600
    unit = 10.0 ** (math.floor(math.log10(hours)) - 1)
    rounded = float(f"{math.ceil(hours / unit - 1e-9) * unit:.2g}")
    price, time = machine_price(rounded * 3600, price_per_hour), duration(rounded * 3600)
    return in_languages("hours_option", hours=format_setting(rounded), time=time, price=price)


def check_budget(options: PocOptions, min_steps: int) -> None:
    """Before anything is loaded: UsageError for a budget that is too small with any base on any machine."""
    if options.hours is None:
        return
    designs, seconds = len(options.designs), options.hours * 3600
    training = designs * min_steps * STEP_SECONDS
    least = FIRST_SECONDS + designs * DESIGN_SECONDS + training
    if seconds < least:
        enough = hours_option(TWO_CORES * least)["en"]
        raise UsageError(
            f"--hours {options.hours:g} is {format_duration(seconds)}; timing, training and scoring "
            f"{format_counted(designs, 'design')} takes at least {format_duration(least)} with the smallest base on a "
            f"fast machine ({format_duration(designs * DESIGN_SECONDS)} of that evaluation, which generates and scores "
            f"music, and {format_duration(training)} training), and on two cores {TWO_CORES:g} times that; "
            f"give {enough} or more" + (", or fewer designs (--design)" if designs > 1 else "")
        )


def channels_of(base: str) -> int:
    """2 for stereo models, else 1."""
    entry = registry.find_model(base)
    return entry.channels if entry else 1
