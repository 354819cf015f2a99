"""What a study is: grids of bases, designs, corpora and seeds in a YAML file, and the trials that they come to.

A trial's id is a hash of what it is. So a study can be extended: whatever is added to its grids, the trials that were
there before keep their ids, and with them their results.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from talim import recipe as recipes
from talim.designs import expression
from talim.errors import UsageError
from talim.recipe import EXECUTION_SETTINGS, NEW_SETTING_DEFAULTS, Recipe

if TYPE_CHECKING:
    pass


PROTOCOL = 1  # goes up when a trial is judged in another way, so that no old result stands beside a new one

AS_RECORDED = "as recorded"


class StrictStudyModel(BaseModel):
    """No unknown keys, no changes; a key that is unknown is answered with those that there are."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _knows_its_keys(cls, values: Any) -> Any:
        for key in values if isinstance(values, dict) else ():
            if key not in cls.model_fields:
                near = difflib.get_close_matches(str(key), cls.model_fields, n=1)
                hint = f", did you mean {near[0]}?" if near else ";"
                raise ValueError(f"unknown key {key}{hint} there are {', '.join(cls.model_fields)}")
        return values


class SyntheticCorpusSpec(StrictStudyModel):
    """A corpus that talim's performer plays, so that every ornament and every return is on record."""

    tradition: str = Field(min_length=1, description="hindustani, makam or the folder of a tradition")
    players: Literal[1, 2, 3] | None = Field(default=None, description="melodic players; none: drawn by seed")
    pieces: int = Field(default=24, ge=3, le=10_000)
    seconds: float = Field(default=20.0, ge=1, le=600)
    seed: int = Field(default=0, ge=0, lt=10_000)


class CorpusSpec(StrictStudyModel):
    """A corpus of the study: exactly one of `folder` (recordings), `prepared` (a corpus) and `perform`."""

    folder: str | None = Field(default=None, description="recordings to prepare, relative to the YAML file")
    prepared: str | None = Field(default=None, description="what talim prepare wrote, relative to the YAML")
    perform: SyntheticCorpusSpec | None = None
    clip_seconds: float = Field(default=10.0, ge=1, le=600)
    rate_hz: int = Field(default=32000, ge=4000, le=192000)
    channels: Literal[1, 2] = 1
    held_out_share: float = Field(default=0.34, gt=0, le=0.5)
    genre: str | None = None
    texture: str | None = None

    @model_validator(mode="after")
    def _comes_from_one_place(self) -> CorpusSpec:
        given = [name for name in ("folder", "prepared", "perform") if getattr(self, name) is not None]
        if len(given) != 1:
            raise ValueError(
                f"give one of folder, prepared and perform; here is {' and '.join(given) or 'none'}"
            )
        return self

    def factors(self, name: str) -> dict[str, str]:
        """The genre and texture that trials on it are compared by; `name` is the corpus's own."""
        played = self.perform
        textures = {1: "solo", 2: "duo", 3: "ensemble", None: "mixed"}
        genre = self.genre or (Path(played.tradition).name if played else name)
        texture = self.texture or (textures[played.players] if played else AS_RECORDED)
        return {"genre": genre, "texture": texture}

    def identity(self) -> dict[str, Any]:
        """What it is, whatever it is called."""
        return self.model_dump(mode="json", exclude={"genre", "texture"}, exclude_none=True)


class GenerationSpec(StrictStudyModel):
    """Music that every trial makes, to be scored: `clips` held-out captions, `seconds` each.

    `steps` and `sampler` are for bases that remove noise, as in `talim.generation.generate.GenerationOptions`.
    """

    clips: int = Field(default=3, ge=1, le=1000)
    seconds: float = Field(default=10.0, ge=1, le=600)
    steps: int | None = Field(default=None, ge=1, le=1000)
    sampler: Literal["ddpm", "ddim", "dpm++"] | None = None


class TrialGrid(StrictStudyModel):
    """Every base with every design, corpus and seed; designs are listed, or kinds x sites x shares (per cent)."""

    bases: tuple[str, ...] = Field(default=("nano-musicgen",), min_length=1)
    designs: tuple[str, ...] = ()
    kinds: tuple[str, ...] = ()
    sites: tuple[str, ...] = ()
    shares: tuple[float, ...] = ()
    sizes: tuple[str, ...] = Field(default=(), description="in place of shares: 40M, 250k, width64")
    corpora: tuple[str, ...] = Field(default=(), description="none: all of the study's")
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)

    @model_validator(mode="after")
    def _has_designs(self) -> TrialGrid:
        three = (self.kinds, self.sites, self.shares or self.sizes)
        if any(three) and not all(three):
            raise ValueError(
                "kinds, sites and shares (or sizes) make designs together; give all three or none"
            )
        if not any(three) and not self.designs:
            raise ValueError("no designs; give designs, or kinds, sites and shares (or sizes)")
        return self

    def expressions(self) -> list[str]:
        """All its designs in canonical spelling, each once. UsageError for one that is none."""
        ends = [f"{share:.10g}%" for share in self.shares] + list(self.sizes)
        made = [f"{kind}@{site}:{end}" for end in ends for site in self.sites for kind in self.kinds]
        return list(dict.fromkeys(str(expression.parse(text)) for text in [*made, *self.designs]))


class StudyConfig(StrictStudyModel):
    """A study's YAML file. Grids run in the order in which they are written."""

    corpora: dict[str, CorpusSpec] = Field(min_length=1)
    grids: dict[str, TrialGrid] = Field(min_length=1)
    settings: dict[str, Any] = Field(default_factory=dict, description="of the recipe, for all trials")
    bases: dict[str, dict[str, Any]] = Field(default_factory=dict, description="settings for one base")
    samples: GenerationSpec | None = None
    keep: Literal["adapters", "results"] = Field(default="adapters", description="of finished trials")

    @model_validator(mode="after")
    def _names_are_known(self) -> StudyConfig:
        for name, grid in self.grids.items():
            if strays := [each for each in grid.corpora if each not in self.corpora]:
                raise ValueError(f"grids.{name}: no corpus {strays[0]}; there are {', '.join(self.corpora)}")
        used = {base for grid in self.grids.values() for base in grid.bases}
        if strays := sorted(set(self.bases) - used):
            raise ValueError(f"bases.{strays[0]}: no grid has this base; there are {', '.join(sorted(used))}")
        for name in self.corpora:
            if not name or name.startswith(".") or "/" in name or "\\" in name:
                raise ValueError(f"corpora: {name!r} cannot be the name of a folder")
        return self


@dataclass(frozen=True)
class TrialSpec:
    """A trial that is to be run: which one it is, in which grid it stands first, and all that its process must know."""

    id: str
    grid: str
    base: str
    design: str
    corpus: str
    seed: int
    recipe: Recipe  # its `corpus` is the name of the study's corpus
    source: CorpusSpec
    samples: GenerationSpec | None

    @property
    def name(self) -> str:
        """For people."""
        return f"{self.design} on {self.base}, {self.corpus}, seed {self.seed}"


def load(path: Path) -> StudyConfig:
    """Read a study; UsageError in one line saying where it is wrong and what may stand there."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None
    except yaml.YAMLError as error:
        raise UsageError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected keys and values: {', '.join(StudyConfig.model_fields)}")
    try:
        study = StudyConfig.model_validate(values)
        expand(study)
        return study
    except ValidationError as error:
        raise UsageError(
            f"{path}: " + "; ".join(_validation_message(each) for each in error.errors())
        ) from None
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from None


def expand(study: StudyConfig) -> list[TrialSpec]:
    """All trials, each once, grid after grid: base by base, seed by seed, corpus by corpus. UsageError."""
    found: dict[str, TrialSpec] = {}
    for name, grid in study.grids.items():
        designs = grid.expressions()
        for base in grid.bases:
            for seed in grid.seeds:
                for corpus in grid.corpora or study.corpora:
                    for design in designs:
                        planned = _planned(study, name, base, seed, corpus, design)
                        found.setdefault(planned.id, planned)
    return list(found.values())


def _planned(study: StudyConfig, grid: str, base: str, seed: int, corpus: str, design: str) -> TrialSpec:
    values = {**SETTINGS, **_flat(study.settings), **_flat(study.bases.get(base, {}))}
    for key in ("base", "corpus", "design", "seed"):
        if key in values:
            raise UsageError(f"settings: {key} belongs into a grid")
    kinds = {part.kind for part in expression.parse(design).parts}
    mine = {k: v for k, v in values.items() if not k.startswith("settings.") or k.split(".")[1] in kinds}
    recipe = recipes.load((), {"base": base, "corpus": corpus, "design": design, "seed": seed, **mine})
    source = study.corpora[corpus]
    return TrialSpec(
        _id(recipe, source, study.samples), grid, base, design, corpus, seed, recipe, source, study.samples
    )


def _id(recipe: Recipe, source: CorpusSpec, samples: GenerationSpec | None) -> str:
    whole = {
        "run": recipes.run_id(recipe, digest(source.identity())),
        "samples": samples.model_dump(mode="json", exclude_none=True) if samples else None,
        "protocol": PROTOCOL,
    }
    return digest(whole)


def settings_hash(planned: TrialSpec, corpus_hash: str) -> str:
    """Of all that must be equal for two trials to stand in one table: data, how it is trained on, how it is judged."""
    training = planned.recipe.training.model_dump(mode="json")
    named = {
        k: v
        for k, v in training.items()
        if k not in EXECUTION_SETTINGS and (k not in NEW_SETTING_DEFAULTS or v != NEW_SETTING_DEFAULTS[k])
    }
    samples = planned.samples.model_dump(mode="json", exclude_none=True) if planned.samples else None
    return digest({"corpus": corpus_hash, "training": named, "samples": samples, "protocol": PROTOCOL})


def digest(value: Any) -> str:
    """Twelve hex digits of a value's canonical JSON."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def trial_factors(planned: TrialSpec, base_parameters: int, own_parameters: int) -> dict[str, Any]:
    """What trials are compared by. Of a mixture, kinds and sites are joined by +, the share is that of all sizes."""
    parts = expression.parse(planned.design).parts
    kinds, sites = (list(dict.fromkeys(getattr(part, word) for part in parts)) for word in ("kind", "site"))
    sizes = [part.size for part in parts if part.size is not None]
    shares = [
        size.value / 100
        if size.unit == "percent"
        else (size.parameters(base_parameters) or own_parameters) / base_parameters
        for size in sizes
    ]
    share = round(sum(shares), 9) if shares else None
    told = {"base": planned.base, **planned.source.factors(planned.corpus)}
    return told | {"kind": "+".join(kinds), "site": "+".join(sites), "share": share}


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flat(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


def _validation_message(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    message = error["msg"].removeprefix("Value error, ")
    return f"{where}: {message}" if where else message


SETTINGS: dict[str, Any] = {
    "training.steps": 50,
    "training.batch_size": 4,
    "training.warmup_steps": 10,
    "training.evaluate_every": 50,
    "training.evaluate_clips": 1,
    "training.checkpoint_every": 50,
    "training.keep": "last",
}


def recipe_of(base: str, corpus: Path, design: str, seed: int, settings: dict[str, Any] | None) -> Recipe:
    """The recipe of one run of a small study."""
    values = {"base": base, "corpus": str(corpus), "design": design, "seed": seed}
    return recipes.load((), values | SETTINGS | (settings or {}))
