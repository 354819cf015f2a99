"""Traditions: shipped ones and a user's own folder, found under any spelling, told from metadata words."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.invented_tradition import write_marsh

from talim.errors import TalimError
from talim.traditions import cycle_fit
from talim.traditions.tradition import Tradition, list_builtin, load, tradition_of

HINDUSTANI, MAKAM = load("hindustani"), load("makam")


def test_two_traditions_are_shipped() -> None:
    assert list_builtin() == ("hindustani", "makam")
    assert (HINDUSTANI.mode_word, HINDUSTANI.cycle_word) == ("raga", "tala")
    assert (MAKAM.mode_word, MAKAM.cycle_word) == ("makam", "usul")


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("yaman kalyan", "Yaman Kalyan"),
        ("Raag Yaman", "Yaman"),
        ("kalyan", "Yaman"),
        ("Bhūp", "Bhoopali"),
        ("bhimapalās", "Bhimpalasi"),
        ("Miyām̐ malhār", "Miyan ki Malhar"),
        ("Mian ki malhaar", "Miyan ki Malhar"),
        ("śrī", "Shree"),
        ("bilAsakhAnI toDI", "Bilaskhani Todi"),
        ("AHIR-BHAIRAV", "Ahir Bhairav"),
    ],
)
def test_ragas_are_found_as_they_are_typed(typed: str, name: str) -> None:
    assert HINDUSTANI.mode(typed).name == name


@pytest.mark.parametrize(
    ("typed", "name"),
    [
        ("ussak", "Uşşak"),
        ("HÜSEYNİ MAKAMI", "Hüseynî"),
        ("kürdili hicazkar", "Kürdîlihicazkâr"),
        ("sultaniyegah", "Sultânîyegâh"),
        ("hicaz_humayun", "Hicaz Hümâyun"),
        ("Suzinak Zirgüle", "Zirgüleli Sûzinâk"),
    ],
)
def test_makams_are_found_as_they_are_typed(typed: str, name: str) -> None:
    assert MAKAM.mode(typed).name == name


def test_cycles_and_ornaments_are_found_too() -> None:
    assert HINDUSTANI.cycle("tīntāl").name == "Teentaal"
    assert HINDUSTANI.cycle("jhap tala").name == "Jhaptaal"
    assert MAKAM.cycle("yuruksemai").name == "Yürük Semâî"
    assert HINDUSTANI.ornament("mīṇḍ").name == "Meend"
    assert MAKAM.ornament("carpma").name == "Çarpma"


def test_an_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(TalimError, match=r"no raga is called 'Yamun': did you mean Yaman"):
        HINDUSTANI.mode("Yamun")
    with pytest.raises(TalimError, match="no usul is called 'Serbest'"):
        MAKAM.cycle("Serbest")
    with pytest.raises(TalimError, match="no raga is called ''"):
        HINDUSTANI.mode("")


@pytest.mark.parametrize("source", ["carnatic", "/nowhere/at/all"])
def test_an_unknown_tradition_says_what_there_is(source: str) -> None:
    with pytest.raises(TalimError, match=r"name hindustani, makam or a folder of your own"):
        load(source)


def test_a_third_tradition_needs_no_code(tmp_path: Path) -> None:
    marsh = load(write_marsh(tmp_path / "marsh"))
    heron, bittern = marsh.mode("reed heron"), marsh.mode("BITTERN")
    assert (marsh.slug, heron.degrees_cents) == ("marsh", (0, 150, 350, 700))
    assert heron.ascent_cents[-1] == 1200
    assert heron.phrases_cents[0] == (-500, 0, 150, 0)
    assert (bittern.final_cents, bittern.touched_cents) == (350, (150,))
    assert marsh.mode("snipe").name == "Snîpe"
    assert marsh.ornament("ripple").rate_hz == (1, 3)
    track = np.repeat([0.0, 150, 350, 700, 350, 0], 60)
    mine, other = (cycle_fit.scale_score(track, mode, 0.01, rest_seconds=0.5) for mode in (heron, bittern))
    assert mine.in_scale == mine.at_rest == 1
    assert mine.off_cents == 0
    assert other.at_rest == 0
    assert cycle_fit.degree_of(1050.0, heron).number[0] == 1  # nearer to the upper a than to e
    assert np.allclose(cycle_fit.degree_intonation(track, heron), heron.degrees_cents)
    onsets = np.array(
        [20 * cycle + beat for cycle in range(4) for beat in (0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15)]
    )
    five = marsh.cycle("five wade")
    assert cycle_fit.cycle_score(onsets, None, five, 1.0).first_beat == 0
    assert cycle_fit.best_cycles(onsets, None, marsh.cycles, 1.0)[0][0] is five
    assert tradition_of({"reed": "Heron"}, [HINDUSTANI, marsh]) is marsh
    assert tradition_of({"tradition": "songs of the marsh"}, [marsh]) is marsh


@pytest.mark.parametrize(
    ("words", "slug"),
    [
        ({"raga": "Bhairabi", "taal": ""}, "hindustani"),
        ({"Raag": "Śrī", "instrument": "Voice"}, "hindustani"),
        ({"raga": "Dagori", "taal": "Ektaal|Teentaal"}, "hindustani"),
        ({"makam": "karcigar,huseyni", "usul": "serbest"}, "makam"),
        ({"usul": "Aksak"}, "makam"),
        ({"tradition": "Turkish makam"}, "makam"),
        ({"tradition": "HINDUSTANI", "makam": "Rast"}, "hindustani"),
    ],
)
def test_words_tell_the_tradition(words: dict[str, str], slug: str) -> None:
    found = tradition_of(words)
    assert isinstance(found, Tradition)
    assert found.slug == slug


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ({}, "none of its words names a tradition (raga, tala, makam, usul)"),
        ({"title": "Rast", "raga": "  "}, "none of its words names a tradition (raga, tala, makam, usul)"),
        (
            {"tradition": "Carnatic", "raga": "Bhairavi"},
            "its tradition 'Carnatic' is none of hindustani, makam",
        ),
        (
            {"raga": "Yaman", "makam": "Rast"},
            "its words speak of hindustani and makam at once; set tradition",
        ),
        ({"raga": "Xqzzt"}, "no raga is called 'Xqzzt'"),
    ],
)
def test_where_words_do_not_tell_there_is_a_reason(words: dict[str, str], reason: str) -> None:
    found = tradition_of(words)
    assert isinstance(found, str)
    assert found.startswith(reason)
    assert "\n" not in found
