"""Captions are well-formed whatever labels are missing, vary with the seed, and claim no other label."""

from __future__ import annotations

import re
from itertools import product

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from talim.corpus.caption_templates import caption_phrase, caption_templates, fill_template, join_list
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


def captions(cells: dict[str, str], count: int = 60) -> set[str]:
    labels = labels_in_range(parse_labels(cells), (), 0, 10)
    return {caption_phrase(labels, np.random.default_rng(seed)) for seed in range(count)}


def test_caption_phrase_of_known_labels_gives_known_captions() -> None:
    labels = labels_in_range(parse_labels(HINDUSTANI), (), 0, 10)
    assert caption_phrase(labels, np.random.default_rng(3)) == caption_phrase(labels, np.random.default_rng(3))
    assert (
        "Hindustani classical music in raga Yaman Kalyan, tala Jhaptāl, medium-paced (madhya) laya, khayal; "
        "voice, tabla and harmonium"
    ) in captions(HINDUSTANI)
    assert not any("Asha Rao" in text for text in captions(HINDUSTANI))  # no performer is named
    assert "A sarki in makam Hicaz, usul Aksak: voice and ney" in captions(
        {"makam": "Hicaz", "usul": "Aksak", "instrument": "voice,ney", "artists": "Zeki Müren", "form": "sarki"}
    )
    assert "Western music in F# minor, string orchestra" in captions(
        {"tradition": "western", "mode": "F# minor", "mode_kind": "key", "instruments": "string orchestra"}
    )


@pytest.mark.parametrize("tradition", caption_templates())
def test_caption_phrase_over_many_seeds_uses_every_template(tradition: str) -> None:
    cells = HINDUSTANI | {"tradition": tradition or "carnatic"}
    assert len(captions(cells)) == len(caption_templates()[tradition]) >= 3


def subsets() -> list[dict[str, str]]:
    optional = [name for name in HINDUSTANI if name != "tradition"]
    return [
        {"tradition": tradition} | {name: HINDUSTANI[name] for name, used in zip(optional, mask, strict=True) if used}
        for tradition in ("hindustani", "makam", "elsewhere")
        for mask in product((False, True), repeat=len(optional))
    ]


def test_caption_phrase_with_missing_labels_leaves_no_gaps() -> None:
    for cells in subsets():
        for template in caption_templates().get(cells["tradition"], caption_templates()[""]):
            assert template.count("[") == template.count("]")
        for text in captions(cells, 12):
            assert not re.search(r"[\[\]{}|]|  | ,|,,|, ?$|[:;] ?$|\bin ?$|\bby ?$|\bwith ?$|^[a-z]", text), text
            assert "unknown" not in text
            assert ("Yaman" in text) == ("raga" in cells)
            assert ("Jhaptāl" in text) == ("taal" in cells)
            assert ("tabla" in text) == ("instrument" in cells)


def test_caption_phrase_lists_instruments_lead_first() -> None:
    for text in captions(HINDUSTANI):
        assert "instruments" not in text
        assert "voice, tabla and harmonium" in text.lower()


def test_caption_phrase_of_an_alap_names_free_rhythm_and_no_tala() -> None:
    for text in captions(HINDUSTANI | {"form": "alap"}):
        assert "in free rhythm" in text
        assert "Jhapt" not in text
        assert "madhya" not in text


def test_caption_phrase_without_labels_is_empty() -> None:
    assert captions({"title": "untitled", "tonic_hz": "220"}) == {""}


def test_fill_template_selects_alternatives_and_drops_empty_parts() -> None:
    assert fill_template("[{a}|some] thing[ of {b}][, {c}]", {"a": "one", "c": "red"}) == "One thing, red"
    assert fill_template("[{a}|some] thing[ of {b}]", {}) == "Some thing"


@pytest.mark.parametrize(
    ("names", "text"),
    [((), ""), (("a",), "a"), (("a", "b", "c"), "a, b and c"), (tuple("abcdefg"), "a, b, c, d, e and others")],
)
def test_join_list_abbreviates_long_lists(names: tuple[str, ...], text: str) -> None:
    assert join_list(names) == text


@given(st.dictionaries(st.sampled_from([*HINDUSTANI]), st.text(max_size=30)), st.integers(0, 99))
@example({"form": "_0"}, 0)
@example({"form": "_", "raga": "Yaman"}, 0)
@example({"instrument": "_,bass__drum", "raga": "Yaman"}, 0)
@example({"tradition": " turkish  folk ", "raga": "\t"}, 0)
def test_caption_phrase_of_any_cells_is_one_line(cells: dict[str, str], seed: int) -> None:
    text = caption_phrase(labels_in_range(parse_labels(cells), (), 0, 10), np.random.default_rng(seed))
    assert text == " ".join(text.split())
