"""Text of unknown encoding: UTF-8 and UTF-16, and older code pages where only one reading makes sense.

Spreadsheets still write the code page of the country ("CSV" in a Japanese, Turkish or French Excel). A code page is
taken where the letters of one language account for every byte, and no other language gives another text.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import groupby, pairwise

BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)  # UTF-32's little-endian mark begins like UTF-16's
CODE_PAGE_NAMES = {
    "cp932": "Shift_JIS (cp932)",
    "cp1250": "Windows Central European (cp1250)",
    "cp1251": "Windows Cyrillic (cp1251)",
    "cp1252": "Windows Western European (cp1252)",
    "cp1253": "Windows Greek (cp1253)",
    "cp1254": "Windows Turkish (cp1254)",
    "mac_roman": "Mac Roman",
}
# The letters beside a to z of each language, by code page; other letters make a reading implausible.
LATIN_LETTERS = (
    ("cp1252", ("àâæçèéêëîïôœùûüÿ", "äöüß", "áéíñóúü", "àáâãçéêíóôõúü", "àèéìíîòóùú", "æøåéö", "åäöé", "áðéíóúýþæö",
                "àçèéíïòóúü", "éëïóöü")),
    ("mac_roman", ("àâæçèéêëîïôœùûüÿ", "äöüß", "áéíñóúü", "àáâãçéêíóôõúü", "àèéìíîòóùú", "æøåéö", "åäöé")),
    ("cp1254", ("çğıöşüâîûİ",)),
    ("cp1250", ("ąćęłńóśźż", "áčďéěíňóřšťúůýž", "áäčďéíľňóôšťúýž", "áéíóöőúüű", "čćđšž", "ăâîşţ")),
)  # fmt: skip
_TYPOGRAPHY = frozenset("‘’‚“”„–—…·•°«»‹›¿¡©®™º²³½§€£¥×ª´ \u00a0")
_JAPANESE = re.compile("[\u3000-\u30ff\u4e00-\u9fff\uff01-\uff9f々〆]+")
_ICELANDIC = "áðéíóúýþæö"  # its ð, ý and þ are the Turkish ğ, ı and ş: other letters must tell them apart
_MISPLACED = re.compile(r"[^\W\d_][^\w\s\x00-\x7f’·–—][^\W\d_]")  # a quotation mark or a currency sign within a word
_MIN_ZEROS = 4  # the zero bytes of two letters, a comma and a line break
_SHORT_WORDS = frozenset("àáâèéêìíòóôùúåæøö")  # words of a single letter with a mark
_MAX_NON_ASCII_RUN = 3  # letters with marks in a row, in a language written in Latin letters


@dataclass(frozen=True)
class DecodedText:
    """A text, and in `note` the encoding that was recognised; "" for UTF-8."""

    text: str
    note: str = ""


def decode_text(data: bytes) -> DecodedText:
    """The text of a file's bytes; ValueError, with the reason and the remedy, where its encoding is not certain."""
    remedy = "save it again as UTF-8 (in a spreadsheet: 'CSV UTF-8')"
    for mark, codec, name in BYTE_ORDER_MARKS:
        if data.startswith(mark):
            try:
                return DecodedText(data.decode(codec), "" if name == "UTF-8" else f"read as {name}")
            except UnicodeDecodeError as error:
                raise ValueError(f"is marked as {name} and is damaged ({error.reason}); {remedy}") from error
    if b"\0" in data:
        return _decode_utf16(data, remedy)
    try:
        return DecodedText(data.decode("utf-8"))
    except UnicodeDecodeError:
        readings = code_page_readings(data)
    if not readings:
        raise ValueError(f"is not UTF-8 text, and no other encoding fits it with certainty; {remedy}")
    if len(readings) > 1:
        (first, text), (second, other) = [*readings.items()][:2]
        seen = _first_difference(text, other)
        names = f"{CODE_PAGE_NAMES[first]}: {seen[0]!r}, or {CODE_PAGE_NAMES[second]}: {seen[1]!r}"
        raise ValueError(f"is not UTF-8 text, and may be {names}; {remedy}")
    codec, text = readings.popitem()
    return DecodedText(text, f"read as {CODE_PAGE_NAMES[codec]}; if its letters are wrong, {remedy}")


def code_page_readings(data: bytes) -> dict[str, str]:
    """The plausible readings by code page, each text once: those of single languages, else of a mixture of them."""
    for whole in (False, True):
        candidates: list[tuple[str, Callable[[str], bool]]] = [("cp932", _is_japanese)]
        for codec, languages in LATIN_LETTERS:
            for letters in ("".join(languages),) if whole else languages:
                candidates.append((codec, _latin_test(letters)))
        candidates += [("cp1251", _script_test("CYRILLIC")), ("cp1253", _script_test("GREEK"))]
        readings: dict[str, str] = {}
        for codec, is_plausible in candidates:
            try:
                text = data.decode(codec)
            except UnicodeDecodeError:
                continue
            if text not in readings.values() and is_plausible(text):
                readings[codec] = text
        if len(readings) > 1:  # no current spreadsheet writes it by default
            readings.pop("mac_roman", None)
        if readings:
            return readings
    return {}


def _decode_utf16(data: bytes, remedy: str) -> DecodedText:
    """UTF-16 without a mark: every other byte of its separators and line breaks is zero."""
    even, odd = data[::2].count(0), data[1::2].count(0)
    codec = "utf-16-be" if even > odd else "utf-16-le"
    try:
        if min(even, odd) == 0 and max(even, odd) >= _MIN_ZEROS:  # not a damaged text with a zero byte in it
            text = data.decode(codec)
            if all(
                letter in "\r\n\t" or unicodedata.category(letter) not in ("Cc", "Cn", "Co", "Cs") for letter in text
            ):
                return DecodedText(text, "read as UTF-16")
    except UnicodeDecodeError:
        pass
    raise ValueError(f"holds zero bytes and is no text; {remedy}")


def _is_japanese(text: str) -> bool:
    """Whether everything beside ASCII is Japanese, most of it in words of two characters or more, few of them rare.

    Single ones between Latin letters are what a quotation mark of another code page looks like; rare ones (beyond the
    first level of JIS X 0208) are what its accented letters look like.
    """
    runs = _JAPANESE.findall(text)
    characters = "".join(runs)
    if not characters or len(characters) != sum(not letter.isascii() for letter in text):
        return False
    in_words = sum(len(run) for run in runs if len(run) > 1)
    rare = sum(letter.encode("cp932") >= b"\x98\x9f" or "\uff61" <= letter <= "\uff9f" for letter in characters)
    return in_words > len(characters) / 2 and rare < len(characters) / 2


def _latin_test(letters: str) -> Callable[[str], bool]:
    """Whether every letter beside ASCII is one of these, in words that a language could have."""
    allowed = frozenset(letters + letters.upper())

    def is_plausible(text: str) -> bool:
        if _MISPLACED.search(text) or any(text.count(left) != text.count(right) for left, right in ("«»", "‹›")):
            return False
        if letters == _ICELANDIC and not {*"áéíóúæ"} & {*text.lower()}:
            return False
        for word in re.findall(r"\w+", text):
            marked = [letter for letter in word if not letter.isascii()]
            if not marked:
                continue
            bare = len(word) - len(marked)
            runs = [len([*group]) for plain, group in groupby(word, str.isascii) if not plain]
            if not {*marked} <= allowed | _TYPOGRAPHY or max(runs) > _MAX_NON_ASCII_RUN:
                return False
            if _changes_case(word) or word[0] == "ğ" or (not bare and word not in _SHORT_WORDS):
                return False
        return all(letter.isascii() or letter.isalpha() or letter in _TYPOGRAPHY for letter in text)

    return is_plausible


def _script_test(script: str) -> Callable[[str], bool]:
    """Whether words are wholly in this script or wholly in ASCII, and some have four letters or more."""

    def is_plausible(text: str) -> bool:
        words = [word for word in re.findall(r"[^\W\d_]+", text) if not word.isascii()]
        whole = all(unicodedata.name(letter, "").startswith(script) for word in words for letter in word)
        symbols = {letter for letter in text if not letter.isascii() and not letter.isalpha()}
        lower = [word for word in words if len(word) > 3 and word[1:].islower()]
        return whole and bool(lower) and symbols <= _TYPOGRAPHY and not any(map(_changes_case, words))

    return is_plausible


def _changes_case(word: str) -> bool:
    """Whether a marked capital follows a small letter: what a wrong code page makes of accented letters."""
    pairs = pairwise(word)
    return any(before.islower() and letter.isupper() and not letter.isascii() for before, letter in pairs)


def _first_difference(text: str, other: str) -> tuple[str, str]:
    """The first words that differ between two readings."""
    pairs = zip(text.split(), other.split(), strict=False)
    return next(((a[:40], b[:40]) for a, b in pairs if a != b), (text[:40], other[:40]))
