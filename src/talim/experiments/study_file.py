"""A study's YAML file: grids of bases, designs, corpora and seeds, and the trials that they expand to.

A trial's id is a hash of its content. Adding trials to a study therefore changes no existing id, and so no result.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from talim import recipe as recipes
from talim.design.expression import Design
from talim.errors import UsageError
from talim.experiments.preliminary_rules import RATE, STEPS, WARMUP, PlateauRule, TuningRule, least_steps
from talim.experiments.tuning import TunedFamily, family_of
from talim.recipe import CLIP_SECONDS, Recipe, Training
from talim.strict_yaml import StrictModel, build, read_yaml

PROTOCOL = 3  # goes up when trials are evaluated differently, so that old and new results are never compared
AS_RECORDED = "as recorded"
DEFAULT_OVERRIDES: dict[str, Any] = {
    "training.steps": 50,
    "training.batch_size": 4,
    WARMUP: 10,
    "training.early_stopping_patience": 10_000,  # never: all trials take the same steps
    "training.checkpoint_every": 50,
    "training.save_weights": "last",
}
CURVE_POINTS = 10  # evaluations after step 0, where a study does not say training.eval_every
CURVE_COST = 0.1  # of the training, at most about that much for the evaluations of its curve
MAX_CURVE_CLIPS = 32


class SyntheticCorpusSpec(StrictModel):
    """A corpus that is synthesised with note-level ground truth."""

    tradition: str = Field(min_length=1, description="hindustani, makam or the folder of a tradition")
    ensemble_size: Literal[1, 2, 3] | None = Field(
        default=None, description="melodic instruments; null: drawn by the seed"
    )
    count: int = Field(default=24, ge=3, le=10_000, description="pieces")
    seconds: float = Field(default=20.0, ge=1, le=600, description="length of a piece")
    seed: int = Field(default=0, ge=0, lt=10_000)
    ornaments: bool = Field(default=True, description="false: the same notes played plain")
    returns: bool = Field(default=True, description="false: no material comes back")

    @property
    def left_out(self) -> list[str]:
        """What the performances do without."""
        return [name for name in ("ornaments", "returns") if not getattr(self, name)]


class CorpusSpec(StrictModel):
    """A corpus of the study: exactly one of `recordings`, `corpus` (prepared) and `synthesize`."""

    recordings: str | None = Field(default=None, description="folder for talim prepare, relative to the YAML")
    corpus: str | None = Field(default=None, description="folder written by talim prepare, relative to the YAML")
    synthesize: SyntheticCorpusSpec | None = None
    clip_seconds: float = Field(default=CLIP_SECONDS, ge=1, le=600)
    rate_hz: int = Field(default=32000, ge=4000, le=192000)
    channels: Literal[1, 2] = 1
    held_out_fraction: float = Field(default=0.34, gt=0, le=0.5)
    genre: str | None = None
    texture: str | None = None

    @model_validator(mode="after")
    def _has_one_source(self) -> CorpusSpec:
        sources = ("recordings", "corpus", "synthesize")
        given = [name for name in sources if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(f"expected one of {', '.join(sources)}; found {' and '.join(given) or 'none'}")
        return self

    def factors(self, name: str) -> dict[str, str]:
        """The genre and texture by which trials are compared; `name` is the corpus's name in the study."""
        synthetic = self.synthesize
        textures = {1: "solo", 2: "duo", 3: "ensemble", None: "mixed"}
        genre = self.genre or (Path(synthetic.tradition).name if synthetic else name)
        texture = self.texture or (textures[synthetic.ensemble_size] if synthetic else AS_RECORDED)
        return {"genre": genre, "texture": texture}

    def identity(self) -> dict[str, Any]:
        """The content that enters ids: everything but the labels."""
        content = self.model_dump(mode="json", exclude={"genre", "texture"}, exclude_none=True)
        if self.synthesize is not None:  # as it was before there were these options
            played = {name for name in ("ornaments", "returns") if getattr(self.synthesize, name)}
            content["synthesize"] = {key: v for key, v in content["synthesize"].items() if key not in played}
        return content

    @property
    def left_out(self) -> list[str]:
        """What its performances do without: "ornaments", "returns"."""
        return self.synthesize.left_out if self.synthesize else []


class GenerationSpec(StrictModel):
    """Audio that every trial generates and scores: for `clips` held-out captions, `seconds` each.

    Where fewer clips are held out, captions are asked for again with other seeds. No base is given beats or chords.
    `steps` and `sampler` are for diffusion bases.
    """

    clips: int = Field(default=40, ge=1, le=1000)
    seconds: float = Field(default=10.0, ge=1, le=600)
    steps: int | None = Field(default=None, ge=1, le=1000)
    sampler: Literal["ddpm", "ddim", "dpm++"] | None = None


class TrialGrid(StrictModel):
    """Every base with every design, corpus and seed; designs are listed, or kinds x sites x sizes."""

    bases: tuple[str, ...] = Field(default=("nano-musicgen",), min_length=1)
    designs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    size_percent: tuple[float, ...] = Field(default=(), description="sizes in percent of the base")
    sizes: tuple[str, ...] = Field(default=(), description="other sizes: 40M, 250k, width64")
    corpora: tuple[str, ...] = Field(default=(), description="names; none: all of the study's")
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    control: Literal["planted", "equal"] | None = Field(default=None, description="trials for controls, in no table")
    steps_fraction: float | None = Field(default=None, gt=0, lt=1, description="planted: of the others' steps")

    @model_validator(mode="after")
    def _has_a_use_for_fewer_steps(self) -> TrialGrid:
        if self.steps_fraction is not None and self.control != "planted":
            raise ValueError("steps_fraction belongs to a grid with control: planted")
        return self

    @model_validator(mode="after")
    def _has_designs(self) -> TrialGrid:
        product = (self.kinds, self.sites, self.size_percent or self.sizes)
        if any(product) and not all(product):
            raise ValueError("kinds, sites and size_percent (or sizes) make designs together; give all three or none")
        if not any(product) and not self.designs:
            raise ValueError("no designs; give designs, or kinds, sites and size_percent (or sizes)")
        return self

    def parsed_designs(self) -> list[Design]:
        """All its designs, each once. UsageError for an expression that is not valid."""
        sizes = [f"{percent:.10g}%" for percent in self.size_percent] + list(self.sizes)
        product = [f"{kind}@{site}:{size}" for size in sizes for site in self.sites for kind in self.kinds]
        return list(dict.fromkeys(Design.parse(text) for text in [*product, *self.designs]))


class StudyConfig(StrictModel):
    """A study's YAML file. Grids run in the order of the file."""

    corpora: dict[str, CorpusSpec] = Field(min_length=1)
    grids: dict[str, TrialGrid] = Field(min_length=1)
    overrides: dict[str, Any] = Field(default_factory=dict, description="recipe keys, for all trials")
    base_overrides: dict[str, dict[str, Any]] = Field(default_factory=dict, description="recipe keys, for one base")
    generation: GenerationSpec | None = None
    tune: TuningRule | None = Field(default=None, description="settings of each family of designs, by validation")
    plateau: PlateauRule | None = Field(default=None, description="steps of all trials, by pilot trainings")
    retain: Literal["adapters", "results"] = Field(default="adapters", description="of finished trials")

    @model_validator(mode="after")
    def _check_names(self) -> StudyConfig:
        for name, grid in self.grids.items():
            if unknown := [each for each in grid.corpora if each not in self.corpora]:
                raise ValueError(f"grids.{name}: no corpus {unknown[0]}; there are {', '.join(self.corpora)}")
        bases = {base for grid in self.grids.values() for base in grid.bases}
        if unknown := sorted(set(self.base_overrides) - bases):
            raise ValueError(
                f"base_overrides.{unknown[0]}: no grid has this base; there are {', '.join(sorted(bases))}"
            )
        for name in self.corpora:
            if not name or name.startswith(".") or "/" in name or "\\" in name:
                raise ValueError(f"corpora: {name!r} cannot be the name of a folder")
        return self

    @model_validator(mode="after")
    def _check_rules(self) -> StudyConfig:
        for key, rule in (("tune", self.tune), ("plateau", self.plateau)):
            if unknown := [name for name in (rule.corpora if rule else ()) if name not in self.corpora]:
                raise ValueError(f"{key}.corpora: no corpus {unknown[0]}; there are {', '.join(self.corpora)}")
        seeds = [seed for grid in self.grids.values() for seed in grid.seeds]
        used = dict.fromkeys(name for grid in self.grids.values() if not grid.control for name in self.corpora_of(grid))
        settings = [key for each in (self.overrides, *self.base_overrides.values()) for key in _flatten(each)]
        if self.tune:
            self.tune.check(seeds, {name: self.tuning_group(name) for name in self.corpora}, list(used), settings)
        if self.plateau:
            self.plateau.check(seeds, settings, self.least_steps)
        return self

    @property
    def least_steps(self) -> int:
        """The steps that leave every trial, planted ones included, as many after its warm-up as in it."""
        bases = dict.fromkeys(base for grid in self.grids.values() for base in grid.bases)
        settings = [
            DEFAULT_OVERRIDES | _flatten(self.overrides) | _flatten(self.base_overrides.get(base, {})) for base in bases
        ]
        warmups = [value for each in settings if isinstance(value := each[WARMUP], int)]  # others are no recipe
        fractions = [grid.steps_fraction for grid in self.grids.values() if grid.steps_fraction is not None]
        return least_steps(max(warmups, default=0), fractions)

    def corpora_of(self, grid: TrialGrid) -> list[str]:
        """The names of a grid's corpora; by default all that leave nothing out, or where that is planted all others."""
        altered = grid.control == "planted" and grid.steps_fraction is None
        return list(grid.corpora) or [name for name, spec in self.corpora.items() if bool(spec.left_out) == altered]

    def counterpart(self, corpus: str) -> str:
        """The corpus with the same performances and nothing left out; UsageError if there is none."""
        spec = self.corpora[corpus]
        if spec.synthesize is None or not spec.left_out:
            return corpus
        whole = spec.synthesize.model_copy(update={"ornaments": True, "returns": True})
        identity = spec.model_copy(update={"synthesize": whole}).identity()
        found = next((name for name, each in self.corpora.items() if each.identity() == identity), None)
        if found is None:
            raise UsageError(
                f"corpora.{corpus} is planted, and no corpus is the same with {' and '.join(spec.left_out)}: add one"
            )
        return found

    def tuning_group(self, corpus: str) -> str:
        """What has tuned settings of its own: the corpus, or its genre."""
        per_genre = self.tune is not None and self.tune.per == "genre"
        return self.corpora[corpus].factors(corpus)["genre"] if per_genre else corpus


@dataclass(frozen=True)
class StudyChoices:
    """What preliminary trials have found: the steps of all trials, and the settings of families of designs."""

    steps: int | None = None
    families: Sequence[TunedFamily] = ()


@dataclass(frozen=True)
class TrialSpec:
    """A trial of a study: its id, its first grid, and everything that the process which runs it needs.

    A preliminary trial ("tuning", "pilot") is measured on validation clips and generates nothing.
    """

    id: str
    grid: str
    base: str
    corpus: str
    recipe: Recipe  # its `corpus` is the name of the study's corpus
    corpus_spec: CorpusSpec
    generation: GenerationSpec | None
    stage: Literal["trial", "tuning", "pilot"] = "trial"
    tuned: Mapping[str, float] = field(default_factory=dict, hash=False)  # settings in its recipe, by dotted key
    tuned_by: TuningRule | None = None
    control: Literal["", "planted", "equal"] = ""
    inserted: str = ""  # of a planted trial: in what it differs from `compared`
    compared: TrialSpec | None = None
    trained_on: str = ""  # another corpus of the study than that whose clips it is measured on

    @property
    def design(self) -> Design:
        return self.recipe.design

    @property
    def seed(self) -> int:
        return self.recipe.seed

    @property
    def name(self) -> str:
        """`DESIGN on BASE, CORPUS, seed SEED`, and the learning rate and others if they were tuned."""
        settings = (f", {key.split('.')[-1]} {value:g}" for key, value in self.tuned.items())
        control = f" ({self.control}{f': {self.inserted}' if self.inserted else ''})" if self.control else ""
        return f"{self.design} on {self.base}, {self.corpus}, seed {self.seed}{''.join(settings)}{control}"


def load(path: Path) -> StudyConfig:
    """Read and check a study file; UsageError that names the file and the wrong key."""
    study = build(StudyConfig, read_yaml(path, "give the YAML file of a study"), str(path))
    try:
        expand(study)
        for design in study.plateau.designs if study.plateau else ():
            Design.parse(design)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None
    return study


def expand(study: StudyConfig, choices: StudyChoices | None = None) -> list[TrialSpec]:
    """All trials, each once, grid after grid: base by base, seed by seed, corpus by corpus; controls last. UsageError.

    What preliminary trials have still to choose has its first guess: `plateau.max_steps`, the middle of the rates.
    """
    choices = choices or StudyChoices()
    trials: dict[str, TrialSpec] = {}
    for name, grid in sorted(study.grids.items(), key=lambda item: bool(item[1].control)):
        designs = grid.parsed_designs()
        for base in grid.bases:
            for seed in grid.seeds:
                for corpus in study.corpora_of(grid):
                    for design in designs:
                        trial = _trial_spec(study, name, base, seed, corpus, design, choices)
                        if grid.control:
                            trial = _control_spec(study, grid, trial, choices, trials)
                        trials.setdefault(trial.id, trial)
    return list(trials.values())


def _control_spec(
    study: StudyConfig, grid: TrialGrid, trial: TrialSpec, choices: StudyChoices, others: Mapping[str, TrialSpec]
) -> TrialSpec:
    """The trial as one of a control grid, beside the `others` that it is a control of. UsageError."""
    where = f"grids.{trial.grid}: {trial.name}"
    if grid.control == "equal":
        alike = [t for t in others.values() if (t.base, t.corpus, t.design) == (trial.base, trial.corpus, trial.design)]
        if trial.id in others or not [t for t in alike if not t.control]:
            raise UsageError(f"{where}: an equal trial needs the same design in another grid, with other seeds")
        return replace(trial, id=digest({"run": trial.id, "control": "equal"}), control="equal")
    measured_on, left_out = study.counterpart(trial.corpus), trial.corpus_spec.left_out
    partner = _trial_spec(study, trial.grid, trial.base, trial.seed, measured_on, trial.design, choices)
    if (known := others.get(partner.id)) is None:
        raise UsageError(
            f"{where}: a planted trial needs its like in another grid: the same design, base and seed, on {measured_on}"
        )
    texts = [f"trained without {name}" for name in left_out]
    steps = partner.recipe.training.steps
    if grid.steps_fraction is not None:
        steps = max(1, round(grid.steps_fraction * steps))
        texts.insert(0, f"{100 * grid.steps_fraction:g} % of the steps")
    if not texts:
        raise UsageError(f"{where}: nothing is planted; give steps_fraction, or a corpus without ornaments or returns")
    settings = first_guess(study, choices.steps) | dict(partner.tuned) | {STEPS: steps}
    recipe = _study_recipe(study, trial.base, trial.seed, trial.corpus, trial.design, settings)
    trained_on = trial.corpus if left_out else ""
    run_id = recipes.run_id(recipe, digest(trial.corpus_spec.identity()))
    return replace(
        partner,
        id=digest({"run": run_id, "control": "planted", "compared": partner.id}),
        recipe=recipe,
        generation=None if trained_on else partner.generation,  # real music would be that of another corpus
        control="planted",
        inserted=" and ".join(texts),
        compared=known,
        trained_on=trained_on,
    )


def trial_recipe(
    base: str,
    corpus: Path | str,
    design: Design | str,
    seed: int,
    overrides: Mapping[str, Any],
    clip_seconds: float | None = None,
) -> Recipe:
    """The recipe of one run of a study: DEFAULT_OVERRIDES, then `overrides` (dotted keys).

    Where these do not say how often and on how many clips it is validated, its curve has CURVE_POINTS evaluations, each
    of as many clips (of `clip_seconds`) as cost about CURVE_COST of the training, but at least one.
    """
    values = {"base": base, "corpus": str(corpus), "design": design, "seed": seed}
    recipe = recipes.load((), values | DEFAULT_OVERRIDES | dict(overrides))
    recipes.check_own_design(recipe, "a study")
    changes = {
        name: value
        for name, value in _curve_settings(recipe.training, clip_seconds).items()
        if f"training.{name}" not in overrides
    }
    return recipe.model_copy(update={"training": recipe.training.model_copy(update=changes)})


def _curve_settings(training: Training, clip_seconds: float | None) -> dict[str, int]:
    """Steps between evaluations, and clips of each, by CURVE_POINTS and CURVE_COST.

    An evaluation reads whole clips, forward only, which is about a third of what a step takes for the same music.
    """
    part = min(1.0, training.crop_seconds / clip_seconds) if training.crop_seconds and clip_seconds else 1.0
    forward_clips = 3 * CURVE_COST * training.steps * training.batch_size * part
    clips = int(forward_clips / (min(CURVE_POINTS, training.steps) + 1))
    every = -(-training.steps // CURVE_POINTS)
    return {"eval_every": every, "eval_clips": max(1, min(MAX_CURVE_CLIPS, clips))}


def preliminary_trial(
    study: StudyConfig,
    stage: Literal["tuning", "pilot"],
    base: str,
    seed: int,
    corpus: str,
    design: Design,
    settings: Mapping[str, Any],
) -> TrialSpec:
    """A trial that comes before those of the grids, with `settings` (dotted recipe keys)."""
    recipe = _study_recipe(study, base, seed, corpus, design, settings)
    corpus_spec = study.corpora[corpus]
    run_id = recipes.run_id(recipe, digest(corpus_spec.identity()))
    trial_id = digest({"run": run_id, "stage": stage, "protocol": PROTOCOL})
    return TrialSpec(trial_id, stage, base, corpus, recipe, corpus_spec, None, stage, dict(settings))


def _trial_spec(
    study: StudyConfig, grid: str, base: str, seed: int, corpus: str, design: Design, choices: StudyChoices
) -> TrialSpec:
    family = family_of(choices.families, base, corpus, str(design))
    tuned = dict(family.chosen) if family else {}
    recipe = _study_recipe(study, base, seed, corpus, design, first_guess(study, choices.steps) | tuned)
    corpus_spec = study.corpora[corpus]
    run_id, generation = recipes.run_id(recipe, digest(corpus_spec.identity())), _dump_generation(study.generation)
    rule = study.tune if family else None
    content = {"run": run_id, "generation": generation, "protocol": PROTOCOL}
    return TrialSpec(
        digest(content), grid, base, corpus, recipe, corpus_spec, study.generation, tuned=tuned, tuned_by=rule
    )


def first_guess(study: StudyConfig, steps: int | None = None) -> dict[str, Any]:
    """Settings of trials whose choice is not made yet; `steps` are those that pilots chose."""
    guess: dict[str, Any] = {RATE: study.tune.learning_rate[len(study.tune.learning_rate) // 2]} if study.tune else {}
    return guess | ({STEPS: steps or study.plateau.max_steps} if study.plateau else {})


def _study_recipe(
    study: StudyConfig, base: str, seed: int, corpus: str, design: Design, settings: Mapping[str, Any]
) -> Recipe:
    overrides = {**_flatten(study.overrides), **_flatten(study.base_overrides.get(base, {})), **settings}
    for key in ("base", "corpus", "design", "seed"):
        if key in overrides:
            raise UsageError(f"overrides: {key} belongs into a grid")
    kinds = {part.kind for part in design.parts}
    applicable = {
        key: value
        for key, value in overrides.items()
        if not key.startswith("kind_options.") or key.split(".")[1] in kinds
    }
    return trial_recipe(base, corpus, design, seed, applicable, study.corpora[corpus].clip_seconds)


def settings_hash(trial: TrialSpec, corpus_hash: str) -> str:
    """A hash of what must be equal in one table of results: the data, the training settings, the evaluation.

    Tuned settings may differ; the rule by which they were tuned may not, though it is no part of a trial's id: another
    rule that chooses the same settings has the same trials. A planted trial has that of its partner.
    """
    trial = trial.compared or trial  # a planted trial belongs to the table of that
    training, generation = recipes.identity_settings(trial.recipe.training), _dump_generation(trial.generation)
    training = {name: value for name, value in training.items() if f"training.{name}" not in trial.tuned}
    content = {"corpus": corpus_hash, "training": training, "generation": generation, "protocol": PROTOCOL}
    rule = {"tune": trial.tuned_by.model_dump(mode="json")} if trial.tuned_by else {}
    return digest(content | rule)


def _dump_generation(generation: GenerationSpec | None) -> dict[str, Any] | None:
    return generation.model_dump(mode="json", exclude_none=True) if generation else None


def digest(value: Any) -> str:
    """Twelve hex digits of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trial_factors(trial: TrialSpec, base_parameters: int, trained_parameters: int) -> dict[str, Any]:
    """The factors by which trials are compared: base, genre, texture, kind, site, size_fraction (of the base, 0 to 1).

    For a mixture kinds and sites are joined by +, and sizes are added. `size_fraction` is None for unsized kinds.
    `width` is that of a design whose sized parts have one width, else None.
    """
    parts = trial.design.parts
    sizes = {(part.size.unit, part.size.value) for part in parts if part.size is not None}
    width = next((int(value) for unit, value in sizes if unit == "width"), None) if len(sizes) == 1 else None
    kinds, sites = (list(dict.fromkeys(getattr(part, name) for part in parts)) for name in ("kind", "site"))
    fractions = [
        size.value / 100
        if size.unit == "percent"
        else (size.parameters(base_parameters) or trained_parameters) / base_parameters
        for part in parts
        if (size := part.size) is not None
    ]
    return {
        "base": trial.base,
        **trial.corpus_spec.factors(trial.corpus),
        "kind": "+".join(kinds),
        "site": "+".join(sites),
        "size_fraction": round(sum(fractions), 9) if fractions else None,
        "width": width,
    }


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
