"""Tests of talim.terminal_text: nothing that steers a terminal passes, everything that prints does."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.terminal_text import MAX_MESSAGE, one_line, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[31mred\x1b]0;title\x07", r"\x1b[31mred\x1b]0;title\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\x08c\x7f", r"a\rb\x08c\x7f"),
        ("name\udcff.wav", r"name\udcff.wav"),
        ("\u202egnp.exe", r"\u202egnp.exe"),
        ("one\u2028two", r"one\u2028two"),
    ],
)
def test_printable_escapes_what_steers_a_terminal(text: str, shown: str) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize("text", ["録音\u3000フォルダ", "rāga Yaman", "राग यमन", "türkü ş\u0327", "a\u00a0b"])
def test_printable_keeps_what_prints(text: str) -> None:
    assert printable(text) == text
    assert one_line(text) == text


@given(st.text())
def test_printable_of_any_text_can_be_encoded_and_holds_no_control_code(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert not {unicodedata.category(letter) for letter in shown} & {"Cc", "Cs"}


def test_printable_keeps_named_control_characters() -> None:
    assert printable("a\nb\tc\x1b", keep="\n\t") == "a\nb\tc\\x1b"


def test_one_line_joins_lines_and_cuts_long_text() -> None:
    assert one_line("it broke:\n  do this\r\n") == "it broke: do this"
    cut = one_line("x" * 10**7)
    assert len(cut) == MAX_MESSAGE
    assert cut.endswith("x ...")
