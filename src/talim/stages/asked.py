"""Which recipe the options of `talim train` mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.recipe import Recipe
from talim.run import Run


def recipe_for(
    out: Path, configs: Sequence[Path], given: Mapping[str, Any], settings: Sequence[str]
) -> Recipe:
    """YAML files, then options that are not None, then --set; nothing at all means the run in `out`."""
    overrides = {key: value for key, value in given.items() if value is not None}
    overrides |= dict(recipes.parse_setting(text) for text in settings)
    run = Run(out)
    if not configs and not overrides and run.recipe_file.is_file():
        return recipes.load([run.recipe_file])
    return recipes.load(configs, overrides)
