"""Adapters that were trained on a part of the base, or on a wrapper around it: their modules as this base names them.

PEFT names weights by the model that it was given: the decoder alone, or a model inside torch.compile, DataParallel or a
class of one's own. All paths then differ from this base's in their beginning.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Collection, Mapping
from typing import Any

from peft import PeftConfig
from peft.mapping import PEFT_TYPE_TO_PREFIX_MAPPING
from peft.utils.other import get_pattern_key

from talim import progress
from talim.adapters import regex_time
from talim.adapters.config import exact_path_regex

KEY_PREFIX = "base_model.model."  # PEFT's prefix of module paths
COMPILED = "_orig_mod."  # of torch.compile, at any depth


def as_named_here(
    config: PeftConfig, weights: Mapping[str, Any], modules: Collection[str], folder: Any
) -> tuple[PeftConfig, dict[str, Any]]:
    """The configuration and the weights of a PEFT adapter with this model's module paths; unchanged where they fit.

    They are changed only where all paths fit after their beginning is replaced in one way alone; that is told.
    """
    marks = PEFT_TYPE_TO_PREFIX_MAPPING.get(config.peft_type)  # type: ignore[arg-type]
    stored = {key: _module_and_rest(key, marks) for key in weights}
    paths, known = {module for module, _ in stored.values() if module}, set(modules)
    fits = paths <= known
    if not marks or (fits and all(key.startswith(KEY_PREFIX) for key, (module, _) in stored.items() if module)):
        return config, dict(weights)
    found = ("", "") if fits else _beginnings({path.replace(COMPILED, "") for path in paths}, known)
    if found is None:
        return config, dict(weights)
    left, right = found

    def here(path: str) -> str:
        return right + path.replace(COMPILED, "").removeprefix(left)

    renamed = {
        f"{KEY_PREFIX}{here(module)}.{rest}" if module else key: weights[key] for key, (module, rest) in stored.items()
    }
    if fits:
        return config, renamed
    regex_time.check_time(regex_time.expressions(config), paths)  # before they are matched in this process
    first = min(paths)
    progress.log_once(
        f"{folder}: its modules are named as those of another model, such as {first}; here that is {here(first)}"
    )
    adapted = {module for module, rest in stored.values() if module and rest.startswith(marks)}
    return _with_paths(config, {path: here(path) for path in sorted(adapted)}, {p: here(p) for p in paths}), renamed


def _module_and_rest(key: str, marks: str | None) -> tuple[str, str]:
    """A weight's key as the path of its module and the rest; no path where the weight belongs to none."""
    _, found, path = key.rpartition(KEY_PREFIX)
    path = path if found else key  # the weights of a whole model, as torch stores them, may lack it
    parts = path.split(".")
    for place, part in enumerate(parts):
        if marks and (part.startswith(marks) or part == "base_layer"):
            return ".".join(parts[:place]), ".".join(parts[place:])
    return (".".join(parts[:-1]), parts[-1]) if found else ("", key)


def _beginnings(paths: Collection[str], known: Collection[str]) -> tuple[str, str] | None:
    """What all paths begin with and what must stand there for all of them to be known; None if not exactly one does."""
    first = min(paths)
    parts = first.split(".")
    for count in range(len(parts)):  # as little as possible is taken away
        left = "".join(f"{part}." for part in parts[:count])
        if not all(path.startswith(left) for path in paths):
            return None
        rest = [path.removeprefix(left) for path in paths]
        ending = first.removeprefix(left)
        rights = [path.removesuffix(ending) for path in known if path == ending or path.endswith(f".{ending}")]
        fitting = [right for right in rights if all(f"{right}{path}" in known for path in rest)]
        if len(fitting) == 1:
            return left, fitting[0]
        if fitting:
            return None
    return None


def _with_paths(config: PeftConfig, adapted: Mapping[str, str], all_paths: Mapping[str, str]) -> PeftConfig:
    """The configuration for exactly these modules, stored paths to paths here; ranks and alphas stay as they were."""
    changed: Any = copy.deepcopy(config)
    changed.target_modules = exact_path_regex(adapted.values())
    for name in ("exclude_modules", "layers_to_transform", "layers_pattern"):
        if getattr(changed, name, None) is not None:
            setattr(changed, name, None)
    if names := getattr(changed, "modules_to_save", None):
        kept = [rf"(^|.*\.){name}($|\..*)" for name in names]  # as PEFT finds them
        changed.modules_to_save = sorted(
            here for path, here in all_paths.items() if any(re.match(pattern, path) for pattern in kept)
        )
    for name in ("rank_pattern", "alpha_pattern"):
        if patterns := getattr(changed, name, None):
            matched = {path: get_pattern_key(list(patterns), path) for path in adapted}
            values = {re.escape(adapted[path]): patterns[key] for path, key in matched.items() if key in patterns}
            setattr(changed, name, values)
    if feedforward := getattr(changed, "feedforward_modules", None):
        inputs = [here for path, here in adapted.items() if _is_named(feedforward, path)]
        changed.feedforward_modules = exact_path_regex(inputs) if inputs else []
    return changed


def _is_named(names: str | Collection[str], path: str) -> bool:
    """Whether PEFT takes a path as one of these names: an expression for the whole of it, or endings."""
    if isinstance(names, str):
        return re.fullmatch(names, path) is not None
    return any(path == name or path.endswith(f".{name}") for name in names)
