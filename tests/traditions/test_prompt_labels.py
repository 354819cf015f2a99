"""Modes, cycles and tempi named in prompts; none where none is named."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.traditions.prompt_labels import cycle_in, mode_in, tempo_in
from talim.traditions.tradition import load, load_all_builtin

MODES = [(tradition, mode) for tradition in load_all_builtin() for mode in tradition.modes]
CYCLES = [(tradition, cycle) for tradition in load_all_builtin() for cycle in tradition.cycles]


@pytest.mark.parametrize(
    ("prompt", "mode", "cycle", "tempo"),
    [
        ("sitar with tanpura, raga Yaman, alap", "hindustani/yaman", None, None),
        (
            "alap and composition in Tala Ada Chautaal, raag basant, 141 BPM",
            "hindustani/basant",
            "hindustani/ada-chautaal",
            141.0,
        ),
        ("solo kanun, makam Mâhur, taksim in usul Devr-i Turan, 217.5 bpm", "makam/mahur", "makam/devr-i-turan", 217.5),
        ("a slow taksim in Hicaz makamı on the ney", "makam/hicaz", None, None),
        ("Rast on the ud, in the style of old Desh", None, None, None),  # a name alone may be anything
        ("the raga of the morning", None, None, None),
        ("raga Nobody Knows, usul Nothing, bpm 80", None, None, None),
        ("", None, None, None),
        ("usul Aksak and makam Rast.", "makam/rast", "makam/aksak", None),
    ],
)
def test_labels_in_prompts_are_found_or_none(
    prompt: str, mode: str | None, cycle: str | None, tempo: float | None
) -> None:
    assert (mode_in(prompt), cycle_in(prompt), tempo_in(prompt)) == (mode, cycle, tempo)


@given(st.sampled_from(MODES), st.sampled_from(["solo ney, {}, slow", "{}", "a song in {} for two."]))
def test_mode_in_finds_every_builtin_mode(entry: tuple, sentence: str) -> None:
    tradition, mode = entry
    prompt = sentence.format(f"{tradition.mode_word} {mode.name}")
    assert mode_in(prompt) == f"{tradition.slug}/{mode.slug}"
    assert cycle_in(prompt) is None


@given(st.sampled_from(CYCLES))
def test_cycle_in_finds_every_builtin_cycle(entry: tuple) -> None:
    tradition, cycle = entry
    assert cycle_in(f"drums, {tradition.cycle_word} {cycle.name}, loud") == f"{tradition.slug}/{cycle.slug}"


def test_mode_in_searches_the_given_traditions_only() -> None:
    assert mode_in("raga Yaman", [load("makam")]) is None
    assert mode_in("raga Yaman", []) is None


@given(st.text(max_size=60))
def test_mode_in_and_tempo_in_accept_any_text(text: str) -> None:
    assert mode_in(text) is None or "/" in str(mode_in(text))
    assert tempo_in(text) is None or 10 <= float(tempo_in(text) or 0) < 1000
