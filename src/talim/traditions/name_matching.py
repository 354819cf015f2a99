"""Names as people type them: spellings of one name fold to one key, and an unknown name meets its nearest ones.

The folding forgives diacritics, Turkish letters, hyphens, spaces, and the usual ways to write Indic sounds in
Latin letters (aa/a, ee/i, oo/u, w/v, sh/s, th/t, dh/d, ph/f, ch/c, doubled consonants, a final a).
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
    ("ee", "i"),
    ("ii", "i"),
    ("oo", "u"),
    ("uu", "u"),
    ("ou", "au"),
    ("w", "v"),
    ("q", "k"),
    ("sh", "s"),
    ("chh", "c"),
    ("ch", "c"),
    ("th", "t"),
    ("dh", "d"),
    ("ph", "f"),
)
NUMERALS = {"ii": "2", "iii": "3"}  # "Müsemmen II" is another usul than "Müsemmen"


def split_ascii_words(name: str) -> list[str]:
    """The words of `name` in lower-case ASCII letters and digits: "Acemaşîrân" -> ["acemasiran"].

    Apostrophes join ("Nev'eser" -> ["neveser"]); everything else that is no letter or digit parts.
    """
    lowered = unicodedata.normalize("NFKD", name).casefold().translate(UNDECOMPOSED)
    bare = "".join(letter for letter in lowered if not unicodedata.combining(letter))
    return re.findall(r"[a-z0-9]+", re.sub(r"['’ʼ‘`´]", "", bare))


def slugify_name(name: str) -> str:
    """The name as a file or a command line writes it: "Hicaz Hümâyun" -> "hicaz-humayun"."""
    return "-".join(split_ascii_words(name))


def phonetic_key(word: str) -> str:
    """One ASCII word with its spelling variants folded: "bhoopalee" and "bhupali" become the same letters."""
    for written, folded in PHONETIC_SUBSTITUTIONS:
        word = word.replace(written, folded)
    word = re.sub(r"iy(?=[aeiou])", "i", word)
    word = re.sub(r"(.)\1+", r"\1", word)
    return word[:-1] if len(word) > 3 and word.endswith("a") else word


@lru_cache(maxsize=8192)
def normalize_name(name: str, affixes: tuple[str, ...] = ()) -> str:
    """The key under which a name is found; `affixes` ("raga", "taal", "makam") at either end are left out.

    As a word of its own an affix is dropped at both ends ("raag yaman", "hicaz makamı"), written together only at
    the end ("ektaal"): at the front it may be the name's own ("Rageshri"). A name that is all affix stays.
    """
    words = split_ascii_words(re.sub(r"\(\d+/\d+\)", "", name))  # a metre as a remark: "Düyek (8/4)"
    spare = {word for affix in affixes for word in split_ascii_words(affix)}
    while len(words) > 1 and words[0] in spare:
        words = words[1:]
    while len(words) > 1 and words[-1] in spare:
        words = words[:-1]
    joined = "".join(NUMERALS.get(word, word) for word in words)
    for ending in sorted(spare, key=len, reverse=True):
        if joined.endswith(ending) and len(joined) >= len(ending) + 2:
            joined = joined[: -len(ending)]
            break
    return phonetic_key(joined)


def unknown_name_error(
    kind: str, name: str, names: Mapping[str, str], affixes: tuple[str, ...]
) -> TalimError:
    """The error for a name that nothing answers to; it offers up to three nearest of `names` (key -> name)."""
    near = difflib.get_close_matches(normalize_name(name, affixes), names, n=6, cutoff=0.5)
    offers = list(dict.fromkeys(names[key] for key in near))[:3]
    if offers:
        return TalimError(f"no {kind} is called {name!r}: did you mean {', '.join(offers)}?")
    listed = sorted(set(names.values()))
    shown = ", ".join(listed[:5]) + (" ..." if len(listed) > 5 else "")
    return TalimError(f"no {kind} is called {name!r}, nor anything like it; there are {len(listed)}: {shown}")
