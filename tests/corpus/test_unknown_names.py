"""Names in no list are told once with what they may mean; names in the lists, in any of their spellings, are not."""

from __future__ import annotations

import pytest

from talim.corpus.captions import RecordingMetadata
from talim.corpus.labels import parse_labels
from talim.corpus.recordings import AnnotatedSection
from talim.corpus.unknown_names import other_mode_in_caption, unknown_names
from talim.traditions.instrument_names import list_instruments
from talim.traditions.tradition import load_all_builtin


def recording(*sections: dict[str, str], **cells: str) -> RecordingMetadata:
    parts = tuple(AnnotatedSection(0.0, 1.0, "part", dict(part)) for part in sections)
    return RecordingMetadata("", "none", labels=parse_labels(cells), sections=parts)


def test_unknown_names_tells_each_spelling_once_with_its_recordings() -> None:
    rows = [
        recording(raga="Yamna"),
        recording(raga="Yamna | Bhairav"),
        recording(raga="Yaman"),
        recording(makam="Rsat"),
    ]
    assert unknown_names(rows) == [
        "raga 'Yamna' (2 recordings): did you mean Yaman?",
        "makam 'Rsat' (1 recording): did you mean Rast?",
    ]


@pytest.mark.parametrize(
    ("cells", "line"),
    [
        ({"tala": "Tintl"}, "tala 'Tintl' (1 recording): did you mean Teentaal?"),
        ({"usul": "Aksakx"}, "usul 'Aksakx' (1 recording): did you mean Aksak "),
        ({"instruments": "sitra, tabla"}, "instrument 'sitra' (1 recording): did you mean sitar"),
        ({"raga": "Raag Yamann"}, "raga 'Yamann' (1 recording): did you mean Yaman?"),
        ({"raga": "Deshkarr"}, "raga 'Deshkarr' (1 recording): did you mean Deshkar?"),
        ({"raga": "Marwaa"}, "raga 'Marwaa' (1 recording): did you mean Marwa?"),
        ({"raga": "Hindol ?"}, "raga 'Hindol ?' (1 recording): did you mean Hindol?"),
        ({"tala": "teentall"}, "tala 'teentall' (1 recording): did you mean Teentaal?"),
        ({"instruments": "sitarr"}, "instrument 'sitarr' (1 recording): did you mean sitar?"),
        ({"mode": "Yamn"}, "mode 'Yamn' (1 recording): did you mean Yaman?"),
        ({"tradition": "hindustani", "mode": "Xqz"}, "mode in no list here: 'Xqz' (1 recording)"),
        ({"raga": "Xqz"}, "raga in no list here: 'Xqz' (1 recording)"),
        ({"instruments": "hurdy gurdy"}, "instrument in no list here: 'hurdy gurdy' (1 recording)"),
    ],
)
def test_unknown_names_of_a_column_gives_the_nearest(cells: dict[str, str], line: str) -> None:
    (told,) = unknown_names([recording(**cells)])
    assert told.startswith(line)


@pytest.mark.parametrize(
    "cells",
    [
        {"raga": "Raga Yaman"},
        {"raag": "यमन"},
        {"tala": "vilambit ektal"},
        {"tala": "Teentaal (16 matras)"},
        {"usul": "Düyek (8/4)"},
        {"tala": "alap"},
        {"tala": "16"},
        {"metre": "4/4"},
        {"key": "C minor"},
        {"scale": "dorian"},
        {"mode": "dorian"},
        {"mode_kind": "dastgah", "mode": "Shur"},
        {"tradition": "carnatic", "raga": "Kalyani"},
        {"tradition": "Turkish makam", "makam": "hicaz"},
        {"instruments": "bowed sitar, Electric Guitars, वायलिन"},
        {},
    ],
)
def test_unknown_names_says_nothing_of_known_names_and_of_kinds_without_a_list(cells: dict[str, str]) -> None:
    assert unknown_names([recording(**cells)]) == []


def test_unknown_names_says_nothing_of_any_spelling_in_the_facts() -> None:
    rows = [
        recording(**{word: name.replace(",", " ").replace("|", " ")})
        for tradition in load_all_builtin()
        for word, entries in ((tradition.mode_word, tradition.modes), (tradition.cycle_word, tradition.cycles))
        for entry in entries
        for name in (entry.name, entry.slug, *entry.aliases)
    ]
    rows += [recording(instruments=name) for usual, others in list_instruments() for name in (usual, *others)]
    assert len(rows) > 1000
    assert unknown_names(rows) == []


def test_unknown_names_reads_sections_in_the_tradition_of_the_whole() -> None:
    told = unknown_names([recording({"mode": "Bhairvx"}, {"mode": "Yaman"}, tradition="hindustani")])
    assert told == ["mode 'Bhairvx' (1 recording): did you mean Bhairavi or Bhairav?"]


@pytest.mark.parametrize(
    ("caption", "raga", "told"),
    [
        ("raga Bhupali, sitar", "Shuddha Kalyan", "its text names raga Bhoopali, its labels Shuddha Kalyan: correct"),
        ("raga Bhoop, sitar", "Bhupali", ""),
        ("raga Bhupali, then raga Yaman", "Yaman", ""),
        ("slow sitar", "Yaman", ""),
        ("raga Bhupali", "Xqz", ""),
    ],
)
def test_other_mode_in_caption_tells_what_contradicts_the_column(caption: str, raga: str, told: str) -> None:
    note = other_mode_in_caption(RecordingMetadata(caption, "metadata", labels=parse_labels({"raga": raga})))
    assert note.startswith(told)
    assert bool(note) == bool(told)


def test_unknown_names_lists_some_and_counts_the_rest() -> None:
    near = unknown_names([recording(raga=f"Yaman{letter}q") for letter in "bcdfghjklmnpqrstvwxyzbcd"])
    assert len(near) == 21
    assert near[-1].startswith("and ")
    (far,) = unknown_names([recording(raga=f"{letter}xqzw{letter}") for letter in "bcdfghjklmnpqrstvwxyz"])
    assert far.endswith(" and 1 more")
