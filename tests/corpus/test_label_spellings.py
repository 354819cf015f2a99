"""One spelling of each label: what is one counts once, and nothing else does."""

from __future__ import annotations

import itertools
from collections import defaultdict

import pytest
from fixtures.prepared_corpus import make

from talim.corpus.label_spellings import unify_labels
from talim.corpus.manifest import Clip
from talim.traditions.tradition import load_all_builtin


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
    assert notes == ["mode: Bhupali, Bhoopali, भूपाली are one, counted as Bhupali"]


def test_names_of_all_modes_are_pairwise_different() -> None:
    """The test above would pass if the facts held one mode."""
    assert len([*itertools.combinations([mode for one in load_all_builtin() for mode in one.modes], 2)]) > 8000
