"""Traditions: built-in ones and a custom folder, names in any spelling, recognition from metadata."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.invented_tradition import write_marsh

from talim.errors import TalimError
from talim.traditions import cycle_fit
from talim.traditions.tradition import Tradition, list_builtin, load, tradition_of

HINDUSTANI, MAKAM = load("hindustani"), load("makam")


def test_list_builtin_names_two_traditions() -> None:
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
def test_mode_finds_ragas_in_any_spelling(typed: str, name: str) -> None:
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
def test_mode_finds_makams_in_any_spelling(typed: str, name: str) -> None:
    assert MAKAM.mode(typed).name == name


def test_cycle_and_ornament_find_any_spelling() -> None:
    assert HINDUSTANI.cycle("tīntāl").name == "Teentaal"
    assert HINDUSTANI.cycle("jhap tala").name == "Jhaptaal"
    assert MAKAM.cycle("yuruksemai").name == "Yürük Semâî"
    assert HINDUSTANI.ornament("mīṇḍ").name == "Meend"
    assert MAKAM.ornament("carpma").name == "Çarpma"


def test_mode_with_unknown_name_offers_the_nearest() -> None:
    with pytest.raises(TalimError, match=r"no raga is called 'Yamun': did you mean Yaman"):
        HINDUSTANI.mode("Yamun")
    with pytest.raises(TalimError, match="no usul is called 'Serbest'"):
        MAKAM.cycle("Serbest")
    with pytest.raises(TalimError, match="no raga is called ''"):
        HINDUSTANI.mode("")


@pytest.mark.parametrize("source", ["carnatic", "/nowhere/at/all"])
def test_load_of_unknown_tradition_lists_the_builtin_ones(source: str) -> None:
    with pytest.raises(TalimError, match=r"name hindustani, makam or a folder of your own"):
        load(source)


def test_load_of_a_custom_folder_gives_a_complete_tradition(tmp_path: Path) -> None:
    marsh = load(write_marsh(tmp_path / "marsh"))
    heron, bittern = marsh.mode("reed heron"), marsh.mode("BITTERN")
    assert (marsh.slug, heron.degrees_cents) == ("marsh", (0, 150, 350, 700))
    assert heron.ascent_cents[-1] == 1200
    assert heron.phrases_cents[0] == (-500, 0, 150, 0)
    assert (bittern.final_cents, bittern.touched_cents) == (350, (150,))
    assert marsh.mode("snipe").name == "Snîpe"
    assert marsh.ornament("ripple").rate_hz == (1, 3)
    onsets = np.array(
        [20 * cycle + beat for cycle in range(4) for beat in (0, 1, 3, 4, 5, 6, 8, 9, 10, 11, 13, 14, 15)]
    )
    five = marsh.cycle("five wade")
    assert cycle_fit.cycle_score(onsets, None, five, 1.0).first_beat == 0
    fits = [cycle_fit.cycle_score(onsets, None, cycle, 1.0).fit for cycle in marsh.cycles if cycle.strokes]
    assert cycle_fit.cycle_score(onsets, None, five, 1.0).fit == max(fits)
    assert tradition_of({"reed": "Heron"}, [HINDUSTANI, marsh]) is marsh
    assert tradition_of({"tradition": "songs of the marsh"}, [marsh]) is marsh


@pytest.mark.parametrize(
    ("cells", "slug"),
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
def test_tradition_of_recognizes_it_from_labels(cells: dict[str, str], slug: str) -> None:
    tradition = tradition_of(cells)
    assert isinstance(tradition, Tradition)
    assert tradition.slug == slug


@pytest.mark.parametrize(
    ("cells", "reason"),
    [
        ({}, "none of its labels names a tradition (raga, tala, makam, usul)"),
        ({"title": "Rast", "raga": "  "}, "none of its labels names a tradition (raga, tala, makam, usul)"),
        ({"tradition": "Carnatic", "raga": "Bhairavi"}, "its tradition 'Carnatic' is none of hindustani, makam"),
        ({"raga": "Yaman", "makam": "Rast"}, "its labels belong to hindustani and makam at once; set tradition"),
        ({"raga": "Xqzzt"}, "no raga is called 'Xqzzt'"),
    ],
)
def test_tradition_of_unclear_labels_gives_a_reason(cells: dict[str, str], reason: str) -> None:
    message = tradition_of(cells)
    assert isinstance(message, str)
    assert message.startswith(reason)
    assert "\n" not in message
