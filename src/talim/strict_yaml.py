"""Files that a person writes, read strictly: an unknown key or a wrong value is one line that says what is known."""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from talim.errors import TalimError, UsageError


class StrictModel(BaseModel):
    """A part of such a file: frozen, no unknown key, no NaN."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ModelT = TypeVar("ModelT", bound=StrictModel)


def read_yaml(path: Path, hint: str) -> Any:
    """What a YAML file holds; TalimError with `hint` where there is none, UsageError where it is no YAML."""
    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TalimError(f"{path}: no such file; {hint}") from None
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path}: not a YAML file ({' '.join(str(error).split())})") from None


def build(model: type[ModelT], values: Any, where: str) -> ModelT:
    """A model from a nested mapping; UsageError says which key is wrong, and what is known."""
    if not isinstance(values, dict):
        raise UsageError(f"{where}: expected `key: value` lines, found {type(values).__name__}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{where}: " + "; ".join(_explain(e, model) for e in error.errors())) from None


def dump(model: StrictModel) -> str:
    """The model as YAML, every field written out, so that later defaults cannot change it."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def _explain(error: Any, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in error["loc"])
    if error["type"] == "missing":
        return f"{key} is missing"
    if error["type"] == "extra_forbidden":
        known = list(_part(model, error["loc"][:-1]).model_fields)
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        return f"unknown key {key}: {hint}Known: {', '.join(known)}"
    message = re.sub(r"^Value error, ", "", error["msg"])
    shown = f"{key} is {error['input']!r}: " if key and not isinstance(error["input"], dict) else ""
    return shown + message


def _part(model: type[BaseModel], place: tuple[Any, ...]) -> type[BaseModel]:
    """The model that lies at a place inside another."""
    for name in place:
        if name in model.model_fields:
            model = _inside(model.model_fields[name].annotation) or model
    return model


def _inside(annotation: Any) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((found for part in get_args(annotation) if (found := _inside(part))), None)
