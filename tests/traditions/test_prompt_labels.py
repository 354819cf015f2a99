"""Modes, cycles and tempi in sentences as people and talim's performer write them; nothing where none is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.traditions.prompt_labels import cycle_in, mode_in, tempo_in
from talim.traditions.tradition import load, load_all_builtin

HERE = [(one, mode) for one in load_all_builtin() for mode in one.modes]
BEATEN = [(one, cycle) for one in load_all_builtin() for cycle in one.cycles]


@pytest.mark.parametrize(
    ("sentence", "mode", "cycle", "tempo"),
    [
        ("sitar with tanpura, raga Yaman, alap", "hindustani/yaman", None, None),
        (
            "alap and composition in Tala Ada Chautaal, raag basant, 141 BPM",
            "hindustani/basant",
            "hindustani/ada-chautaal",
            141.0,
        ),
        (
            "solo kanun, makam Mâhur, taksim in usul Devr-i Turan, 217.5 bpm",
            "makam/mahur",
            "makam/devr-i-turan",
            217.5,
        ),
        ("a slow taksim in Hicaz makamı on the ney", "makam/hicaz", None, None),
        ("Rast on the ud, in the style of old Desh", None, None, None),  # a name alone may be anything
        ("the raga of the morning", None, None, None),
        ("raga Nobody Knows, usul Nothing, bpm 80", None, None, None),
        ("", None, None, None),
        ("usul Aksak and makam Rast.", "makam/rast", "makam/aksak", None),
    ],
)
def test_sentences(sentence: str, mode: str | None, cycle: str | None, tempo: float | None) -> None:
    assert (mode_in(sentence), cycle_in(sentence), tempo_in(sentence)) == (mode, cycle, tempo)


@given(st.sampled_from(HERE), st.sampled_from(["solo ney, {}, slow", "{}", "a song in {} for two."]))
def test_every_mode_is_found_by_its_name(known: tuple, sentence: str) -> None:
    tradition, mode = known
    said = sentence.format(f"{tradition.mode_word} {mode.name}")
    assert mode_in(said) == f"{tradition.slug}/{mode.slug}"
    assert cycle_in(said) is None


@given(st.sampled_from(BEATEN))
def test_every_cycle_is_found_by_its_name(known: tuple) -> None:
    tradition, cycle = known
    assert cycle_in(f"drums, {tradition.cycle_word} {cycle.name}, loud") == f"{tradition.slug}/{cycle.slug}"


def test_only_the_traditions_that_are_asked_answer() -> None:
    assert mode_in("raga Yaman", [load("makam")]) is None
    assert mode_in("raga Yaman", []) is None


@given(st.text(max_size=60))
def test_any_text_is_read(text: str) -> None:
    assert mode_in(text) is None or "/" in str(mode_in(text))
    assert tempo_in(text) is None or 10 <= float(tempo_in(text) or 0) < 1000
