"""Instruments that a title, a file's name or a caption names, in Latin letters, Devanagari or Japanese.

Only whole words count, in the spellings of the facts. Words that mostly mean something else ("bin", "ses", "recorder")
count only where the text is a list of instruments. "Without tabla" and "like a sitar" name none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import cache

from talim.traditions.devanagari import romanize_devanagari
from talim.traditions.instrument_names import list_instruments
from talim.traditions.name_matching import split_ascii_words

MAX_WORDS = 3  # of a name


def _words_of(text: str) -> frozenset[str]:
    return frozenset(text.split())


# spellings that are words of common languages, forms of pieces, or parts of names, more often than instruments
AMBIGUOUS = _words_of(
    """
    arp bass been bell bells bin brass chimes chorus claps cura daf daire def duff gaida hand horn keyboard keyboards
    mbira mey nai nay organ pad pads pipa recorder riq saz ses shruti strings tar tef tuba triangle turntable voice
    whistle zil zill zills zils
    """
)
_DENIES = _words_of("no without not never minus sans ohne kein keine sin senza bina olmadan")
_LIKENS = _words_of("like imitates imitating imitation instead resembles resembling")
_GRANTS = _words_of("with but plus avec mit con")
_DENIES_AFTER = _words_of("yok olmadan haric bina nahin")
_HINDI_WITHOUT = re.compile("बिना|बग़ैर|बगैर")
_CLAUSE = re.compile(r"[.,;:!?()\[\]{}|/\n\u3001\u3002\u30fb\uff08\uff09\uff0c]")
_IN_LISTS = re.compile(r"[,;|/&+\n\u3001\u30fb]| and | ve | और ")
_KANA = "\u30a0-\u30fa\u30fc-\u30ff"
_KANJI = "\u4e00-\u9fff"
_RUN = re.compile(rf"[{_KANA}]+|[{_KANJI}]+")
_JAPANESE_ENDINGS = ("独奏", "演奏", "合奏", "二重奏", "音色", "曲", "編")
_JAPANESE_DENIALS = ("なし", "無し", "抜き", "以外", "のような", "風")


def named_instruments(text: str) -> list[str]:
    """The usual names of the instruments that a text names, in its order; empty where it names none for certain."""
    found: list[str] = []
    for clause in _CLAUSE.split(unicodedata.normalize("NFKC", text)):
        found += [*_in_words(clause), *_in_japanese(clause)]
    return list(dict.fromkeys(found))


def listed_instruments(text: str) -> list[str]:
    """The usual names of those parts of a list ("Ney, Ud; Ses") that are names of instruments, in its order."""
    parts = [" ".join(_words(part)) or part.strip() for part in _IN_LISTS.split(text)]
    return list(dict.fromkeys(_spellings()[part] for part in parts if part in _spellings()))


def _in_words(clause: str) -> Iterator[str]:
    words, denied, at = _words(clause), False, 0
    while at < len(words):
        if words[at] in _DENIES | _LIKENS:
            denied = True
        elif words[at] in _GRANTS:
            denied = False
        size, name = _name_at(words, at)
        if name and not denied and not _DENIES_AFTER & {*words[at + size : at + size + 2]}:
            yield name
        at += max(1, size)


def _name_at(words: list[str], at: int) -> tuple[int, str]:
    """How many words from `at` on are the longest name, and the usual one; (0, "") without one."""
    for size in range(min(MAX_WORDS, len(words) - at), 0, -1):
        written = " ".join(words[at : at + size])
        if written in _spellings() and written not in AMBIGUOUS:
            return size, _spellings()[written]
    return 0, ""


def _in_japanese(clause: str) -> Iterator[str]:
    for run in _RUN.finditer(clause):
        if clause[run.end() :].lstrip().startswith(_JAPANESE_DENIALS):
            continue
        word = run.group()
        ending = next((each for each in _JAPANESE_ENDINGS if word.endswith(each) and word != each), "")
        for spelling in (word, word.removesuffix(ending)):
            if spelling in _spellings():
                yield _spellings()[spelling]
                break


def _words(text: str) -> list[str]:
    """Lower-case words; Devanagari in Latin letters, "YamanSitar01" as three words."""
    romanized = romanize_devanagari(_HINDI_WITHOUT.sub(" bina ", text))
    apart = re.sub(r"(?<=[a-zçğıöşü])(?=[A-ZÇĞİÖŞÜ])|(?<=[^\W\d])(?=\d)|(?<=\d)(?=[^\W\d])|_", " ", romanized)
    return split_ascii_words(apart)


@cache
def _spellings() -> dict[str, str]:
    """The usual name by every spelling: in ASCII words, or in Japanese letters as written."""
    table: dict[str, str] = {}
    for name, aliases in list_instruments():
        for spelling in (name, *aliases):
            words = split_ascii_words(spelling) or split_ascii_words(romanize_devanagari(spelling))
            key = " ".join(words) or unicodedata.normalize("NFKC", spelling)
            table.setdefault(key, name)
            if words and len(key) > 3:
                table.setdefault(f"{key}s", name)
    return table
