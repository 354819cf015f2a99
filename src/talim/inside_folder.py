"""Names in files of others that are followed: only to places within their folder, and only to real files."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from talim.errors import TalimError


def resolve_inside(folder: Path, name: str | Path) -> Path:
    """The real path of `name`, relative to `folder`, links followed; TalimError where it leaves the folder.

    The file need not exist. Absolute names, `..` and symbolic links may lead anywhere, as long as that is inside.
    """
    try:
        root, target = folder.resolve(), (folder / name).resolve()
    except (OSError, RuntimeError, ValueError) as error:  # a loop of links, a name with a NUL, a name too long
        raise TalimError(f"{name}: cannot be found ({error})") from error
    if not target.is_relative_to(root):
        raise TalimError(f"{name}: leads out of {folder} (to {target}) and is not read; copy the file into the folder")
    return target


def read_inside(folder: Path, path: Path, max_bytes: int | None = None) -> bytes:
    """The content of a regular file within `folder`; TalimError where it is none, leaves it, or is over `max_bytes`.

    Pipes and devices are refused, as opening one may never return.
    """
    name = path.relative_to(folder) if path.is_relative_to(folder) else path
    target = resolve_inside(folder, name)
    try:
        status = target.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe or a device"
            raise TalimError(f"{path}: is {kind}, not a file")
        if max_bytes is not None and status.st_size > max_bytes:
            raise TalimError(f"{path}: holds {status.st_size:,} bytes; at most {max_bytes:,} are read")
        descriptor = os.open(target, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0))
        with open(descriptor, "rb") as file:
            return file.read()
    except OSError as error:
        raise TalimError(f"{path}: cannot be read: {error.strerror or error}") from error
