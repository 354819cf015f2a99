"""The built-in facts against other sources: thekas, thaats, tetrachords, and real collections."""

from __future__ import annotations

import csv
import json
import re
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talim.errors import TalimError
from talim.traditions.name_matching import normalize_name, slugify
from talim.traditions.schema import Cycle, Mode
from talim.traditions.tradition import Tradition, load

DATA = Path(__file__).parents[3] / "shared" / "data"


def rows(name: str) -> list[dict[str, str]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"the real collections (shared/data/{name}) are not here")
    with path.open(encoding="utf-8") as handle:
        return list(csv.DictReader(handle))


def table(name: str, key: str) -> list[dict[str, Any]]:
    path = DATA / name
    if not path.is_file():
        pytest.skip(f"the fact tables (shared/data/{name}) are not here")
    return json.loads(path.read_text("utf-8"))[key]


RARE = {"Basanti kedar", "Dagori", "Hindol Pancham", "Khokar", "Nat Kamod", "Triveni gauri", "Lagan Gandhar",
        "Maajh khamaj", "Lalit pancham"}  # fmt: skip

NO_USUL = {"Serbest", "Darbeyn", "beste", "makam", "nihavent"}  # free, of changing length, or misplaced words


@pytest.mark.real
@pytest.mark.parametrize(
    ("file", "column", "slug", "kind", "unknown"),
    [
        ("hindustani/metadata.csv", "raga", "hindustani", "mode", set()),
        ("hindustani/metadata.csv", "raga_slug", "hindustani", "mode", set()),
        ("hindustani/metadata.csv", "tala", "hindustani", "cycle", set()),
        ("hindustani/saraga_recordings.csv", "raga", "hindustani", "mode", RARE),
        ("hindustani/saraga_recordings.csv", "taal", "hindustani", "cycle", set()),
        ("paper_schema/hindustani.csv", "taal", "hindustani", "cycle", set()),
        ("paper_schema/makam.csv", "makam", "makam", "mode", {"Necd-i Hüseyni"}),
        ("paper_schema/makam.csv", "usul", "makam", "cycle", NO_USUL),
        ("makam_pitch/recordings_1000.csv", "makam_dir", "makam", "mode", set()),
        ("makam/metadata.csv", "makam_name", "makam", "mode", set()),
        ("makam/metadata.csv", "usul_name", "makam", "cycle", set()),
        ("makam/metadata.csv", "usul", "makam", "cycle", set()),
    ],
)
def test_names_of_real_collections_are_found(file: str, column: str, slug: str, kind: str, unknown: set[str]) -> None:
    tradition = HINDUSTANI if slug == "hindustani" else MAKAM
    missing = set()
    for name in {part for row in rows(file) for part in re.split(r"[,|]", row[column]) if part}:
        try:
            getattr(tradition, kind)(name)
        except TalimError:
            missing.add(name)
    assert missing == unknown


@pytest.mark.real
def test_played_commas_have_more_note_time_than_written_ones() -> None:
    """For each degree written otherwise than played, the played one has more note time than the written one."""
    checked = 0
    for row in table("makams.json", "makams"):
        makam = MAKAM.mode(row["name"])
        assert commas(makam.theory_cents)[:7] == row["pitches_commas"][:7] or row["slug"] == "sultaniyegah"
        share = dict(row["checks"]["symbtr_pitch_share_koma53"])
        for played, written in zip(commas(makam.degrees_cents), commas(makam.theory_cents), strict=True):
            if played != written:
                assert share.get(played, 0) > share.get(written, 0), (makam.name, played, written)
                checked += 1
        on_degrees = sum(share.get(degree, 0) for degree in commas(makam.degrees_cents))
        assert on_degrees >= max(0.75, row["checks"]["share_on_scale_Koma53"] - 0.05), makam.name
    assert checked >= 15


@pytest.mark.real
def test_svaras_agree_with_measured_intonation() -> None:
    measured: dict[str, list[float]] = {}
    for row in rows("hindustani/intonation.csv"):
        measured.setdefault(row["svara"], []).append(float(row["cents"]) - 1200 * int(row["octave"]))
    chromatic = sorted({round(cents) for raga in HINDUSTANI.modes for cents in raga.degrees_cents})
    for letter, cents in zip("SrRgGmMPdDnN", chromatic, strict=True):
        assert abs(np.mean(measured[letter]) - cents) <= 3, letter


@pytest.mark.real
def test_tala_lengths_agree_with_annotations() -> None:
    if not (DATA / "hindustani" / "annotations").is_dir():
        pytest.skip("the annotations (shared/data/hindustani/annotations) are not here")
    checked = 0
    for path in sorted((DATA / "hindustani" / "annotations").glob("*.json")):
        annotation = json.loads(path.read_text("utf-8"))
        for section, tempo in zip(annotation["sections"], annotation["tempo"], strict=False):
            if section["tala"] and section["tala"] != "ikvai" and tempo["matras_per_cycle"]:
                assert HINDUSTANI.cycle(section["tala"]).beats == tempo["matras_per_cycle"], path.name
                checked += 1
    assert checked >= 130


@pytest.mark.real
def test_annotated_phrases_use_notes_of_their_raga() -> None:
    sung: dict[str, list[bool]] = {}
    letters = dict(zip("SrRgGmMPdDnN", range(12), strict=True))
    for row in rows("hindustani/phrases.csv"):
        if not row["raga"] or row["raga"] in RARE:
            continue
        raga = HINDUSTANI.mode(row["raga"])
        allowed = {round(cents / 100) % 12 for cents in (*raga.degrees_cents, *raga.touched_cents)}
        sung.setdefault(raga.name, []).extend(letters[svara] in allowed for svara in row["svaras"] if svara in letters)
    shares = {name: float(np.mean(inside)) for name, inside in sung.items()}
    assert len(shares) >= 30
    assert np.median(list(shares.values())) == 1.0
    assert {name for name, share in shares.items() if share < 0.93} <= {"Yaman"}  # one Kalyan is sung with ma


HINDUSTANI, MAKAM = load("hindustani"), load("makam")

BOTH = pytest.mark.parametrize("tradition", [HINDUSTANI, MAKAM], ids=lambda tradition: tradition.slug)

COMMA_CENTS = 1200 / 53


# The ten thaats in semitones, as Bhatkhande lists them.
THAATS = {
    "Bilawal": (0, 2, 4, 5, 7, 9, 11),
    "Khamaj": (0, 2, 4, 5, 7, 9, 10),
    "Kafi": (0, 2, 3, 5, 7, 9, 10),
    "Asavari": (0, 2, 3, 5, 7, 8, 10),
    "Bhairavi": (0, 1, 3, 5, 7, 8, 10),
    "Bhairav": (0, 1, 4, 5, 7, 8, 11),
    "Kalyan": (0, 2, 4, 6, 7, 9, 11),
    "Marwa": (0, 1, 4, 6, 7, 9, 11),
    "Purvi": (0, 1, 4, 6, 7, 8, 11),
    "Todi": (0, 1, 3, 6, 7, 8, 11),
}

# The fourths and fifths of the Arel-Ezgi-Uzdilek system, in commas.
GENERA = {
    "Çargâh 4": (9, 9, 4),
    "Çargâh 5": (9, 9, 4, 9),
    "Buselik 5": (9, 4, 9, 9),
    "Kürdî 4": (4, 9, 9),
    "Rast 4": (9, 8, 5),
    "Rast 5": (9, 8, 5, 9),
    "Uşşak 4": (8, 5, 9),
    "Hüseynî 5": (8, 5, 9, 9),
    "Hicaz 4": (5, 12, 5),
    "Hicaz 5": (5, 12, 5, 9),
    "Segâh 4": (5, 9, 8),
    "Segâh 5": (5, 9, 8, 9),
    "Nikriz 5": (9, 5, 12, 5),
    "Hüzzam 5": (5, 9, 5, 12),
    "Müstear 5": (9, 5, 8, 9),
}


def semitones(mode: Mode) -> tuple[int, ...]:
    return tuple(round(cents / 100) % 12 for cents in mode.degrees_cents)


def commas(cents: tuple[float, ...]) -> list[int]:
    return [round(value / COMMA_CENTS) for value in cents]


def test_builtin_traditions_have_enough_modes_and_cycles() -> None:
    assert len(HINDUSTANI.modes) >= 40
    assert len([tala for tala in HINDUSTANI.cycles if tala.strokes]) >= 12
    assert len(MAKAM.modes) >= 25
    assert len([usul for usul in MAKAM.cycles if usul.strokes]) >= 25


@BOTH
def test_builtin_traditions_name_their_sources(tradition: Tradition) -> None:
    assert len(tradition.facts["sources"]) >= 3


@BOTH
def test_every_spelling_finds_its_own_entry(tradition: Tradition) -> None:
    kinds = (
        (tradition.modes, tradition.mode, tradition.mode_words),
        (tradition.cycles, tradition.cycle, tradition.cycle_words),
        (tradition.ornaments, tradition.ornament, ()),
    )
    for entries, look_up, words in kinds:
        owners: dict[str, str] = {}
        for entry in entries:
            for spelling in (entry.name, entry.slug, *entry.aliases):
                plain = slugify(spelling)
                joined = plain.replace("-", "") if not plain.endswith("-ii") else plain
                for typed in (spelling, plain, plain.upper(), joined, plain.replace("-", " ")):
                    assert look_up(typed) is entry, typed
                for word in words:
                    assert look_up(f"{word} {spelling}") is look_up(f"{spelling} {word}") is entry
                assert owners.setdefault(normalize_name(spelling, words), entry.slug) == entry.slug


@BOTH
def test_notated_lines_use_notes_of_the_mode(tradition: Tradition) -> None:
    for mode in tradition.modes:
        allowed = {round(cents % 1200) for cents in (*mode.degrees_cents, *mode.touched_cents)}
        for line in (mode.ascent_cents, mode.descent_cents, mode.strong_cents, *mode.phrases_cents):
            foreign = {round(cents % 1200) for cents in line} - allowed
            # a leading note under the final (yeden) need not be in a makam's scale
            assert not {cents for cents in foreign if cents < 930}, mode.name
        assert mode.phrases_cents, mode.name
        assert mode.strong_cents, mode.name


def test_ascent_and_descent_use_every_note_of_a_raga() -> None:
    for raga in HINDUSTANI.modes:
        moved = {round(cents % 1200) for cents in (*raga.ascent_cents, *raga.descent_cents)}
        assert {round(cents) for cents in raga.degrees_cents} <= moved, raga.name
        assert raga.descent_cents[-1] <= 0 or raga.descent_cents[-1] == raga.final_cents, raga.name


@pytest.mark.parametrize("thaat", THAATS)
def test_scale_of_a_raga_agrees_with_its_thaat(thaat: str) -> None:
    raga = HINDUSTANI.mode(thaat)
    assert raga.facts["thaat"] == thaat
    missing = set(semitones(raga)) ^ set(THAATS[thaat])
    # Marwa leaves out pa; Purvi and Khamaj add the other ma and the other ni
    assert missing == {"Marwa": {7}, "Purvi": {5}, "Khamaj": {11}}.get(thaat, set())


@pytest.mark.parametrize(
    ("name", "notes", "vadi", "samvadi"),
    [  # The Raga Guide (1999) and common teaching, by semitones above sa
        ("Bhoopali", (0, 2, 4, 7, 9), 4, 9),
        ("Malkauns", (0, 3, 5, 8, 10), 5, 0),
        ("Marwa", (0, 1, 4, 6, 9, 11), 1, 9),
        ("Puriya", (0, 1, 4, 6, 9, 11), 4, 11),
        ("Ahir Bhairav", (0, 1, 4, 5, 7, 9, 10), 5, 0),
        ("Madhuvanti", (0, 2, 3, 6, 7, 9, 11), 7, 0),
        ("Charukeshi", (0, 2, 4, 5, 7, 8, 10), 7, 0),
        ("Shivaranjani", (0, 2, 3, 7, 9), 7, 0),
    ],
)
def test_ragas_have_known_notes_and_strong_notes(name: str, notes: tuple[int, ...], vadi: int, samvadi: int) -> None:
    raga = HINDUSTANI.mode(name)
    assert semitones(raga) == notes
    assert [round(cents / 100) for cents in raga.strong_cents] == [vadi, samvadi]


def spoken(cycle: Cycle) -> str:
    """A theka as it is spoken, one beat a word."""
    beats: list[str] = [""] * round(cycle.beats)
    for stroke in cycle.strokes:
        beats[int(stroke.onset_beats)] += stroke.syllable
    return " ".join(beat.lower() or "-" for beat in beats)


@pytest.mark.parametrize(
    ("name", "theka"),
    [
        ("Teentaal", "dha dhin dhin dha dha dhin dhin dha dha tin tin ta ta dhin dhin dha"),
        ("Ektaal", "dhin dhin dhage tirakita tun na kat ta dhage tirakita dhin na"),
        ("Jhaptaal", "dhin na dhin dhin na tin na dhin dhin na"),
        ("Rupak", "tin tin na dhin na dhin na"),
        ("Dadra", "dha dhin na dha tin na"),
        ("Keherwa", "dha ge na ti na ka dhi na"),
        ("Chautaal", "dha dha dhin ta kita dha dhin ta tita kata gadi gana"),
        ("Dhamar", "ka dhi ta dhi ta dha - ge ti ta ti ta ta -"),
    ],
)
def test_talas_have_known_thekas(name: str, theka: str) -> None:
    assert spoken(HINDUSTANI.cycle(name)) == theka


@pytest.mark.parametrize(
    ("name", "matras", "vibhag", "tali", "khali"),
    [
        ("Teentaal", 16, (4, 4, 4, 4), (1, 5, 13), (9,)),
        ("Ektaal", 12, (2, 2, 2, 2, 2, 2), (1, 5, 9, 11), (3, 7)),
        ("Jhoomra", 14, (3, 4, 3, 4), (1, 4, 11), (8,)),
        ("Rupak", 7, (3, 2, 2), (4, 6), (1,)),
        ("Tevra", 7, (3, 2, 2), (1, 4, 6), ()),
    ],
)
def test_talas_have_known_divisions(name: str, matras: int, vibhag: tuple, tali: tuple, khali: tuple) -> None:
    tala = HINDUSTANI.cycle(name)
    assert (tala.beats, tala.sections, tala.claps, tala.waves) == (matras, vibhag, tali, khali)


@BOTH
def test_cycles_are_consistent_and_strongest_on_the_first_beat(tradition: Tradition) -> None:
    for cycle in tradition.cycles:
        starts = {1 + round(at) for at in accumulate((0, *cycle.sections[:-1]))}
        assert set(cycle.claps) | set(cycle.waves) <= starts, cycle.name
        assert not set(cycle.claps) & set(cycle.waves), cycle.name
        if cycle.claps:
            assert set(cycle.claps) | set(cycle.waves) == starts, cycle.name
        if cycle.strokes:
            assert cycle.strokes[0].onset_beats == 0, cycle.name
            assert cycle.strokes[0].weight == max(stroke.weight for stroke in cycle.strokes) == 1.0, cycle.name
            assert sum(stroke.beats for stroke in cycle.strokes) <= cycle.beats, cycle.name
            assert all(one.onset_beats + one.beats <= two.onset_beats for one, two in pairwise(cycle.strokes))


@pytest.mark.parametrize(
    ("name", "strokes"),
    [
        ("Düyek", "Düm1 Tek2 Tek1 Düm2 Tek2"),
        ("Aksak", "Düm2 Te1 Ke1 Düm2 Tek2 Tek1"),
        ("Curcuna", "Düm2 Te1 Ka2 Düm2 Tek2 Tek1"),
        ("Devr-i Hindî", "Düm1 Tek1 Tek1 Düm2 Tek2"),
        ("Müsemmen", "Düm3 Tek2 Tek3"),
        ("Çeng-i Harbî", "Düm1 Tek1 Düm1 Tek1 Düm1 Tek1 Tek1 Düm1 Tek1 Tek1"),
    ],
)
def test_usuls_have_known_strokes(name: str, strokes: str) -> None:
    usul = MAKAM.cycle(name)
    assert " ".join(f"{stroke.syllable}{stroke.beats:g}" for stroke in usul.strokes) == strokes


def test_makams_are_built_of_their_named_tetrachords() -> None:
    built = 0
    for makam in MAKAM.modes:
        parts = re.fullmatch(r"(\S+ [45]) \+ (\S+ [45])(?: \((\d+) (\d+) (\d+)\))?", makam.facts.get("structure", ""))
        if parts is None:
            continue
        upper = tuple(int(step) for step in parts.groups()[2:]) if parts[3] else GENERA[parts[2]]
        steps = (*GENERA[parts[1]], *upper)
        assert sum(steps) == 53, makam.name
        assert commas(makam.theory_cents) == list(accumulate((0, *steps)))[:-1], makam.name
        built += 1
    assert built >= 35


def test_played_degrees_differ_from_theory_where_known() -> None:
    """Segâh stands lower in the Uşşak family and çargâh's flat fifth higher in Sabâ, as players and SymbTr have it."""
    assert commas(MAKAM.mode("Uşşak").degrees_cents)[1] == 7
    assert commas(MAKAM.mode("Uşşak").theory_cents)[1] == 8
    assert commas(MAKAM.mode("Sabâ").degrees_cents)[3] == 19
    assert commas(MAKAM.mode("Hüzzâm").degrees_cents)[3] == 20
    differing = {makam.name for makam in MAKAM.modes if makam.degrees_cents != makam.theory_cents}
    assert {"Uşşak", "Beyâti", "Hüseynî", "Muhayyer", "Karcığar", "Sabâ", "Hüzzâm"} <= differing
    assert not {"Rast", "Hicaz", "Nihâvent", "Segâh", "Kürdî"} & differing


def test_seyir_agrees_with_the_contour() -> None:
    words = {"ascending": "çıkıcı", "descending": "inici", "both": "inici-çıkıcı"}
    for makam in MAKAM.modes:
        assert makam.facts["seyir"] == words[makam.contour], makam.name
        assert makam.facts["durak"], makam.name
        assert makam.facts["güçlü"], makam.name
        if makam.contour == "descending":
            assert makam.strong_cents[0] >= 700, makam.name  # a descending seyir begins high


def test_svaras_lie_near_equal_temperament() -> None:
    chromatic = sorted({round(cents) for raga in HINDUSTANI.modes for cents in raga.degrees_cents})
    assert len(chromatic) == 12
    assert all(abs(cents - 100 * step) <= 11 for step, cents in enumerate(chromatic))
    assert all(80 <= high - low <= 115 for low, high in pairwise(chromatic))
