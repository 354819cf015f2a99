"""YAML files that users write, validated strictly: an unknown key or a wrong value is a one-line UsageError."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from talim.errors import TalimError, UsageError


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ModelT = TypeVar("ModelT", bound=StrictModel)


def read_yaml(path: Path, hint: str) -> Any:
    """The content of a YAML file; TalimError with `hint` if it does not exist, UsageError if it is not YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TalimError(f"{path}: no such file; {hint}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None


def build(model: type[ModelT], values: Any, where: str) -> ModelT:
    """A model from a nested mapping; UsageError begins with `where` and names the wrong key and the valid ones."""
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected `key: value` lines, found {type(values).__name__}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{where}: {describe(error, model)}") from None


def dump(model: StrictModel) -> str:
    """The model as YAML with every field written out, so that later defaults cannot change it."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """All faults of a validation in one line; an unknown key comes with the nearest and all valid names."""
    return "; ".join(_fault(details, model) for details in error.errors())


def _fault(details: Any, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in details["loc"])
    if details["type"] == "missing":
        return f"{key} is missing"
    if details["type"] == "extra_forbidden":
        valid = list(_submodel(model, details["loc"][:-1]).model_fields)
        nearest = difflib.get_close_matches(str(details["loc"][-1]), valid, n=1)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        return f"unknown key {key}: {hint}Known: {', '.join(valid)}"
    message = re.sub(r"^Value error, ", "", details["msg"])
    prefix = f"{key} is {details['input']!r}: " if key and not isinstance(details["input"], dict) else ""
    return prefix + message


def _submodel(model: type[BaseModel], path: Sequence[Any]) -> type[BaseModel]:
    """The model that validates the value at `path` inside `model`."""
    for name in path:
        if name in model.model_fields:
            model = _model_in(model.model_fields[name].annotation) or model
    return model


def _model_in(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((model for part in get_args(annotation) if (model := _model_in(part))), None)
