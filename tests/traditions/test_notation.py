"""The notation of notes and strokes, and its errors."""

from __future__ import annotations

import pytest

from talim.errors import TalimError
from talim.traditions.notation import Notation, parse_strokes

SVARAS = Notation({"S": 0.0, "R": 200.0, "N": 1100.0})
COMMAS = Notation({}, 1200 / 53)


def test_notes_reads_letters_with_octave_marks() -> None:
    assert SVARAS.notes(".N S R S' ..N R''") == (-100.0, 0.0, 200.0, 1200.0, -1300.0, 2600.0)


def test_notes_reads_numbers_of_units() -> None:
    assert COMMAS.notes("-5 0 53") == pytest.approx((-6000 / 53, 0, 1200), abs=1e-3)
    assert COMMAS.note("6.5") == pytest.approx(6.5 * 1200 / 53, abs=1e-3)


@pytest.mark.parametrize(("notation", "token"), [(SVARAS, "X"), (SVARAS, "7"), (SVARAS, "'S"), (COMMAS, "S")])
def test_note_with_unknown_token_raises(notation: Notation, token: str) -> None:
    with pytest.raises(TalimError, match="unknown note"):
        notation.note(token)


def test_parse_strokes_divides_a_beat_among_capitals() -> None:
    assert parse_strokes("Dha TiRaKiTa | -Dha -") == [
        (0.0, 1.0, "Dha"),
        (1.0, 0.25, "Ti"),
        (1.25, 0.25, "Ra"),
        (1.5, 0.25, "Ki"),
        (1.75, 0.25, "Ta"),
        (2.5, 0.5, "Dha"),
        (4.0, 0.0, ""),
    ]


def test_parse_strokes_reads_fractional_lengths() -> None:
    assert parse_strokes("Düm:3/2 Tek:1/2") == [(0.0, 1.5, "Düm"), (1.5, 0.5, "Tek"), (2.0, 0.0, "")]


@pytest.mark.parametrize("line", ["dha", "Dha:x", "Dha:-1", "Dha3", "Dha:0", "Dha:1/0"])
def test_parse_strokes_of_invalid_token_raises(line: str) -> None:
    with pytest.raises(TalimError, match="cannot read the stroke"):
        parse_strokes(line)


def test_spell_inverts_notes() -> None:
    line = ".N S R S' ..N"
    assert SVARAS.spell(SVARAS.notes(line)) == line
    assert SVARAS.spell([1190.0, -90.0]) == "S' .N"
    assert COMMAS.spell(COMMAS.notes("-5 0 53")) == "-5 0 53"
