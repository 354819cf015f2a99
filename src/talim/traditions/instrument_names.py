"""Names of instruments in their usual spelling, with the nearest one for a typing error."""

from __future__ import annotations

import difflib
from functools import cache
from pathlib import Path

from talim.atomic_io import read_json
from talim.errors import TalimError
from talim.traditions.name_matching import normalize_words

_FILE = Path(__file__).parent / "facts" / "instruments.json"
_MIN_SIMILARITY = 0.75  # of the keys of two names; below it they are taken for two instruments
_MIN_LETTERS = 4  # of a name that may be a typing error; shorter ones resemble too many


def resolve_instrument(name: str) -> str:
    """The usual name of an instrument in any common spelling: "Sitaar" gives "sitar".

    A name with further words ("bowed sitar", "electric guitar") is returned as it is, and so is a name that resembles
    none, since no list is complete. TalimError, with the nearest names, for one that looks like a typing error.
    """
    text, keys = " ".join(name.split()), _instrument_keys()
    key = normalize_words(text)
    for candidate in (key, key.removesuffix("s")):
        if candidate in keys:
            return keys[candidate]
    if near := near_instruments(text):
        raise TalimError(f"no instrument is called {name!r}: did you mean {', '.join(near)}?")
    return text


def near_instruments(name: str) -> list[str] | None:
    """The usual names of the instruments that an unknown one resembles; None if one of the words in it is known."""
    keys, key = _instrument_keys(), normalize_words(name)
    words = [*key.split(), key]
    if any(word in keys or word.removesuffix("s") in keys for word in words):
        return None
    for word in words:
        near = difflib.get_close_matches(word, keys, 3, _MIN_SIMILARITY) if len(word) >= _MIN_LETTERS else []
        if near:
            return list(dict.fromkeys(keys[match] for match in near))
    return []


@cache
def list_instruments() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """The usual name of every instrument, with its other spellings."""
    return tuple((entry["name"], tuple(entry["aliases"])) for entry in read_json(_FILE))


@cache
def _instrument_keys() -> dict[str, str]:
    """The usual name of each instrument by the matching key of each of its spellings."""
    keys = {normalize_words(alias): name for name, aliases in list_instruments() for alias in aliases}
    return keys | {normalize_words(name): name for name, _ in list_instruments()}
