"""Captions read well whatever is missing, vary with the seed, and say nothing that the labels do not."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from talim.corpus.caption_templates import CAPTION_TEMPLATES, caption_phrase, fill_template, join_list
from talim.corpus.labels import labels_in_range, parse_labels

HINDUSTANI = {
    "tradition": "hindustani",
    "raga": "Yaman Kalyan",
    "taal": "Jhaptāl",
    "laya": "Madhya",
    "instrument": "Tabla,Harmonium,Voice",
    "performer": "Asha Rao | Ravi Sen",
    "form": "khayal",
}


def phrasings(cells: dict[str, str], count: int = 60) -> set[str]:
    labels = labels_in_range(parse_labels(cells), (), 0, 10)
    return {caption_phrase(labels, np.random.default_rng(seed)) for seed in range(count)}


def test_golden() -> None:
    labels = labels_in_range(parse_labels(HINDUSTANI), (), 0, 10)
    assert caption_phrase(labels, np.random.default_rng(3)) == caption_phrase(
        labels, np.random.default_rng(3)
    )
    assert (
        "Hindustani classical music in raga Yaman Kalyan, tala Jhaptāl, medium-paced (madhya) laya, khayal; "
        "voice, tabla and harmonium, performed by Asha Rao and Ravi Sen"
    ) in phrasings(HINDUSTANI)
    assert "A sarki in makam Hicaz by Zeki Müren, usul Aksak: voice and ney" in phrasings(
        {
            "makam": "Hicaz",
            "usul": "Aksak",
            "instrument": "voice,ney",
            "artists": "Zeki Müren",
            "form": "sarki",
        }
    )
    assert "Western music in F# minor, string orchestra" in phrasings(
        {"tradition": "western", "mode": "F# minor", "mode_kind": "key", "instruments": "string orchestra"}
    )


@pytest.mark.parametrize("tradition", CAPTION_TEMPLATES)
def test_each_tradition_has_several_phrasings_that_all_come_up(tradition: str) -> None:
    cells = HINDUSTANI | {"tradition": tradition or "carnatic"}
    assert len(phrasings(cells)) == len(CAPTION_TEMPLATES[tradition]) >= 3


def subsets() -> list[dict[str, str]]:
    optional = [name for name in HINDUSTANI if name != "tradition"]
    return [
        {"tradition": tradition}
        | {name: HINDUSTANI[name] for name, kept in zip(optional, mask, strict=True) if kept}
        for tradition in ("hindustani", "makam", "elsewhere")
        for mask in product((False, True), repeat=len(optional))
    ]


def test_nothing_is_left_of_what_is_missing() -> None:
    for cells in subsets():
        for pattern in CAPTION_TEMPLATES.get(cells["tradition"], CAPTION_TEMPLATES[""]):
            assert pattern.count("[") == pattern.count("]")
        for text in phrasings(cells, 12):
            assert not re.search(r"[\[\]{}|]|  | ,|,,|, ?$|[:;] ?$|\bin ?$|\bby ?$|\bwith ?$|^[a-z]", text), (
                text
            )
            assert "unknown" not in text
            assert ("Yaman" in text) == ("raga" in cells)
            assert ("Jhaptāl" in text) == ("taal" in cells)
            assert ("tabla" in text) == ("instrument" in cells)


def test_instruments_read_as_words() -> None:
    for text in phrasings(HINDUSTANI):
        assert "instruments" not in text
        assert "voice, tabla and harmonium" in text.lower()


def test_an_alap_is_in_free_rhythm_and_in_no_tala() -> None:
    for text in phrasings(HINDUSTANI | {"form": "alap"}):
        assert "in free rhythm" in text
        assert "Jhapt" not in text
        assert "madhya" not in text


def test_nothing_to_say() -> None:
    assert phrasings({"title": "untitled", "tonic_hz": "220"}) == {""}


def test_alternatives_and_optional_parts() -> None:
    assert fill_template("[{a}|some] thing[ of {b}][, {c}]", {"a": "one", "c": "red"}) == "One thing, red"
    assert fill_template("[{a}|some] thing[ of {b}]", {}) == "Some thing"


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ((), ""),
        (("a",), "a"),
        (("a", "b", "c"), "a, b and c"),
        (tuple("abcdefg"), "a, b, c, d, e and others"),
    ],
)
def test_lists_of_names(names: tuple[str, ...], text: str) -> None:
    assert join_list(names) == text


@given(st.dictionaries(st.sampled_from([*HINDUSTANI]), st.text(max_size=30)), st.integers(0, 99))
@example({"form": "_0"}, 0)
@example({"form": "_", "raga": "Yaman"}, 0)
@example({"instrument": "_,bass__drum", "raga": "Yaman"}, 0)
@example({"tradition": " turkish  folk ", "raga": "\t"}, 0)
def test_whatever_is_in_the_cells_comes_out_as_one_line(cells: dict[str, str], seed: int) -> None:
    text = caption_phrase(labels_in_range(parse_labels(cells), (), 0, 10), np.random.default_rng(seed))
    assert text == " ".join(text.split())
