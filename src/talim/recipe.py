"""The recipe of one experiment: frozen pydantic models, merged from YAML files and overrides, identified by a hash."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

import yaml
from pydantic import Field, ModelWrapValidatorHandler, ValidationError, field_validator, model_validator

from talim.design.expression import Design
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted, format_setting
from talim.path_suggestions import did_you_mean
from talim.strict_yaml import YAML_FAULTS, StrictModel, expected, load_yaml, read_yaml, shown_value, yaml_fault
from talim.terminal_text import one_line

CLIP_SECONDS = 10.0  # of a corpus, where no other length is asked for
MELODY_SETTINGS = ("melody_from", "melody_dropout")
# younger than the ids of runs: they count where they are set
LATER_SETTINGS = (*MELODY_SETTINGS, "transliterate")
EXECUTION_SETTINGS = ("frozen_cache", "frozen_cache_gb")  # change how training is computed, not its result
RATIO_OPTIONS = ("alpha_per_rank",)  # options of kinds that need not be whole numbers
BUILTIN_FOLDER = Path(__file__).parent / "recipes"


class Training(StrictModel):
    """How the adapter is trained. Every field can be set with `--set training.NAME=VALUE`."""

    steps: int = Field(default=300, ge=1, le=10_000_000, description="optimiser steps")
    batch_size: int = Field(default=8, ge=1, le=4096, description="clips per step")
    learning_rate: float | None = Field(
        default=None,
        gt=0,
        le=1,
        description="peak learning rate, reached after warm-up; null: chosen when training begins, by the design, the "
        "width of the base and the amount of music",
    )
    weight_decay: float = Field(default=0.05, ge=0, le=1, description="AdamW's decoupled weight decay")
    warmup_steps: int = Field(default=20, ge=0, description="steps of linear learning-rate warm-up")
    max_grad_norm: float = Field(default=1.0, gt=0, description="gradient clipping: the largest global gradient norm")
    condition_dropout: float = Field(
        default=0.1,
        ge=0,
        le=1,
        description="fraction of clips trained with the null condition, for classifier-free guidance",
    )
    eval_every: int = Field(default=50, ge=1, description="steps between evaluations on validation clips")
    eval_clips: int = Field(default=32, ge=1, description="validation clips per evaluation, stratified by recording")
    early_stopping_patience: int = Field(
        default=5, ge=1, description="evaluations without improvement before training stops"
    )
    save_weights: Literal["best", "last"] = Field(
        default="best", description="weights to store: those with the lowest validation loss, or the last ones"
    )
    checkpoint_every: int = Field(default=50, ge=1, description="steps between checkpoints")
    crop_seconds: float | None = Field(
        default=None, gt=0, description="length of the crop taken from each clip; null: the whole clip"
    )
    crop: Literal["random", "fixed"] = Field(
        default="random", description="random: a new crop at each step; fixed: one crop per clip"
    )
    train_fraction: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="fraction of the training recordings that is used, in an order drawn by the seed",
    )
    frozen_cache: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="cache on disk the activations of the frozen layers below the first adapter; "
        "auto: where it saves time",
    )
    frozen_cache_gb: float = Field(
        default=20.0, ge=0, description="disk limit of that cache per corpus, in GB; the rest is recomputed"
    )
    precision: Literal["auto", "bf16", "fp32", "fp16"] = Field(
        default="auto", description="precision of the base; auto: bf16 where the hardware has it"
    )
    adapter_compute_dtype: Literal["fp32", "same_as_base"] = Field(
        default="fp32",
        description="compute dtype of the adapters; same_as_base is about twice as fast; weights stay in fp32",
    )
    loss_weighting: Literal["min_snr_v", "min_snr_eps", "none"] | None = Field(
        default=None,
        description="timestep loss weighting of a diffusion base (Mustango): min_snr_v fits its velocity target, "
        "min_snr_eps is what it was pretrained with; null: min_snr_v",
    )
    transliterate: bool = Field(
        default=True,
        description="read words of captions that the base's tokenizer does not know in letters that it knows",
    )
    predict_beats_chords: bool = Field(
        default=False, description="predict beats and chords that the corpus lacks, for a base conditioned on them"
    )
    melody_from: Literal["chroma", "pitch"] = Field(
        default="chroma",
        description="melody of a base conditioned on one (MusicGen-melody): chroma of the mix, as in its pretraining, "
        "or the tracked pitch of the leading melody, which a drone does not hide",
    )
    melody_dropout: float = Field(
        default=0.5, ge=0, le=1, description="fraction of clips trained without their melody, for such a base"
    )
    gradient_checkpointing: bool = Field(
        default=False, description="recompute activations: less memory, about a third more time"
    )

    @property
    def peak_rate(self) -> float:
        """The learning rate of a training that has begun; ValueError where it is not chosen yet."""
        if self.learning_rate is None:
            raise ValueError("training.learning_rate is null: it is chosen when training begins")
        return self.learning_rate

    @property
    def gentler_rate(self) -> str:
        """The setting of a third of the learning rate, for a training that learnt nothing at this one."""
        return f"training.learning_rate={format_setting(float(f'{self.peak_rate / 3:.2g}'))}"

    def check_no_melody(self, base: str) -> None:
        """UsageError for settings of a melody that differ from the defaults, on a base that takes none."""
        for name in MELODY_SETTINGS:
            if getattr(self, name) != type(self).model_fields[name].default:
                raise UsageError(
                    f"training.{name} is {getattr(self, name)}, but {base} takes no melody: MusicGen-melody does "
                    "(--base musicgen-melody); leave it out"
                )

    @field_validator("frozen_cache", mode="before")
    @classmethod
    def _accept_yaml_booleans(cls, value: Any) -> Any:
        """YAML 1.1 reads `on` and `off` as truth values."""
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Recipe(StrictModel):
    """One experiment: an adapter design, trained on a corpus, on top of a base. UsageError for wrong values.

    >>> Recipe(corpus="my-corpus", design="conv@shallow:8M", training=Training(steps=500))
    """

    base: str = Field(default="nano-musicgen", min_length=1, description="name, Hub id, NAME@REVISION or folder")
    corpus: str = Field(min_length=1, description="folder written by `talim prepare`")
    design: Design = Field(default=Design.parse("linear@all:2.5%"), description="KIND@SITE:SIZE")
    init_from: str | None = Field(
        default=None,
        min_length=1,
        description="adapter to begin from, whose design is then that of the run: folder, run or Hub id",
    )
    kind_options: dict[str, dict[str, int | float | list[int]]] = Field(
        default_factory=dict,
        description="options of the design's kinds, such as conv: {kernel_size: 7} or lora: {alpha_per_rank: 1}",
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="seed of all random choices")
    training: Training = Field(default_factory=Training)

    if TYPE_CHECKING:  # what the validators accept, for type checkers

        def __init__(
            self,
            *,
            corpus: Path | str,
            base: str = ...,
            design: Design | str = ...,
            init_from: Path | str | None = ...,
            kind_options: Mapping[str, Mapping[str, int | float | list[int]]] = ...,
            seed: int = ...,
            training: Training | Mapping[str, Any] = ...,
        ) -> None: ...

    def with_learning_rate(self, rate: float) -> Recipe:
        """This recipe with another peak learning rate."""
        return self.model_copy(update={"training": self.training.model_copy(update={"learning_rate": rate})})

    @field_validator("corpus", "init_from", mode="before")
    @classmethod
    def _accept_paths(cls, value: Any) -> Any:
        return str(value) if isinstance(value, Path) else value

    @field_validator("kind_options")
    @classmethod
    def _check_whole_numbers(cls, options: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        """Whole numbers as int, as these enter the run's id; only ratios may be others."""
        for kind, values in options.items():
            for name, value in values.items():
                if isinstance(value, float) and not value.is_integer() and name not in RATIO_OPTIONS:
                    raise ValueError(f"{kind}.{name} has to be a whole number, not {value:g}")
        return {
            kind: {n: int(v) if isinstance(v, float) and v.is_integer() else v for n, v in values.items()}
            for kind, values in options.items()
        }

    @model_validator(mode="after")
    def _check_init_from(self) -> Recipe:
        if self.design.is_stored and self.init_from is None:
            raise ValueError(f"design {self.design} is that of a stored adapter; give it, too: init_from: ADAPTER")
        if self.kind_options and self.init_from is not None:
            raise ValueError(f"kind_options contradict init_from: {self.init_from} has its own; leave them out")
        return self

    @model_validator(mode="after")
    def _check_warmup(self) -> Recipe:
        steps, warmup = self.training.steps, self.training.warmup_steps
        if warmup >= steps and warmup > Training().warmup_steps:
            raise ValueError(f"training.warmup_steps is {warmup}, but there are only {format_counted(steps, 'step')}")
        return self

    @model_validator(mode="wrap")
    @classmethod
    def _raise_usage_errors(cls, values: Any, handler: ModelWrapValidatorHandler[Recipe]) -> Recipe:
        try:
            return handler(values)
        except ValidationError as error:
            raise UsageError("recipe: " + "; ".join(_explain(e) for e in error.errors())) from None


def load(paths: Iterable[Path | str] = (), overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Merge YAML files (later ones win), then overrides with dotted keys, into a Recipe.

    A path may be the name of a built-in overlay (`small-gpu`). UsageError on unknown keys, with similar ones;
    TalimError for a file that is missing.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        _merge(merged, _read_yaml(_find(path)), str(path))
    for key, value in (overrides or {}).items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        _merge(merged, nested, f"--set {key}")
    return Recipe.model_validate(merged)


def check_own_design(recipe: Recipe, what: str) -> None:
    """UsageError where a recipe of `what`, which compares designs, begins from an adapter, which has its own."""
    if recipe.init_from is not None:
        raise UsageError(
            f"init_from: {recipe.init_from}: {what} is about designs, and an adapter that is trained further has its "
            f"own: talim train --init-from {recipe.init_from}"
        )


def parse_setting(text: str) -> tuple[str, Any]:
    """Split `key=value` as typed after --set; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {shown_value(text)}: expected KEY=VALUE, for example --set training.batch_size=4")
    try:
        return key.strip(), load_yaml(value)
    except YAML_FAULTS as error:
        fault = one_line(yaml_fault(error), 200)
        raise UsageError(
            f"--set {shown_value(text)}: the value is not valid YAML ({fault}); put it in quotes"
        ) from None


def dump(recipe: Recipe) -> str:
    """The recipe as YAML with every field written out, so that later defaults cannot change it."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def run_id(recipe: Recipe, corpus_hash: str | None = None, init_hash: str | None = None) -> str:
    """Twelve hex digits that identify the experiment; hashes take the place of the paths of corpus and init_from."""
    values = recipe.model_dump(mode="json")
    if recipe.init_from is None:  # younger than the ids of runs
        del values["init_from"]
    elif init_hash is not None:
        values["init_from"] = init_hash
    values["training"] = identity_settings(recipe.training)
    if corpus_hash is not None:
        values["corpus"] = corpus_hash
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def identity_settings(training: Training) -> dict[str, Any]:
    """The settings that decide the result of training: all but EXECUTION_SETTINGS."""
    values = training.model_dump(mode="json", exclude=set(EXECUTION_SETTINGS))
    unset = [name for name in LATER_SETTINGS if values[name] == Training.model_fields[name].default]
    return {name: value for name, value in values.items() if name not in unset}


def recipe_differences(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """Dotted keys with their two values where these differ; EXECUTION_SETTINGS do not count.

    Nor do the paths of the corpus and of an adapter that both begin from, as their content decides, nor a learning rate
    that `new` leaves open.
    """
    left_open = {"learning_rate"} if new.training.learning_rate is None else set[str]()
    moved: dict[str, Any] = {"corpus": True, "training": {*EXECUTION_SETTINGS, *left_open}}
    moved |= {"init_from": True} if old.init_from and new.init_from else {}
    before, after = (_flatten(r.model_dump(mode="json", exclude=moved)) for r in (old, new))
    return {key: (before.get(key), after[key]) for key in after if before.get(key) != after[key]}


def builtin_overlays() -> list[str]:
    """Names of the overlays that come with the package."""
    return sorted(path.stem for path in BUILTIN_FOLDER.glob("*.yaml"))


def _find(path: Path | str) -> Path:
    builtin = BUILTIN_FOLDER / f"{path}.yaml"
    if Path(path).is_file():
        return Path(path)
    if builtin.is_file():
        return builtin
    raise TalimError(
        f"{path}: no such recipe file, and no built-in recipe of that name ({', '.join(builtin_overlays())})"
        f"{did_you_mean(Path(path))}"
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    values: Any = read_yaml(path, "give a recipe file")
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected `key: value` lines, found a {type(values).__name__}")
    return cast("dict[str, Any]", values)


def _merge(into: dict[str, Any], values: Mapping[str, Any], where: str) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
            _merge(into.setdefault(key, {}), cast("dict[str, Any]", value), where)
        elif isinstance(into.get(key), dict) and value is not None:
            raise UsageError(f"{where}: {key} is a group of keys; write {key}.NAME")
        elif value is not None or not isinstance(into.get(key), dict):
            into[key] = value


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{key} is missing; give --{key}"
    if error["type"] != "extra_forbidden":
        return f"{key} is {shown_value(error['input'])}: {expected(error)}" if key else expected(error)
    of_training = [f"training.{name}" for name in Training.model_fields]
    valid = of_training if key.startswith("training.") else list(Recipe.model_fields)
    candidates = list(dict.fromkeys([*valid, *of_training]))
    near = difflib.get_close_matches(key, candidates, n=1, cutoff=0.6)
    near = near or [name for name in candidates if name.split(".")[-1] == key.split(".")[-1]]
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown key {key}: {hint}Known: {', '.join(valid)}"


def _flatten(values: Mapping[str, Any], parents: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        nested = isinstance(value, dict)
        flat |= _flatten(cast("dict[str, Any]", value), f"{parents}{key}.") if nested else {parents + key: value}
    return flat
