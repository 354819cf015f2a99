"""Labels of stretches: alaps, concerts of several talas, sections with labels of their own.

One spelling of each label: what is one counts once, and nothing else does.

Names in no list are told once with what they may mean; names in the lists, in any of their spellings, are not.
"""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from fixtures.prepared_corpus import make
from hypothesis import given
from hypothesis import strategies as st

from talim.corpus.labels import (
    Labels,
    labels_in_range,
    other_mode_in_caption,
    parse_labels,
    split_values,
    unify_labels,
    unknown_names,
)
from talim.corpus.manifest import Clip
from talim.corpus.recordings import AnnotatedSection
from talim.traditions.instrument_names import list_instruments
from talim.traditions.name_matching import normalize_words
from talim.traditions.tradition import load_all_builtin

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


def clips_of(*rows: dict[str, str]) -> list[Clip]:
    """A clip of each row, of 10 s."""
    values = {"performer": "unknown", "start_seconds": 0.0, "seconds": 10.0, "caption": "x", "split": "train"}
    values |= {"audio_hash": "", "source_hash": "", "file": "x.flac"}
    return [
        Clip.model_validate(values | {"id": f"{n}", "recording": f"{n}", "source_file": f"{n}"} | row)
        for n, row in enumerate(rows)
    ]


def modes(*names: str, tradition: str = "hindustani") -> tuple[list[str], list[str]]:
    clips, notes = unify_labels(clips_of(*({"mode": name, "tradition": tradition} for name in names)))
    return [clip.mode for clip in clips], notes


def test_unify_labels_of_one_raga_in_several_spellings_and_scripts_says_it_once() -> None:
    found, notes = modes("Bhupali", "Bhoopali", "Bhupali", "भूपाली", "Bhūpālī", "Bhairav")
    assert found == ["Bhupali"] * 5 + ["Bhairav"]
    assert notes == ["mode: Bhupali, Bhoopali, भूपाली, Bhūpālī are one, counted as Bhupali"]


def test_unify_labels_of_ragas_without_a_tradition_says_what_it_would_give() -> None:
    rows = [{"mode": name} for name in ("Yaman", "Yaman", "Bhairav", "no such raga")]
    clips, notes = unify_labels(clips_of(*rows, {"mode": "Marwa", "tradition": "carnatic"}))
    (note,) = (note for note in notes if "no tradition" in note)
    assert note.startswith("no tradition is given with Yaman, Bhairav: the mode is not scored")
    assert note.endswith("where it is hindustani, write that into the column tradition")
    assert {clip.tradition for clip in clips} == {"unknown", "carnatic"}  # nothing is filled in


@pytest.mark.parametrize(
    ("written", "counted"),
    [(["Yamann", "Yamann", "Yaman"], "Yaman"), (["Yamann"], "Yaman"), (["Hindol ?", "Hindol ?", "hindol"], "hindol")],
)
def test_unify_labels_of_a_typing_error_takes_the_name_of_the_facts(written: list[str], counted: str) -> None:
    found, notes = modes(*written)
    assert {*found} == {counted}
    assert len(notes) == 1


@pytest.mark.parametrize(
    ("tradition", "names"),
    [
        ("hindustani", ("Bhairav", "Bhairavi", "भैरव", "भैरवी", "Ahir Bhairav")),
        ("hindustani", ("Desh", "Desi", "देश", "देसी", "Deshkar")),
        ("hindustani", ("Todi", "Bhupal Todi", "Bhoopali")),
        ("hindustani", ("Puriya", "Puriya Kalyan", "Purvi")),
        ("makam", ("Hicaz", "Hicazkâr", "Hicaz Hümâyun")),
        ("makam", ("Sûzinâk", "Sûzidil", "Segâh", "Sabâ")),
        ("carnatic", ("Kanada", "Kannada", "Shankarabharanam", "Bhupalam")),
        ("unknown", ("Mohanam", "Mohana Kalyani")),
    ],
)
def test_unify_labels_keeps_different_modes_apart(tradition: str, names: tuple[str, ...]) -> None:
    found, _ = modes(*names, tradition=tradition)
    latin = [name for name in names if name.isascii() or tradition == "makam"]
    assert {*found} == {*latin}
    assert all(label == name for name, label in zip(names, found, strict=True) if name in latin)


@pytest.mark.parametrize("kind", ["mode", "cycle"])
@pytest.mark.parametrize("tradition", ["hindustani", "makam"])
def test_unify_labels_never_joins_two_entries_of_the_facts(kind: str, tradition: str) -> None:
    facts = next(one for one in load_all_builtin() if one.slug == tradition)
    entries = facts.modes if kind == "mode" else facts.cycles
    names = [(entry.slug, name) for entry in entries for name in (entry.name, *entry.aliases)]
    for tradition_cell in (tradition, facts.name, "unknown"):
        clips, notes = unify_labels(clips_of(*({kind: name, "tradition": tradition_cell} for _, name in names)))
        by_label: dict[str, set[str]] = defaultdict(set)
        for (slug, _), clip in zip(names, clips, strict=True):
            by_label[getattr(clip, kind)].add(slug)
        assert {frozenset(slugs) for slugs in by_label.values()} == {frozenset({entry.slug}) for entry in entries}
        assert not [note for note in notes if "different ones" in note]


def test_unify_labels_of_all_modes_of_both_traditions_at_once_joins_none_across_them() -> None:
    rows = [
        (one.slug, mode.slug, {"mode": name, "tradition": one.slug})
        for one in load_all_builtin()
        for mode in one.modes
        for name in (mode.name, *mode.aliases)
    ]
    clips, _ = unify_labels(clips_of(*(row for *_, row in rows)))
    labels = {(tradition, slug, clip.mode) for (tradition, slug, _), clip in zip(rows, clips, strict=True)}
    assert len(labels) == len({(tradition, slug) for tradition, slug, _ in rows})


def test_unify_labels_of_unknown_names_joins_case_and_accents_and_asks_about_the_rest() -> None:
    found, notes = modes("Foobār", "foobar", "Foo-Bar", "Fubar", "Fubara", tradition="unknown")
    assert found == ["Foobār"] * 3 + ["Fubar", "Fubara"]
    assert notes == [
        "mode: Foobār, foobar, Foo-Bar are one, counted as Foobār",
        "mode: Foobār and Fubar and Fubara are counted as different ones; write them alike if they are one",
    ]


def test_unify_labels_of_other_scripts_joins_nothing_that_differs_in_a_letter() -> None:
    names = ("はが", "はか", "録音2", "別2", "राग अज्ञात", "राग अज्ञाति", "مقام", "макам")
    found, notes = modes(*names, tradition="unknown")
    assert len({*found}) == len(names)
    assert notes == []


def test_unify_labels_of_makam_cycles_instruments_and_traditions() -> None:
    clips, notes = unify_labels(
        clips_of(
            {"tradition": "turkish makam", "mode": "Uşşak", "cycle": "Düyek", "instruments": "ney | kanun"},
            {"tradition": "makam", "mode": "ussak", "cycle": "duyek", "instruments": "kanun"},
            {"tradition": "makam", "mode": "Uşşak", "cycle": "none", "instruments": "unknown"},
            {"tradition": "hindustani", "cycle": "तीनताल", "instruments": "sitaar | tabla"},
            {"tradition": "hindustani", "cycle": "Tintal", "instruments": "sitar | tabla"},
        )
    )
    assert {clip.tradition for clip in clips} == {"makam", "hindustani"}
    assert {clip.mode for clip in clips} == {"Uşşak", "unknown"}
    assert [clip.cycle for clip in clips[:3]] == ["Düyek", "Düyek", "none"]
    assert clips[3].cycle == clips[4].cycle
    assert clips[3].instruments == clips[4].instruments
    assert any(note == "tradition turkish makam is counted as makam" for note in notes)
    assert len(notes) == 5


def test_unify_labels_says_which_performers_are_one_for_the_split() -> None:
    _, notes = unify_labels(clips_of({"performer": "Zeki Müren | A"}, {"performer": "zeki muren"}, {"performer": "B"}))
    assert notes == ["performer: Zeki Müren, zeki muren are one for the split"]


def test_unify_labels_changes_nothing_where_every_label_has_one_spelling() -> None:
    clips = clips_of({"tradition": "hindustani", "mode": "Bhupali"}, {"mode": "unknown", "cycle": "none"}, {})
    assert unify_labels(clips) == (clips, [])


def test_prepare_counts_one_raga_once_and_keeps_the_words_of_the_caption(folder, out, record) -> None:
    lines = ["file_name,raga"]
    for number, name in enumerate(("Bhupali", "Bhoopali", "भूपाली")):
        record(f"{number}.wav", 12)
        lines.append(f"{number}.wav,{name}")
    (folder / "metadata.csv").write_text("\n".join(lines), encoding="utf-8")
    corpus = make(folder, out)
    assert [*corpus.summary["labels"]["mode"]] == ["Bhupali"]
    captions = " ".join(clip.caption for clip in corpus.clips)
    assert all(name in captions for name in ("Bhupali", "Bhoopali", "भूपाली"))
    assert {str(clip.extra["raga"]) for clip in corpus.clips} == {"Bhupali", "Bhoopali", "भूपाली"}
    notes = [row["note"] for row in corpus.summary["notes"] if row["file"] == "labels"]
    assert notes[0] == "mode: Bhupali, Bhoopali, भूपाली are one, counted as Bhupali"


def test_names_of_all_modes_are_pairwise_different() -> None:
    """The test above would pass if the facts held one mode."""
    assert len([*itertools.combinations([mode for one in load_all_builtin() for mode in one.modes], 2)]) > 8000


def recording(*sections: dict[str, str], **cells: str) -> tuple[Labels, tuple[AnnotatedSection, ...]]:
    return parse_labels(cells), tuple(AnnotatedSection(0.0, 1.0, "part", dict(part)) for part in sections)


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
    note = other_mode_in_caption(caption, parse_labels({"raga": raga}), ())
    assert note.startswith(told)
    assert bool(note) == bool(told)


def test_unknown_names_lists_some_and_counts_the_rest() -> None:
    near = unknown_names([recording(raga=f"Yaman{letter}q") for letter in "bcdfghjklmnpqrstvwxyzbcd"])
    assert len(near) == 21
    assert near[-1].startswith("and ")
    (far,) = unknown_names([recording(raga=f"{letter}xqzw{letter}") for letter in "bcdfghjklmnpqrstvwxyz"])
    assert far.endswith(" and 1 more")
