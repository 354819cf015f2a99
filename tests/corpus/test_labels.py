"""Labels hold where they are claimed: alaps, concerts of several talas, sections with their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.corpus.labels import Labels, labels_in_range, normalize_name, parse_labels, split_values
from talim.corpus.recordings import AnnotatedSection

CONCERT = {
    "tradition": "Hindustani",
    "raga": "Yaman Kalyan",
    "taal": "Ektāl,Tīntāl",
    "laya": "Vilaṁbit,Madhya",
    "form": "Khayal",
    "instrument": "Tabla,Harmonium,Voice",
}
SECTIONS = (
    AnnotatedSection(0, 100, "Ālāp"),
    AnnotatedSection(100, 200, "Khyāl (vilambit ektāl)"),
    AnnotatedSection(300, 100, "Khyāl (drut tīntāl)"),
)


def at(cells: dict[str, str], start: float, sections: tuple[AnnotatedSection, ...] = SECTIONS) -> Labels:
    return labels_in_range(parse_labels(cells), sections, start, start + 10)


def test_an_alap_claims_no_cycle_and_no_laya() -> None:
    labels = at(CONCERT, 20)
    assert (labels.mode, labels.cycle, labels.laya, labels.free) == (("Yaman Kalyan",), (), (), True)
    assert labels.section == "Ālāp"


def test_a_section_has_its_own_tala_and_laya() -> None:
    slow, fast = at(CONCERT, 150), at(CONCERT, 320)
    assert (slow.cycle, slow.laya, slow.free) == (("Ektāl",), ("vilambit",), False)
    assert (fast.cycle, fast.laya) == (("Tīntāl",), ("drut",))


def test_a_stretch_over_two_sections_claims_what_they_share() -> None:
    labels = at(CONCERT, 295)
    assert (labels.mode, labels.cycle, labels.laya) == (("Yaman Kalyan",), (), ())
    labels = at(CONCERT, 95)  # half alap, half khyal: neither in a cycle nor free
    assert (labels.cycle, labels.laya, labels.free, labels.section) == ((), (), False, "")


def test_cells_of_a_section_win_over_its_name() -> None:
    sections = (AnnotatedSection(0, 100, "gat", {"tala": "Jhaptal", "laya": "Drut", "raga": "Bhairav"}),)
    labels = at(CONCERT, 10, sections)
    assert (labels.cycle, labels.laya, labels.mode) == (("Jhaptal",), ("Drut",), ("Bhairav",))


def test_outside_of_the_annotated_sections_no_cycle_is_claimed() -> None:
    assert at({"raga": "Yaman", "taal": "Tintal"}, 500).cycle == ()


def test_without_sections_several_talas_are_none_and_one_is_one() -> None:
    labels = at(CONCERT, 20, ())
    assert (labels.mode, labels.cycle, labels.laya) == (("Yaman Kalyan",), (), ())
    assert at({"raga": "Yaman", "taal": "ēktāl,ēktāl", "laya": "Vilambit"}, 20, ()).cycle == ("ēktāl",)
    assert at({"makam": "Hicaz,Rast", "usul": "aksak"}, 0, ()).mode == ()


@pytest.mark.parametrize(
    ("cells", "free"),
    [
        ({"raga": "Yaman", "taal": "Tintal", "form": "Alap | Khayal"}, False),
        ({"raga": "Yaman", "taal": "Tintal", "title": "Raga Yaman: ālāp, gat"}, False),
        ({"raga": "Yaman", "taal": "Tintal", "section": "aalaap"}, True),
        ({"makam": "Hicaz", "usul": "aksak", "form": "taksim"}, True),
        ({"makam": "Hicaz", "usul": "serbest", "form": "gazel"}, True),
        ({"makam": "Hicaz", "usul": "Serbest"}, True),
        ({"makam": "Hicaz", "usul": "sofyan,serbest", "form": "sarki"}, False),
    ],
)
def test_no_cycle_where_a_part_is_unmetred(cells: dict[str, str], free: bool) -> None:
    labels = at(cells, 0, ())
    assert labels.cycle == ()
    assert labels.free is free


@pytest.mark.parametrize(
    ("cells", "tradition", "kinds"),
    [
        ({"raga": "Yaman", "taal": "Tintal"}, "hindustani", ("raga", "tala")),
        ({"raga": "Kalyani", "tala": "Adi"}, "", ("raga", "tala")),  # Carnatic as likely as not
        ({"makam": "Hicaz", "usul": "Aksak"}, "makam", ("makam", "usul")),
        ({"mode": "F# minor", "mode_kind": "key", "time_signature": "4/4"}, "", ("key", "metre")),
        ({"tradition": "Western", "key": "C"}, "western", ("key", "")),
    ],
)
def test_what_a_mode_and_a_cycle_are_called(
    cells: dict[str, str], tradition: str, kinds: tuple[str, str]
) -> None:
    labels = parse_labels(cells)
    assert labels.tradition == tradition
    assert (labels.mode_kind, labels.cycle_kind) == kinds


def test_names_lose_the_word_for_what_they_are() -> None:
    labels = parse_labels({"mode": "Raag Yaman", "cycle": "Tala Rupak"})
    assert (labels.mode, labels.cycle) == (("Yaman",), ("Rupak",))
    assert parse_labels({"makam": "Uşşak Makamı"}).mode == ("Uşşak",)


def test_instruments_begin_with_the_lead() -> None:
    assert parse_labels(CONCERT).instruments == ("voice", "tabla", "harmonium")
    led = parse_labels({"instruments": "Tabla|Sitar", "lead_instrument": "Sitar"})
    assert led.instruments == ("sitar", "tabla")


@pytest.mark.parametrize(("cell", "hz"), [("220", 220.0), ("138.59 Hz", 138.59), ("D", None), ("0", None)])
def test_tonic(cell: str, hz: float | None) -> None:
    assert parse_labels({"tonic": cell}).tonic_hz == hz


@pytest.mark.parametrize(
    ("one", "other"),
    [("Tīntāl", "teentaal"), ("Ağır Aksak", "agir_aksak"), ("Uşşak", "USSAK"), ("Ālāp", "aalaap")],
)
def test_spellings_fold_together(one: str, other: str) -> None:
    assert normalize_name(one) == normalize_name(other)


def test_values_of_a_cell() -> None:
    assert split_values("Tabla, Voice;voice | sitar") == ("Tabla", "Voice", "sitar") or split_values(
        "Tabla, Voice;voice | sitar"
    ) == ("Tabla", "voice", "sitar")
    assert split_values("") == ()


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(
    st.dictionaries(st.sampled_from([*CONCERT, "usul", "tempo_bpm", "title", "section"]), texts),
    st.floats(0, 500),
)
def test_at_most_one_value_is_ever_claimed(cells: dict[str, str], start: float) -> None:
    labels = at(cells, start)
    assert all(len(getattr(labels, name)) <= 1 for name in ("mode", "cycle", "laya", "form", "tempo_bpm"))
    assert not (labels.free and (labels.cycle or labels.laya))
