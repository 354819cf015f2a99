"""Matching of spellings, slugs, and suggestions for unknown names."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.traditions.name_matching import normalize_name, slugify, split_ascii_words, unknown_name_error

RAGA, TALA = ("raga", "raag", "rag"), ("tala", "taal", "tal")
MAKAM, USUL = ("makam", "makamı"), ("usul", "usulü")


@pytest.mark.parametrize(
    ("one", "other", "affixes"),
    [
        ("Bhūpālī", "Bhoopalee", RAGA),
        ("Śrī", "Shree", RAGA),
        ("Mārvā", "Marwa", RAGA),
        ("Tōḍī", "Thodi", RAGA),
        ("Śuddh kalyāṇ", "shuddh-kalyan", RAGA),
        ("Jōgiyā", "Jogia", RAGA),
        ("Candrakauns", "Chandrakauns", RAGA),
        ("Khammaj", "Khamaaj", RAGA),
        ("Raag Yaman", "yaman raga", RAGA),
        ("Kāfī", "Kaphi", RAGA),
        ("Ektaal", "Ek tala", TALA),
        ("ēktāl", "EKTAL", TALA),
        ("Cautāl", "Choutaal", TALA),
        ("Hicaz makamı", "hicaz", MAKAM),
        ("Uşşak", "USSAK", MAKAM),
        ("HİCAZKÂR", "hicazkar", MAKAM),
        ("Karcığar", "Karcigar", MAKAM),
        ("Nev'eser", "neveser", MAKAM),
        ("Hicaz-Hümâyûn", "hicaz_humayun", MAKAM),
        ("Türkaksağı", "Turk Aksagi usulü", USUL),
        ("Devr-i Kebîr (28/4)", "devrikebir", USUL),
    ],
)
def test_normalize_name_of_two_spellings_is_equal(one: str, other: str, affixes: tuple[str, ...]) -> None:
    assert normalize_name(one, affixes) == normalize_name(other, affixes)


@pytest.mark.parametrize(
    ("one", "other", "affixes"),
    [
        ("Müsemmen", "Müsemmen II", USUL),
        ("Yürüksemai", "yuruksemaiii", USUL),
        ("Düyek", "Ağır Düyek", USUL),
        ("Çargâh", "Çargâh (Yeni)", MAKAM),
        ("Puriya", "Purvi", RAGA),
        ("Lalit", "Lalit Pancham", RAGA),
    ],
)
def test_normalize_name_of_different_names_differs(one: str, other: str, affixes: tuple[str, ...]) -> None:
    assert normalize_name(one, affixes) != normalize_name(other, affixes)


def test_normalize_name_drops_a_leading_affix_only_as_a_word() -> None:
    assert normalize_name("Rageshri", RAGA) == "ragesri"
    assert normalize_name("Tala", TALA) == "tal"  # a name that is all affix stays


def test_slugify_gives_ascii_words() -> None:
    assert slugify("Hicaz Hümâyun") == "hicaz-humayun"
    assert split_ascii_words("Miyām̐ malhār") == ["miyam", "malhar"]


@given(st.text(max_size=30))
def test_normalize_name_of_any_text_is_ascii_and_caseless(name: str) -> None:
    key = normalize_name(name, RAGA)
    assert key == "" or (key.isascii() and key.isalnum())
    assert normalize_name(slugify(name), RAGA) == normalize_name(slugify(name).upper(), RAGA)


def test_unknown_name_error_offers_near_names_only() -> None:
    names = {"iaman": "Yaman", "bihag": "Bihag"}
    assert "did you mean Bihag?" in str(unknown_name_error("raga", "Bihak", names, RAGA))
    assert "there are 2: Bihag, Yaman" in str(unknown_name_error("raga", "xqzzt", names, RAGA))
