"""A command line from a dataclass of settings."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import fields
from typing import Any, TypeVar

Config = TypeVar("Config")


def parse_config(config: type[Config], doc: str | None, arguments: Sequence[str] | None = None) -> Config:
    """An instance of a dataclass in which every field has a default, with a flag for each field.

    Fields are numbers, strings, paths, booleans (a flag without a value) or tuples of fixed length. The first line of
    `doc` is the help's description.
    """
    parser = argparse.ArgumentParser(
        description=(doc or "").splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    for field in fields(config):  # type: ignore[arg-type]
        flag, default = f"--{field.name.replace('_', '-')}", field.default
        options: dict[str, Any] = {"default": default, "help": field.metadata.get("help", " ")}
        if isinstance(default, bool):
            options["action"] = "store_true"
        elif isinstance(default, tuple):
            options |= {"type": type(default[0]), "nargs": len(default)}
        else:
            options["type"] = type(default)
        parser.add_argument(flag, **options)
    values = vars(parser.parse_args(arguments))
    return config(**{name: tuple(v) if isinstance(v, list) else v for name, v in values.items()})
