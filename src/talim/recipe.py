"""What an experiment is: frozen models, YAML overlays, an unknown key is an error, a run is named by hash."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from talim.errors import UsageError

# Settings that came later: left out of a run's name where they are as they were before there was a choice.
NEW_SETTING_DEFAULTS: Mapping[str, Any] = {
    "weighting": None,
    "predict_music": False,
    "crops": "each_step",
    "adapter_precision": "fp32",
    "recordings_share": 1.0,
}
EXECUTION_SETTINGS = (
    "prefix",
    "prefix_gb",
)  # of training: how it is computed, not what; part of no name and no comparison
SHIPPED = Path(__file__).parent / "recipes"


class Training(BaseModel):
    """How the adapter is trained. Every field can be set with `--set training.NAME=VALUE`."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    steps: int = Field(default=300, ge=1, le=10_000_000, description="optimiser steps in all")
    batch_size: int = Field(default=8, ge=1, le=4096, description="clips in a step")
    learning_rate: float = Field(
        default=1e-3, gt=0, le=1, description="the highest rate, reached after the warm-up"
    )
    weight_decay: float = Field(default=0.05, ge=0, le=1, description="AdamW's decoupled weight decay")
    warmup_steps: int = Field(default=20, ge=0, description="steps in which the rate rises linearly from 0")
    max_grad_norm: float = Field(
        default=1.0, gt=0, description="gradients longer than this are shortened to it"
    )
    condition_dropout: float = Field(
        default=0.1, ge=0, le=1, description="share of clips trained without their words"
    )
    evaluate_every: int = Field(default=50, ge=1, description="steps between two looks at the held-out clips")
    evaluate_clips: int = Field(
        default=32, ge=1, description="held-out clips in each look, spread over recordings"
    )
    patience: int = Field(default=5, ge=1, description="looks without a new best after which training stops")
    keep: Literal["best", "last"] = Field(
        default="best",
        description="which weights are stored: of the best look at held-out clips, or the last ones",
    )
    checkpoint_every: int = Field(
        default=50, ge=1, description="steps between checkpoints: the most a crash can lose"
    )
    clip_seconds: float | None = Field(
        default=None, gt=0, description="random cut of each clip; none: the whole clip"
    )
    recordings_share: float = Field(
        default=1.0,
        gt=0,
        le=1,
        description="share of the training recordings that is learned from, in an order that follows from the seed",
    )
    crops: Literal["each_step", "once"] = Field(
        default="each_step", description="when that cut is drawn: anew at each step, or once for each clip"
    )
    prefix: Literal["auto", "on", "off"] = Field(
        default="auto",
        description="keep on disk what the layers below the first trained site make of a clip; auto: where it saves",
    )
    prefix_gb: float = Field(
        default=20.0,
        ge=0,
        description="most disk for that in a corpus, in GB; beyond it, it is computed each time",
    )
    precision: Literal["auto", "bf16", "fp32", "fp16"] = Field(
        default="auto", description="auto asks the hardware"
    )
    adapter_precision: Literal["fp32", "base"] = Field(
        default="fp32",
        description="what adapters multiply in; base: as the base does, about twice as fast, weights still in fp32",
    )
    weighting: Literal["v", "reference", "none"] | None = Field(
        default=None,
        description="how noise levels count where a base has any (Mustango): v is right for what it predicts, "
        "reference is what it was trained with; none given: v",
    )
    predict_music: bool = Field(
        default=False,
        description="let a base that hears beats and chords guess them where the corpus has none",
    )
    gradient_checkpointing: bool = Field(default=False, description="less memory, about a third more time")

    @field_validator("prefix", mode="before")
    @classmethod
    def _yaml_reads_on_and_off_as_truth_values(cls, value: Any) -> Any:
        return {True: "on", False: "off"}[value] if isinstance(value, bool) else value


class Recipe(BaseModel):
    """One experiment: which base, taught on which corpus, through which adapter, how."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    base: str = Field(default="nano-musicgen", min_length=1, description="known name, Hub id or local folder")
    corpus: str = Field(min_length=1, description="folder written by `talim prepare`")
    design: str = Field(default="linear@all:2.5%", min_length=1, description="KIND@SITE:SIZE")
    settings: dict[str, dict[str, int | list[int]]] = Field(
        default_factory=dict, description="of the design's kinds, such as conv: {kernel: 7}"
    )
    seed: int = Field(default=0, ge=0, lt=2**31, description="every random draw follows from it")
    training: Training = Field(default_factory=Training)

    @model_validator(mode="after")
    def _warmup_ends_before_training(self) -> Recipe:
        steps, warmup = self.training.steps, self.training.warmup_steps
        if warmup >= steps and warmup > Training().warmup_steps:
            raise ValueError(f"training.warmup_steps is {warmup}, but there are only {steps} steps")
        return self


def load(paths: Iterable[Path | str] = (), overrides: Mapping[str, Any] | None = None) -> Recipe:
    """Merge YAML files (later ones win), then dotted overrides, into a Recipe.

    A path may be the name of a shipped overlay (`small-gpu`). UsageError on unknown keys, with near names.
    """
    merged: dict[str, Any] = {}
    for path in paths:
        _merge(merged, _read_yaml(_find(path)), str(path))
    for key, value in (overrides or {}).items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        _merge(merged, nested, f"--set {key}")
    return build(merged)


def build(values: Mapping[str, Any]) -> Recipe:
    """A Recipe from a nested mapping; UsageError in one line that says which key, and what is known."""
    try:
        return Recipe.model_validate(dict(values))
    except ValidationError as error:
        raise UsageError("recipe: " + "; ".join(_explain(e) for e in error.errors())) from None


def parse_setting(text: str) -> tuple[str, Any]:
    """Split `key=value` as typed after --set; the value is read as YAML."""
    key, equals, value = text.partition("=")
    if not equals or not key.strip():
        raise UsageError(f"--set {text!r}: expected KEY=VALUE, for example --set training.batch_size=4")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError:
        raise UsageError(f"--set {text!r}: the value is not valid YAML; put it in quotes") from None


def dump(recipe: Recipe) -> str:
    """The recipe as YAML, every field written out, so that later defaults cannot change it."""
    return yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False)


def run_id(recipe: Recipe, corpus_hash: str | None = None) -> str:
    """Twelve hex digits that name the experiment; the corpus enters by content, not by where it lies."""
    values = recipe.model_dump(mode="json")
    training = values["training"]
    named = {k: v for k, v in training.items() if k not in EXECUTION_SETTINGS}
    values["training"] = {
        k: v for k, v in named.items() if k not in NEW_SETTING_DEFAULTS or v != NEW_SETTING_DEFAULTS[k]
    }
    if corpus_hash is not None:
        values["corpus"] = corpus_hash
    canonical = json.dumps(values, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:12]


def recipe_differences(old: Recipe, new: Recipe) -> dict[str, tuple[Any, Any]]:
    """Dotted keys whose values differ, with both values; where the corpus lies and `HOW` do not count."""
    before, after = (_flatten(r.model_dump(mode="json")) for r in (old, new))
    free = {"corpus", *(f"training.{name}" for name in EXECUTION_SETTINGS)}
    return {k: (before[k], after[k]) for k in after if k not in free and before.get(k) != after[k]}


def builtin_overlays() -> list[str]:
    """Names of the overlays that come with the package."""
    return sorted(path.stem for path in SHIPPED.glob("*.yaml"))


def _find(path: Path | str) -> Path:
    packaged = SHIPPED / f"{path}.yaml"
    if Path(path).is_file():
        return Path(path)
    if packaged.is_file():
        return packaged
    raise UsageError(
        f"{path}: no such recipe file, and no shipped recipe of that name ({', '.join(builtin_overlays())})"
    )


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise UsageError(f"{path}: expected `key: value` lines, found a {type(values).__name__}")
    return values


def _merge(into: dict[str, Any], values: Mapping[str, Any], where: str) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and isinstance(into.get(key, {}), dict):
            _merge(into.setdefault(key, {}), value, where)
        elif isinstance(into.get(key), dict) and value is not None:
            raise UsageError(f"{where}: {key} is a group of settings; write {key}.NAME")
        elif value is not None or not isinstance(into.get(key), dict):
            into[key] = value


def _explain(error: Any) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{key} is missing; give --{key}"
    if error["type"] != "extra_forbidden":
        message = error["msg"].removeprefix("Value error, ")
        return f"{key} is {error['input']!r}: {message[0].lower()}{message[1:]}" if key else message
    group = Training if key.startswith("training.") else Recipe
    prefix = "training." if group is Training else ""
    known = [prefix + name for name in group.model_fields]
    everywhere = known + [f"training.{name}" for name in Training.model_fields]
    near = difflib.get_close_matches(key, everywhere, n=1, cutoff=0.6)
    near = near or [k for k in everywhere if k.split(".")[-1] == key.split(".")[-1]]
    hint = f"did you mean {near[0]}? " if near else ""
    return f"unknown key {key}: {hint}Known: {', '.join(known)}"


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {prefix + key: value}
    return flat
