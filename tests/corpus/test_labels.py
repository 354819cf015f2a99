"""Labels of stretches: alaps, concerts of several talas, sections with labels of their own."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.corpus.labels import Labels, labels_in_range, parse_labels, split_values
from talim.corpus.recordings import AnnotatedSection
from talim.traditions.name_matching import normalize_words

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


def test_labels_in_range_of_an_alap_have_no_cycle_and_laya() -> None:
    labels = at(CONCERT, 20)
    assert (labels.mode, labels.cycle, labels.laya, labels.unmetered) == (("Yaman Kalyan",), (), (), True)
    assert labels.section == "Ālāp"


def test_labels_in_range_of_a_section_have_its_tala_and_laya() -> None:
    slow, fast = at(CONCERT, 150), at(CONCERT, 320)
    assert (slow.cycle, slow.laya, slow.unmetered) == (("Ektāl",), ("vilambit",), False)
    assert (fast.cycle, fast.laya) == (("Tīntāl",), ("drut",))


def test_labels_in_range_over_two_sections_are_the_shared_ones() -> None:
    labels = at(CONCERT, 295)
    assert (labels.mode, labels.cycle, labels.laya) == (("Yaman Kalyan",), (), ())
    labels = at(CONCERT, 95)  # half alap, half khyal: neither in a cycle nor free
    assert (labels.cycle, labels.laya, labels.unmetered, labels.section) == ((), (), False, "")


def test_labels_in_range_prefer_section_cells_to_its_name() -> None:
    sections = (AnnotatedSection(0, 100, "gat", {"tala": "Jhaptal", "laya": "Drut", "raga": "Bhairav"}),)
    labels = at(CONCERT, 10, sections)
    assert (labels.cycle, labels.laya, labels.mode) == (("Jhaptal",), ("Drut",), ("Bhairav",))


def test_labels_in_range_outside_sections_have_no_cycle() -> None:
    assert at({"raga": "Yaman", "taal": "Tintal"}, 500).cycle == ()


def test_labels_in_range_without_sections_keep_single_values_only() -> None:
    labels = at(CONCERT, 20, ())
    assert (labels.mode, labels.cycle, labels.laya) == (("Yaman Kalyan",), (), ())
    assert at({"raga": "Yaman", "taal": "ēktāl,ēktāl", "laya": "Vilambit"}, 20, ()).cycle == ("ēktāl",)
    assert at({"makam": "Hicaz,Rast", "usul": "aksak"}, 0, ()).mode == ()


@pytest.mark.parametrize(
    ("cells", "unmetered"),
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
def test_labels_in_range_of_partly_unmetered_music_have_no_cycle(cells: dict[str, str], unmetered: bool) -> None:
    labels = at(cells, 0, ())
    assert labels.cycle == ()
    assert labels.unmetered is unmetered


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
def test_parse_labels_gives_tradition_and_kinds(cells: dict[str, str], tradition: str, kinds: tuple[str, str]) -> None:
    labels = parse_labels(cells)
    assert labels.tradition == tradition
    assert (labels.mode_kind, labels.cycle_kind) == kinds


def test_parse_labels_drops_the_kind_from_names() -> None:
    labels = parse_labels({"mode": "Raag Yaman", "cycle": "Tala Rupak"})
    assert (labels.mode, labels.cycle) == (("Yaman",), ("Rupak",))
    assert parse_labels({"makam": "Uşşak Makamı"}).mode == ("Uşşak",)


def test_parse_labels_puts_lead_instruments_first() -> None:
    assert parse_labels(CONCERT).instruments == ("voice", "tabla", "harmonium")
    led = parse_labels({"instruments": "Tabla|Sitar", "lead_instrument": "Sitar"})
    assert led.instruments == ("sitar", "tabla")


@pytest.mark.parametrize(
    ("cell", "hz"), [("220", 220.0), ("138,59", 138.59), ("Sa = 138.59 Hz", 138.59), ("4.5", None), ("0", None)]
)
def test_parse_labels_reads_tonic_in_hz_or_none(cell: str, hz: float | None) -> None:
    assert parse_labels({"tonic": cell}).tonic_hz == hz


@pytest.mark.parametrize(
    ("cell", "hz"),
    [
        ("A4", 440.0),
        ("Sa = D4", 293.66),
        ("sa: d 4", 293.66),
        ("C#", 138.59),
        ("D♭", 138.59),
        ("db", 138.59),
        ("C sharp", 138.59),
        ("E-flat 3", 155.56),
        ("B", 246.94),
        ("bb", 233.08),
        ("Cb4", 246.94),
        ("D, A", 146.83),
    ],
)
def test_parse_labels_reads_a_tonic_by_its_note(cell: str, hz: float) -> None:
    assert parse_labels({"tonic": cell}).tonic_hz == pytest.approx(hz, abs=0.005)


@pytest.mark.parametrize("cell", ["ré", "re", "la", "H", "Cis", "C minor", "C##", "c'", "D44", "C0", "Sa", "C#/E"])
def test_parse_labels_takes_no_other_name_for_a_tonic(cell: str) -> None:
    assert parse_labels({"tonic": cell}).tonic_hz is None


@pytest.mark.parametrize(
    ("one", "other"), [("Tīntāl", "teentaal"), ("Ağır Aksak", "agir_aksak"), ("Uşşak", "USSAK"), ("Ālāp", "aalaap")]
)
def test_normalize_words_of_two_spellings_are_equal(one: str, other: str) -> None:
    assert normalize_words(one) == normalize_words(other)


def test_split_values_drops_repeated_spellings() -> None:
    assert split_values("Tabla, Voice;voice | sitar") == ("Tabla", "Voice", "sitar")
    assert split_values("राग, यमन") == ("राग", "यमन")  # other scripts are kept apart
    assert split_values("") == ()


texts = st.text(st.characters(codec="utf-8"), max_size=20)


@given(st.dictionaries(st.sampled_from([*CONCERT, "usul", "tempo_bpm", "title", "section"]), texts), st.floats(0, 500))
def test_labels_in_range_never_have_two_values(cells: dict[str, str], start: float) -> None:
    labels = at(cells, start)
    assert all(len(getattr(labels, name)) <= 1 for name in ("mode", "cycle", "laya", "form", "tempo_bpm"))
    assert not (labels.unmetered and (labels.cycle or labels.laya))


@pytest.mark.parametrize(
    ("cell", "tempi"),
    [
        ("92", ("92",)),
        ("92.50 bpm", ("92.5",)),
        ("92,5", ("92.5",)),
        ("60,120", ("60", "120")),
        ("60; 120 BPM", ("60", "120")),
        ("fast", ()),
        ("60 | fast", ("60",)),
        ("4", ()),
        ("1001", ()),
    ],
)
def test_parse_labels_reads_tempi_as_numbers(cell: str, tempi: tuple[str, ...]) -> None:
    assert parse_labels({"bpm": cell}).tempo_bpm == tempi
