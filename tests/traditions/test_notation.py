"""The shorthand of notes and strokes, and what it refuses."""

from __future__ import annotations

import pytest

from talim.errors import TalimError
from talim.traditions.notation import Notation, strokes

SVARAS = Notation({"S": 0.0, "R": 200.0, "N": 1100.0})
COMMAS = Notation({}, 1200 / 53)


def test_letters_with_octaves() -> None:
    assert SVARAS.notes(".N S R S' ..N R''") == (-100.0, 0.0, 200.0, 1200.0, -1300.0, 2600.0)


def test_numbers_of_units() -> None:
    assert COMMAS.notes("-5 0 53") == pytest.approx((-6000 / 53, 0, 1200), abs=1e-3)
    assert COMMAS.note("6.5") == pytest.approx(6.5 * 1200 / 53, abs=1e-3)


@pytest.mark.parametrize(("notation", "token"), [(SVARAS, "X"), (SVARAS, "7"), (SVARAS, "'S"), (COMMAS, "S")])
def test_unknown_notes_are_named(notation: Notation, token: str) -> None:
    with pytest.raises(TalimError, match="unknown note"):
        notation.note(token)


def test_a_token_lasts_a_beat_and_its_capitals_share_it() -> None:
    assert strokes("Dha TiRaKiTa | -Dha -") == [
        (0.0, 1.0, "Dha"),
        (1.0, 0.25, "Ti"),
        (1.25, 0.25, "Ra"),
        (1.5, 0.25, "Ki"),
        (1.75, 0.25, "Ta"),
        (2.5, 0.5, "Dha"),
        (4.0, 0.0, ""),
    ]


def test_lengths_may_be_fractions() -> None:
    assert strokes("Düm:3/2 Tek:1/2") == [(0.0, 1.5, "Düm"), (1.5, 0.5, "Tek"), (2.0, 0.0, "")]


@pytest.mark.parametrize("line", ["dha", "Dha:x", "Dha:-1", "Dha3", "Dha:0", "Dha:1/0"])
def test_unreadable_strokes_are_named(line: str) -> None:
    with pytest.raises(TalimError, match="cannot read the stroke"):
        strokes(line)


def test_spelling_gives_back_what_was_read() -> None:
    line = ".N S R S' ..N"
    assert SVARAS.spell(SVARAS.notes(line)) == line
    assert SVARAS.spell([1190.0, -90.0]) == "S' .N"
    assert COMMAS.spell(COMMAS.notes("-5 0 53")) == "-5 0 53"
