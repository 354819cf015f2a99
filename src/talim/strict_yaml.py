"""YAML files that users write, validated strictly: an unknown key or a wrong value is a one-line UsageError."""

from __future__ import annotations

import difflib
import re
import reprlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
import yaml.scanner
from pydantic import BaseModel, ConfigDict, ValidationError

from talim.errors import TalimError, UsageError
from talim.near_paths import did_you_mean


class StrictModel(BaseModel):
    """A frozen model that refuses unknown keys, NaN and infinity."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


ModelT = TypeVar("ModelT", bound=StrictModel)
MAX_YAML_BYTES = 4_000_000  # far beyond any file that a person writes
MAX_YAML_VALUES = 100_000  # a value used twice through an alias counts twice
MAX_BRACKETS = 100  # within each other
MAX_FAULTS = 8  # that one message tells
MAX_SHOWN = 300  # characters of a value in a message
YAML_FAULTS = (yaml.YAMLError, RecursionError, ValueError, OverflowError)  # all that `load_yaml` raises


class BoundedLoader(yaml.SafeLoader):
    """Plain values only; aliases may unfold to `MAX_YAML_VALUES` in all, since a few nested ones make gigabytes."""

    def fetch_flow_collection_start(self, TokenClass: Any) -> None:  # noqa: N803  (the base class's name)
        """As in the base class; the scanner's time grows with the square of the depth of brackets."""
        if self.flow_level >= MAX_BRACKETS:
            raise yaml.scanner.ScannerError(None, None, "it is nested too deeply", self.get_mark())
        super().fetch_flow_collection_start(TokenClass)

    def get_single_node(self) -> Any:
        """As in the base class; ConstructorError where aliases unfold too far or an alias holds itself."""
        node = super().get_single_node()
        if node is not None:
            self._unfolded(node, {})
        return node

    def _unfolded(self, node: yaml.Node, sizes: dict[yaml.Node, int | None]) -> int:
        """Number of values below a node, each alias counted as what it stands for."""
        if node not in sizes:
            sizes[node] = None
            children = node.value if isinstance(node, yaml.CollectionNode) else ()
            flat = [part for child in children for part in (child if isinstance(child, tuple) else (child,))]
            sizes[node] = 1 + sum(self._unfolded(child, sizes) for child in flat)
        size = sizes[node]
        if size is None or size > MAX_YAML_VALUES:
            problem = "an alias holds itself" if size is None else f"aliases unfold to over {MAX_YAML_VALUES:,} values"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark)
        return size


def load_yaml(text: str) -> Any:
    """The plain values of a YAML text; `YAML_FAULTS` where it is none, unfolds too far or is nested too deeply."""
    return yaml.load(text, BoundedLoader)  # noqa: S506  (a SafeLoader)


def read_yaml(path: Path, hint: str) -> Any:
    """The content of a YAML file; TalimError with `hint` if it does not exist, UsageError if it is not YAML."""
    try:
        if path.exists() and not path.is_file():  # a device or a pipe may never end
            raise UsageError(f"{path}: not a YAML file (it is no regular file)")
        if path.is_file() and path.stat().st_size > MAX_YAML_BYTES:
            raise UsageError(f"{path}: not a YAML file for talim: it has more than {MAX_YAML_BYTES / 1e6:g} MB")
        return load_yaml(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TalimError(f"{path}: no such file{did_you_mean(path)}; {hint}") from None
    except (OSError, *YAML_FAULTS) as error:
        raise UsageError(f"{path}: not a YAML file ({yaml_fault(error)})") from None


def yaml_fault(error: Exception) -> str:
    """A reader's error in one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return " ".join(str(error).split())


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
    """Up to eight faults of a validation in one line; an unknown key comes with the nearest and all valid names."""
    faults: list[str] = []
    for details in error.errors():
        fault, _, known = _fault(details, model).partition(_KNOWN)
        repeated = known and any(each.endswith(f"{_KNOWN}{known}") for each in faults)
        faults.append(fault.rstrip(": ") if repeated else f"{fault}{_KNOWN}{known}" if known else fault)
    return "; ".join(faults[:MAX_FAULTS] + [f"and {len(faults) - MAX_FAULTS} more"] * (len(faults) > MAX_FAULTS))


_KNOWN = "Known: "
_BLOCK, _LIST = "expected `name: value` lines, not a list or one value", "expected a list, such as [one, two]"
_EXPECTED = {  # by pydantic's names of what was found wrong, in the words of YAML
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "mapping_type"), _BLOCK),
    **dict.fromkeys(("list_type", "tuple_type"), _LIST),
}


def _fault(details: Any, model: type[BaseModel]) -> str:
    key = ".".join(str(part) for part in details["loc"])
    if details["type"] == "missing":
        return f"{key} is missing"
    if details["type"] == "extra_forbidden":
        valid = list(_submodel(model, details["loc"][:-1]).model_fields)
        nearest = difflib.get_close_matches(str(details["loc"][-1]), valid, n=1)
        hint = f"did you mean {nearest[0]}? " if nearest else ""
        return f"unknown key {key}: {hint}{_KNOWN}{', '.join(valid)}"
    message = _EXPECTED.get(details["type"]) or re.sub(r"^Value error, ", "", details["msg"])
    message = re.sub(r"^Input should", "it should", message)
    prefix = f"{key} is {shown_value(details['input'])}: " if key and not isinstance(details["input"], dict) else ""
    return prefix + message


class _ShortRepr(reprlib.Repr):
    """`repr` cut at a few levels, items and letters."""

    def __init__(self) -> None:
        super().__init__()
        self.maxlevel = 3
        self.maxstring = self.maxother = 200


def shown_value(value: Any) -> str:
    """The value as it stands in a message, cut where it is long or deep."""
    if isinstance(value, int) and abs(value) >= 10**60:
        return "an enormous number"  # Python refuses to write numbers of thousands of digits
    shown = _ShortRepr().repr(value)
    return shown if len(shown) <= MAX_SHOWN else f"{shown[:MAX_SHOWN]} ..."


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
