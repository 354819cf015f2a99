"""YAML files that users write, validated strictly: an unknown key or a wrong value is a one-line UsageError."""

from __future__ import annotations

import difflib
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
import yaml.scanner
from pydantic import BaseModel, ConfigDict, ValidationError

from talim.errors import TalimError, UsageError
from talim.path_suggestions import did_you_mean


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
        found = "nothing" if values is None else type(values).__name__
        raise UsageError(f"{where}: expected `key: value` lines, found {found}")
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise UsageError(f"{where}: {describe(error, model)}") from None


def dump(model: StrictModel) -> str:
    """The model as YAML with every field written out, so that later defaults cannot change it."""
    return yaml.safe_dump(model.model_dump(mode="json"), sort_keys=False, allow_unicode=True)


def describe(error: ValidationError, model: type[BaseModel]) -> str:
    """Up to eight faults of a validation in one line; an unknown key comes with the nearest and all valid names."""
    return describe_faults(error.errors(), model)


def describe_faults(errors: Iterable[Any], model: type[BaseModel]) -> str:
    """As `describe`, for the list of `ValidationError.errors()`, whose places are those of `model`."""
    faults: list[str] = []
    for details in errors:
        fault, _, known = _fault(details, model).partition(_KNOWN)
        repeated = known and any(each.endswith(f"{_KNOWN}{known}") for each in faults)
        faults.append(fault.rstrip(": ") if repeated else f"{fault}{_KNOWN}{known}" if known else fault)
    return "; ".join(faults[:MAX_FAULTS] + [f"and {len(faults) - MAX_FAULTS} more"] * (len(faults) > MAX_FAULTS))


_KNOWN = "Known: "
_BLOCK, _LIST = "expected `name: value` lines, not a list or one value", "expected a list, such as [one, two]"
_EXPECTED = {  # by pydantic's names of what was found wrong; {names} are its own facts
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type", "mapping_type"), _BLOCK),
    **dict.fromkeys(("list_type", "tuple_type", "set_type", "frozen_set_type", "iterable_type"), _LIST),
    **dict.fromkeys(("string_type", "string_unicode", "string_sub_type"), "expected text"),
    **dict.fromkeys(("bool_type", "bool_parsing"), "expected true or false"),
    **dict.fromkeys(
        ("int_type", "int_parsing", "int_from_float", "int_parsing_size"), "expected a whole number, such as 80"
    ),
    **dict.fromkeys(("float_type", "float_parsing"), "expected a number, such as 80"),
    **dict.fromkeys(("path_type", "path_exists"), "expected a path"),
    **dict.fromkeys(("literal_error", "enum"), "expected {expected}"),
    "json_invalid": "no JSON: {error}",
    "finite_number": "expected a finite number",
    "none_required": "expected nothing (null)",
    "greater_than": "expected more than {gt}",
    "greater_than_equal": "expected at least {ge}",
    "less_than": "expected less than {lt}",
    "less_than_equal": "expected at most {le}",
    "multiple_of": "expected a multiple of {multiple_of}",
    "string_too_short": "expected at least {min_length} characters",
    "string_too_long": "expected at most {max_length} characters",
    "string_pattern_mismatch": "expected text like the pattern {pattern}",
    "too_short": "expected at least {min_length} of them",
    "too_long": "expected at most {max_length} of them",
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
    prefix = f"{key} is {shown_value(details['input'])}: " if key and not isinstance(details["input"], dict) else ""
    return prefix + expected(details)


def expected(details: Mapping[str, Any]) -> str:
    """What a fault of pydantic's (one of `ValidationError.errors()`) wants instead, in the words of this package."""
    if details["type"] in _EXPECTED:
        return _EXPECTED[details["type"]].format(**details.get("ctx", {}))
    if details["type"] in {"value_error", "assertion_error"}:  # raised by a check of our own, in its words
        return str(details.get("ctx", {}).get("error") or details["msg"].partition(", ")[2])
    return f"not usable ({details['type'].replace('_', ' ')})"


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
