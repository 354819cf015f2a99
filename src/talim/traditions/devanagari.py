"""Devanagari in plain Latin letters, as Hindi is spoken; names of the facts come out in the facts' spelling.

The letters are those of the Hunterian system, India's own for maps and signs, without its marks, with two departures:
a flapped ड़ is d, as names of ragas have it (Todi, Kanada), and ज्ञ is gy. A schwa, the vowel that no letter writes, is
left out where Hindi leaves it out: at the end of a word, and within VC_CV (Ohala 1983).
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

from talim.traditions.instrument_names import list_instruments
from talim.traditions.name_matching import phonetic_key, split_ascii_words
from talim.traditions.tradition import load_all_builtin

TRADITION = "hindustani"  # whose names are written in this script
WORD = re.compile(r"[\u0900-\u0963\u0970-\u097f][\u0900-\u0963\u0970-\u097f\u200c\u200d]*")
PHRASE = re.compile(rf"{WORD.pattern}(?:[ \u00a0-]{WORD.pattern})*")
MAX_NAME_WORDS = 4
MAX_SCHWAS = 6  # in a word that is compared with the facts, each heard or not
MAX_READINGS = 8  # of each word where several may be one name

VIRAMA, NUKTA, ANUSVARA, CANDRABINDU, VISARGA = "\u094d", "\u093c", "\u0902", "\u0901", "\u0903"


def _letters(written: str, latin: str) -> dict[str, str]:
    return dict(zip(written, latin.split(), strict=True))


CONSONANTS = _letters(
    "कखगघङचछजझञटठडढणतथदधनपफबभमयरलळवशषसह",
    "k kh g gh n ch chh j jh n t th d dh n t th d dh n p ph b bh m y r l l v sh sh s h",
)
WITH_NUKTA = _letters("कखगजझडढफय", "q kh gh z zh d dh f y")
_VOWELS = "a i i u u ri ri e ai o au o e e o lri"
VOWELS = {"अ": "a", **_letters("आइईउऊऋॠएऐओऔऑऍऎऒऌ", _VOWELS)}
VOWEL_SIGNS = _letters("ािीुूृॄेैोौॉॅॆॊॢ", _VOWELS)
OTHERS = {"ॐ": "om", "॰": ".", "ॲ": "a"}
AVAGRAHA = "ऽ"  # not spoken
LABIALS = ("p", "b", "m", "f")
SONORITY = ("hkgcjtdqzfpbs", "nm", "lr", "vy")  # of a consonant's first letter; h with the obstruents


class Sound(NamedTuple):
    """One sound of a word: its letters, and what it is."""

    letters: str
    kind: str  # "consonant", "vowel", or "schwa", the vowel that is not written


def romanize_devanagari(text: str) -> str:
    """The text with every Devanagari word in Latin letters; all else stays: "राग यमन (slow)" -> "raga Yaman (slow)".

    A word, or up to four in a row, that is the name of a mode, cycle, ornament or instrument in the facts comes out in
    their spelling: "भीमपलासी" -> "Bhimpalasi".
    """
    text = PHRASE.sub(lambda match: _romanize_phrase(match.group()), unicodedata.normalize("NFC", text))
    return text.translate({0x966 + digit: str(digit) for digit in range(10)} | {0x964: ".", 0x965: "."})


def _romanize_phrase(phrase: str) -> str:
    """Words that follow each other, the longest names first."""
    parts = re.split(f"({WORD.pattern})", phrase)  # separators at even places
    words, separators = parts[1::2], parts[0::2]
    romanized, place = separators[0], 0
    while place < len(words):
        for length in range(min(MAX_NAME_WORDS, len(words) - place), 0, -1):
            name = _known_name(tuple(words[place : place + length]))
            if name or length == 1:
                romanized += (name or romanize_word(words[place])) + separators[place + length]
                place += length
                break
    return romanized


def romanize_word(word: str) -> str:
    """One word by rule alone: "भैरवी" -> "bhairavi", "मल्हार" -> "malhar"."""
    return _written(_without_silent_schwas(list(_sounds(word))))


def _written(sounds: list[Sound]) -> str:
    return "".join(sound.letters for sound in sounds).replace("jn", "gy")


def _sounds(word: str) -> Iterator[Sound]:
    """The sounds of a word, every schwa included."""
    decomposed = re.sub("[\u200c\u200d]", "", unicodedata.normalize("NFD", word))
    for match in re.finditer(rf"([क-ह])({NUKTA}?)({VIRAMA}?)|(.)", decomposed, re.DOTALL):
        consonant, nukta, virama, other = match.groups()
        following = decomposed[match.end() : match.end() + 1]
        if consonant:
            plain = CONSONANTS[consonant]
            yield Sound(WITH_NUKTA.get(consonant, plain) if nukta else plain, "consonant")
            if not virama and following not in VOWEL_SIGNS:
                yield Sound("a", "schwa")
        elif other in (ANUSVARA, CANDRABINDU):
            before_labial = CONSONANTS.get(following, "").startswith(LABIALS)
            yield Sound("m" if other == ANUSVARA and before_labial else "n", "consonant")
        elif other == VISARGA:
            yield Sound("h", "consonant")
        elif letters := VOWELS.get(other) or VOWEL_SIGNS.get(other) or OTHERS.get(other):
            yield Sound(letters, "vowel")
        elif unicodedata.category(other) == "Lo" and other != AVAGRAHA:  # of Sindhi and the like: not read, but told
            yield Sound(other, "vowel")


def _without_silent_schwas(sounds: list[Sound]) -> list[Sound]:
    """The sounds that are heard; schwas are judged from the end, since one that is gone keeps the one before it."""
    kept = list(sounds)
    for place in range(len(sounds) - 1, -1, -1):
        if sounds[place].kind == "schwa" and _is_silent(kept, place):
            del kept[place]
    return kept


def _is_silent(sounds: list[Sound], place: int) -> bool:
    """Whether the schwa at `place` is not spoken, given that all behind it have been judged."""
    before, after = sounds[:place], sounds[place + 1 :]
    if not any(sound.kind != "consonant" for sound in before):
        return False  # the first vowel of the word
    if not after:
        return not _keeps_final_schwa(before)
    kinds_before, kinds_after = [sound.kind for sound in before[-2:]], [sound.kind for sound in after[:2]]
    return (
        kinds_before[-1] == "consonant"
        and kinds_before[0] != "consonant"
        and kinds_after[0] == "consonant"
        and kinds_after[1:] in (["vowel"], ["schwa"])
    )


def _keeps_final_schwa(before: list[Sound]) -> bool:
    """Whether the consonants before a final schwa cannot end a word: "chandra", "krishna", "priya", but "dharm"."""
    last, previous = before[-1].letters, before[-2] if len(before) > 1 else None
    if previous is None:
        return True
    if previous.kind == "consonant":
        return _sonority(last) > _sonority(previous.letters)
    return last == "y" and previous.letters == "i"


def _sonority(letters: str) -> int:
    return next((rank for rank, group in enumerate(SONORITY) if letters[:1] in group), 0)


@cache
def _known_name(words: tuple[str, ...]) -> str:
    """The spelling in the facts of the name that these words write; "" where it is none."""
    limit = 2**MAX_SCHWAS if len(words) == 1 else MAX_READINGS
    per_word = [dict.fromkeys(itertools.islice(_readings(word), limit)) for word in words]
    keys = [_sound_key("".join(readings)) for readings in itertools.product(*per_word)]
    return next((table[key] for table in _fact_names() for key in keys if key and key in table), "")


def _readings(word: str) -> Iterator[str]:
    """The word by rule, then with every choice of schwas that are heard."""
    yield romanize_word(word)
    sounds = list(_sounds(word))
    schwas = [place for place, sound in enumerate(sounds) if sound.kind == "schwa"][-MAX_SCHWAS:]
    for count in range(len(schwas) + 1):
        for silent in itertools.combinations(schwas, count):
            yield _written([sound for place, sound in enumerate(sounds) if place not in silent])


@cache
def _fact_names() -> tuple[dict[str, str], dict[str, str]]:
    """The spelling in the facts of each name by its key, and of each alias: an alias is another spelling, or name."""
    tradition = next(each for each in load_all_builtin() if each.slug == TRADITION)
    entries = [*tradition.modes, *tradition.cycles, *tradition.ornaments]
    names = {entry.name: entry.name for entry in entries}
    for words in (tradition.mode_words, tradition.cycle_words):
        names |= dict.fromkeys(words, words[0])
    for instrument, aliases in list_instruments():
        names |= dict.fromkeys((instrument, *aliases), instrument)
    other = {alias: alias for entry in entries for alias in entry.aliases if alias.isascii()}
    return _by_sound(names), _by_sound(other)


def _by_sound(spellings: dict[str, str]) -> dict[str, str]:
    table: dict[str, str] = {}
    for spelling, usual in spellings.items():
        table.setdefault(_sound_key("".join(split_ascii_words(spelling))), usual)
    return table


def _sound_key(name: str) -> str:
    """The matching key of a name in ASCII letters: nasals before a consonant, and ay and ai, count as one."""
    diphthongs = re.sub(r"ay(?![aeiou])", "ai", name.lower())
    return phonetic_key(re.sub(r"[mn](?=[^aeiouymn])", "n", diphthongs))
