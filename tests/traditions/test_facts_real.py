"""The shipped tables against real collections: their names, played commas, sung svaras and annotated cycles."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talim.errors import TalimError
from talim.traditions.tradition import load

HINDUSTANI, MAKAM = load("hindustani"), load("makam")
COMMA_CENTS = 1200 / 53
DATA = Path(__file__).parents[3] / "shared" / "data"


def commas(cents: tuple[float, ...]) -> list[int]:
    return [round(value / COMMA_CENTS) for value in cents]


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
def test_real_names_are_found(file: str, column: str, slug: str, kind: str, unknown: set[str]) -> None:
    tradition = HINDUSTANI if slug == "hindustani" else MAKAM
    missing = set()
    for name in {part for row in rows(file) for part in re.split(r"[,|]", row[column]) if part}:
        try:
            getattr(tradition, kind)(name)
        except TalimError:
            missing.add(name)
    assert missing == unknown


@pytest.mark.real
def test_the_played_commas_are_where_symbtr_spends_its_time() -> None:
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
def test_the_svaras_are_those_that_singers_were_measured_at() -> None:
    measured: dict[str, list[float]] = {}
    for row in rows("hindustani/intonation.csv"):
        measured.setdefault(row["svara"], []).append(float(row["cents"]) - 1200 * int(row["octave"]))
    chromatic = sorted({round(cents) for raga in HINDUSTANI.modes for cents in raga.degrees_cents})
    for letter, cents in zip("SrRgGmMPdDnN", chromatic, strict=True):
        assert abs(np.mean(measured[letter]) - cents) <= 3, letter


@pytest.mark.real
def test_annotated_cycles_are_as_long_as_the_talas_say() -> None:
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
def test_annotated_phrases_keep_to_the_svaras_of_their_raga() -> None:
    sung: dict[str, list[bool]] = {}
    letters = dict(zip("SrRgGmMPdDnN", range(12), strict=True))
    for row in rows("hindustani/phrases.csv"):
        if not row["raga"] or row["raga"] in RARE:
            continue
        raga = HINDUSTANI.mode(row["raga"])
        allowed = {round(cents / 100) % 12 for cents in (*raga.degrees_cents, *raga.touched_cents)}
        sung.setdefault(raga.name, []).extend(
            letters[svara] in allowed for svara in row["svaras"] if svara in letters
        )
    shares = {name: float(np.mean(inside)) for name, inside in sung.items()}
    assert len(shares) >= 30
    assert np.median(list(shares.values())) == 1.0
    assert {name for name, share in shares.items() if share < 0.93} <= {"Yaman"}  # one Kalyan is sung with ma
