"""What a path that is not there was probably meant to be: a file or folder of nearly the same name."""

from __future__ import annotations

import difflib
import itertools
import os
import unicodedata
from collections.abc import Iterator
from pathlib import Path

MAX_ENTRIES = 5000  # of a folder that are looked at
MIN_SIMILARITY = 0.7
_MAX_NEAR = 3


def did_you_mean(path: Path) -> str:
    """ "; did you mean recordings?" for a path that does not exist, "" where nothing near it does.

    Looks for each part of the path that is missing among what its folder holds: another case or form of letters, blanks
    or hyphens, a typing error, a suffix too many or too few.
    """
    found = next(_near(Path(path.anchor), [*path.parts[len(Path(path.anchor).parts) :]]), None)
    return f"; did you mean {found}?" if found is not None and found != path else ""


def _near(folder: Path, parts: list[str]) -> Iterator[Path]:
    """Existing paths that the missing parts below `folder` may mean, the nearest first."""
    if not parts:
        yield folder
        return
    name, rest = parts[0], parts[1:]
    try:
        if (folder / name).exists():
            yield from _near(folder / name, rest)
            return
        with os.scandir(folder) as entries:
            names = [entry.name for entry in itertools.islice(entries, MAX_ENTRIES)]
    except (OSError, ValueError):
        return
    for near in _near_names(name, names):
        yield from _near(folder / near, rest)


def _near_names(name: str, names: list[str]) -> list[str]:
    """The names nearest to one, at most three; hidden ones only for a hidden one."""
    by_key: dict[str, list[str]] = {}
    for other in sorted(names):
        if other.startswith(".") <= name.startswith("."):
            by_key.setdefault(_key(other), []).append(other)
            by_key.setdefault(_key(Path(other).stem), []).append(other)
    keys = [_key(name), _key(Path(name).stem)]
    close = [near for key in keys for near in difflib.get_close_matches(key, by_key, _MAX_NEAR, MIN_SIMILARITY)]
    exact = [key for key in keys if key in by_key]
    return [*dict.fromkeys(other for key in [*exact, *close] for other in by_key[key])][:_MAX_NEAR]


def _key(name: str) -> str:
    """A name without case, accents, blanks, hyphens and underscores."""
    plain = unicodedata.normalize("NFKD", name).casefold()
    return "".join(letter for letter in plain if not unicodedata.combining(letter) and letter not in " -_")
