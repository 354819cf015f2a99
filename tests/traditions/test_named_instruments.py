"""Instruments named in titles and captions, in several scripts; and words that only look like them."""

from __future__ import annotations

import pytest

from talim.traditions.named_instruments import listed_instruments, named_instruments


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Raga Yaman - Sitar", ["sitar"]),
        ("yaman_sitar_01", ["sitar"]),
        ("YamanSitar02 tabla3", ["sitar", "tabla"]),
        ("Hicaz Saz Semai (Mansur Ney)", ["ney"]),
        ("Kemençe Taksimi", ["kemence"]),
        ("KEMAN VE KANUN İLE", ["violin", "kanun"]),
        ("Kudüm, bendir", ["kudum", "bendir"]),
        ("yaylı tanbur", ["yayli tanbur"]),
        ("viyolonsel taksimi", ["cello"]),
        ("सितार और तबला", ["sitar", "tabla"]),
        ("राग यमन (बांसुरी)", ["bansuri"]),
        ("सारंगी", ["sarangi"]),
        ("वायलिन", ["violin"]),
        ("シタールとタブラ", ["sitar", "tabla"]),
        ("尺八独奏", ["shakuhachi"]),
        ("ﾋﾟｱﾉ曲", ["piano"]),
        ("三味線、箏", ["shamisen", "koto"]),
        ("a slow alap on the sarod, with two tanpuras", ["sarod", "tanpura"]),
        ("female vocals over a harmonium", ["female voice", "harmonium"]),
        ("electric guitar and bass guitar", ["guitar", "bass guitar"]),
    ],
)
def test_named_instruments_in_any_script(text: str, expected: list[str]) -> None:
    assert named_instruments(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Bin Cefa Görsem Ey Sanem Senden",
        "ses kaydı 3",
        "Voice 001",
        "Zoom recorder take 2",
        "has been recorded",
        "Hicaz Saz Semaisi",
        "Sitara Devi",  # a dancer
        "recording.tar",
        "木琴",  # a xylophone, not a koto
        "without tabla",
        "no drums or guitar",
        "sounds like a sitar",
        "तबला के बिना",
        "タブラなし",
        "davul yok",
    ],
)
def test_named_instruments_does_not_guess(text: str) -> None:
    assert named_instruments(text) == []


def test_denial_ends_with_its_clause_or_with_with() -> None:
    assert named_instruments("without tabla, sarangi") == ["sarangi"]
    assert named_instruments("no drums but with sitar") == ["sitar"]


def test_listed_instruments_takes_ambiguous_words_too() -> None:
    assert listed_instruments("Ney, Ud; Ses") == ["ney", "oud", "voice"]
    assert listed_instruments("bass / keyboards | waterphone") == ["bass guitar", "keyboard"]
    assert listed_instruments("सितार, तबला") == ["sitar", "tabla"]
    assert listed_instruments("Strings and horns") == ["strings", "french horn"]
