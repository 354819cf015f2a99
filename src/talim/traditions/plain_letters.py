"""Names and words in letters that a text encoder knows: only what it cannot read is changed, by fixed rules.

Devanagari is romanised (`devanagari`). A Latin letter with marks becomes the one without, as most writers of plain text
have it: "Şehnâz" -> "Sehnaz", "rāga" -> "raga". Of other scripts only names that the facts have are known: "尺八" ->
"shakuhachi"; the rest stays as it is.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from typing import NamedTuple

from talim.traditions import devanagari
from talim.traditions.instrument_names import list_instruments
from talim.traditions.name_matching import UNDECOMPOSED

CanRead = Callable[[str], bool]  # of a word or a letter
LETTERS = {chr(letter): plain for letter, plain in UNDECOMPOSED.items()} | {
    "œ": "oe", "þ": "th", "ð": "d", "ŋ": "ng", "ħ": "h", "ʻ": "", "ʿ": "", "ʾ": "", "ʽ": "", "ʼ": "'", "ˈ": "",
    "’": "'", "‘": "'", "′": "'", "´": "'", "‚": ",", "“": '"', "”": '"', "„": '"', "″": '"', "«": '"', "»": '"',
    "‐": "-", "‑": "-", "‒": "-", "–": "-", "—": "-", "―": "-", "−": "-", "·": "-", "•": "-", "…": "...", "⁄": "/",
    "♯": "#", "♭": "b", "♮": "", "×": "x", "÷": "/", "،": ",", "؛": ";", "؟": "?", "、": ",", "。": ".",
}  # fmt: skip
_VOWELS = "aeiouāīūēōáíúéóâîûêô"
SYLLABIC_R = re.compile(rf"(?<![{_VOWELS}])(?:ṛ|r̥)(?![{_VOWELS}h])", re.IGNORECASE)  # of Sanskrit: kṛti, r̥ṣabha


class Stretch(NamedTuple):
    """A part of a text as it was written and as it is spelled; equal where it can be read."""

    written: str
    spelled: str


def spell_plainly(text: str, can_read: CanRead) -> str:
    """The text with words that cannot be read in plain Latin letters, as far as rules go; ASCII never changes."""
    return "".join(stretch.spelled for stretch in spelled_stretches(text, can_read))


def spelled_stretches(text: str, can_read: CanRead) -> Iterator[Stretch]:
    """The text in parts, whose `written` join to it again: words that can be read with the white space, and others.

    Words that cannot be read and follow each other are one part, since they may be one name.
    """
    parts = re.split(r"(\s+)", text)  # words at even places
    unread = [place % 2 == 0 and not _is_read(part, can_read) for place, part in enumerate(parts)]
    place = 0
    while place < len(parts):
        stop = place + 1
        if unread[place]:
            while stop + 1 < len(parts) and unread[stop + 1]:
                stop += 2
        written = "".join(parts[place:stop])
        yield Stretch(written, _spell(written, can_read) if unread[place] else written)
        place = stop


def _is_read(word: str, can_read: CanRead) -> bool:
    return word.isascii() or can_read(word)


def _spell(written: str, can_read: CanRead) -> str:
    romanized = devanagari.romanize_devanagari(written)
    parts = re.split(r"(\s+)", romanized)
    return "".join(part if _is_read(part, can_read) else _spell_word(part, can_read) for part in parts)


def _spell_word(word: str, can_read: CanRead) -> str:
    """A word with the letters that cannot be read replaced; with all that have marks, where that alone helps."""
    composed = unicodedata.normalize("NFC", word)
    if can_read(composed):
        return composed
    composed = re.sub(r"\w+", lambda match: _foreign_names().get(match.group(), match.group()), composed)
    composed = SYLLABIC_R.sub(lambda match: "Ri" if match.group()[0].isupper() else "ri", composed)
    fewest = "".join(letter if _is_read(letter, can_read) else plain_letter(letter) for letter in composed)
    every = "".join(map(plain_letter, composed))
    return every if not _is_read(fewest, can_read) and _is_read(every, can_read) else fewest


@cache
def _foreign_names() -> dict[str, str]:
    """The usual name of instruments by those of their spellings that rules do not bring into Latin letters."""
    spellings = [(alias, name) for name, aliases in list_instruments() for alias in aliases]
    return {alias: name for alias, name in spellings if not "".join(map(plain_letter, alias)).isascii()}


def plain_letter(letter: str) -> str:
    """One character in ASCII, no blank: by the table, without its marks, or nothing for a mark alone; else itself."""
    plain = _from_table(letter)
    if letter.isascii() or plain != letter:
        return plain
    parts = unicodedata.normalize("NFKD", letter)
    # a mark that stands by itself decomposes into a blank with the mark, and would take a word apart
    bare = "".join(_from_table(part) for part in parts if not unicodedata.combining(part)).strip()
    if bare.isascii() and (bare or unicodedata.combining(letter)):
        return bare
    return "" if unicodedata.category(letter) in {"Cf", "Sk"} else letter


def _from_table(letter: str) -> str:
    if letter in LETTERS:
        return LETTERS[letter]
    return LETTERS[letter.lower()].capitalize() if letter.lower() in LETTERS else letter
