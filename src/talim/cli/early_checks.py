"""What can be found wrong with a command line at once, before torch and the like are loaded."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from talim.errors import TalimError, UsageError
from talim.path_suggestions import did_you_mean
from talim.terminal_text import one_line

MAX_NAME_BYTES = 255  # of a file or folder, on every common file system


def require_folder(path: Path, what: str) -> None:
    """TalimError unless the folder exists and can be read; `what` says what it should hold."""
    _require(path, what)
    if not path.is_dir():
        raise TalimError(f"{path}: is a file; expected a folder: {what}")
    if not os.access(path, os.R_OK | os.X_OK):
        raise TalimError(f"{path}: this folder cannot be read (its permissions forbid it); expected {what}")


def require_path(path: Path, what: str) -> None:
    """TalimError unless there is a file or folder that can be read."""
    _require(path, what)
    if not os.access(path, os.R_OK):
        raise TalimError(f"{path}: cannot be read (its permissions forbid it); expected {what}")


def require_file(path: Path, what: str) -> None:
    """TalimError unless there is a file that can be read, no folder."""
    require_path(path, what)
    if path.is_dir():
        raise TalimError(f"{path}: is a folder; expected {what}, such as one of {path}/*")


def require_yaml(path: Path, what: str) -> None:
    """TalimError or UsageError unless the file exists and is YAML."""
    from talim.strict_yaml import read_yaml

    check_name(path)
    read_yaml(path, f"expected {what}")


def check_name(path: Path) -> None:
    """UsageError for a path that no file system takes."""
    if "\0" in str(path) or any(len(os.fsencode(part)) > MAX_NAME_BYTES for part in path.parts):
        raise UsageError(f"{one_line(str(path), 100)}: no file or folder can have this name; give a shorter one")
    try:
        path.resolve()
    except (OSError, RuntimeError):
        raise UsageError(f"{path}: is a link that leads to itself; give another name") from None


def check_loadable(base: str | None = None, device: str = "auto", designs: Iterable[str] = ()) -> None:
    """UsageError or TalimError for an unknown device, a misspelt design, or a base that cannot be loaded here."""
    from talim.backbones.devices import check_device_name
    from talim.backbones.resolve import check_base

    check_device_name(device)
    check_designs(designs)
    if base is not None:
        check_base(base)


def check_described(base: str | None, designs: Iterable[str]) -> None:
    """As `check_loadable`, for commands that read the shape of a base and no weights."""
    from talim.backbones.resolve import resolve_source

    check_designs(designs)
    if base is not None:
        resolve_source(base)


def check_designs(texts: Iterable[str]) -> None:
    """UsageError for a design expression that cannot be parsed, or a method of PEFT that is not there or sized so."""
    from talim.design.expression import PEFT_PREFIX, Design

    for text in texts:
        for part in Design.parse(text).parts:
            if part.kind.startswith(PEFT_PREFIX):
                from talim.design import peft_methods

                peft_methods.check_size(part)


def _require(path: Path, what: str) -> None:
    check_name(path)
    try:
        exists = path.exists()
    except PermissionError:
        raise TalimError(f"{path}: cannot be reached (permissions forbid it); expected {what}") from None
    if not exists:
        raise TalimError(f"{path}: no such file or folder{did_you_mean(path)}; expected {what}")
