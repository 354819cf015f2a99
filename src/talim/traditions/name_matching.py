"""Matching of names across spellings, slugs, and the nearest names to an unknown one.

Matching ignores diacritics, Turkish letters, hyphens, spaces, and the usual variants of Indic sounds in Latin
letters (aa/a, ee/i, oo/u, w/v, sh/s, th/t, dh/d, ph/f, ch/c, doubled consonants, a final a).
"""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Mapping
from functools import lru_cache

from talim.errors import TalimError

UNDECOMPOSED = str.maketrans({"ı": "i", "ø": "o", "ł": "l", "đ": "d", "ß": "ss", "æ": "ae", "ə": "e"})
PHONETIC_SUBSTITUTIONS = (  # in this order; the long vowels before the doubled letters are made single
    ("iii", "i2"),  # "semaiii" is "semai ii", not a long vowel
    ("ee", "i"), ("ii", "i"), ("oo", "u"), ("uu", "u"), ("ou", "au"), ("w", "v"), ("q", "k"), ("sh", "s"),
    ("chh", "c"), ("ch", "c"), ("th", "t"), ("dh", "d"), ("ph", "f"),
)  # fmt: skip
NUMERALS = {"ii": "2", "iii": "3"}  # "Müsemmen II" is another usul than "Müsemmen"


def split_ascii_words(name: str) -> list[str]:
    """The words of `name` in lower-case ASCII letters and digits: "Acemaşîrân" -> ["acemasiran"].

    Apostrophes are dropped ("Nev'eser" -> ["neveser"]); other characters separate words.
    """
    lowered = unicodedata.normalize("NFKD", name).casefold().translate(UNDECOMPOSED)
    bare = "".join(letter for letter in lowered if not unicodedata.combining(letter))
    return re.findall(r"[a-z0-9]+", re.sub(r"['’ʼ‘`´]", "", bare))


def slugify(text: str) -> str:
    """The text as a name for files and commands: "Hicaz Hümâyun" -> "hicaz-humayun"; "" without Latin letters."""
    return "-".join(split_ascii_words(text))


def phonetic_key(word: str) -> str:
    """One ASCII word with its spelling variants folded: "bhoopalee" and "bhupali" give the same key."""
    for written, folded in PHONETIC_SUBSTITUTIONS:
        word = word.replace(written, folded)
    word = re.sub(r"iy(?=[aeiou])", "i", word)
    word = re.sub(r"(.)\1+", r"\1", word)
    return word[:-1] if len(word) > 3 and word.endswith("a") else word


def normalize_words(text: str) -> str:
    """The phonetic keys of a text's words, separated by spaces; a text in another script is only casefolded."""
    words = [phonetic_key(word) for word in split_ascii_words(text)]
    return " ".join(words or text.casefold().split())


@lru_cache(maxsize=8192)
def normalize_name(name: str, affixes: tuple[str, ...] = ()) -> str:
    """The matching key of a name, without `affixes` ("raga", "taal", "makam") at either end.

    A separate word is dropped at both ends ("raag yaman", "hicaz makamı"), a joined one only at the end ("ektaal"),
    since at the front it may belong to the name ("Rageshri"). A name that is all affix stays.
    """
    words = split_ascii_words(re.sub(r"\(\d+/\d+\)", "", name))  # a metre in parentheses: "Düyek (8/4)"
    dropped = {word for affix in affixes for word in split_ascii_words(affix)}
    while len(words) > 1 and words[0] in dropped:
        words = words[1:]
    while len(words) > 1 and words[-1] in dropped:
        words = words[:-1]
    joined = "".join(NUMERALS.get(word, word) for word in words)
    for ending in sorted(dropped, key=len, reverse=True):
        if joined.endswith(ending) and len(joined) >= len(ending) + 2:
            joined = joined[: -len(ending)]
            break
    return phonetic_key(joined)


def unknown_name_error(kind: str, name: str, names: Mapping[str, str], affixes: tuple[str, ...]) -> TalimError:
    """The error for an unknown name; it offers up to three nearest of `names` (key -> name)."""
    near = difflib.get_close_matches(normalize_name(name, affixes), names, n=6, cutoff=0.5)
    offers = list(dict.fromkeys(names[key] for key in near))[:3]
    if offers:
        return TalimError(f"no {kind} is called {name!r}: did you mean {', '.join(offers)}?")
    listed = sorted(set(names.values()))
    shown = ", ".join(listed[:5]) + (" ..." if len(listed) > 5 else "")
    return TalimError(f"no {kind} is called {name!r}, nor anything like it; there are {len(listed)}: {shown}")
