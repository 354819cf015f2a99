"""Tonic identification on sung melodies in the layout of the public pitch tracks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.sung_melodies import HOP_SECONDS, sing

from research.validation import tonic_identification
from research.validation.tonic_identification import TonicTrial, error_kind
from talim.errors import TalimError
from talim.traditions.note_transcription import NoteSequence, transcribe_notes
from talim.traditions.tradition import load

HINDUSTANI = load("hindustani")
RAGAS = {"first": "Yaman", "second": "Malkauns", "third": "Bhairav"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of a minute and more; the second a track of lists, as one of the public ones is."""
    folder = tmp_path_factory.mktemp("files")
    (folder / "pitchTracks").mkdir()
    info = {name: {"rag": {"rag": raga, "sa": 200}} for name, raga in RAGAS.items()}
    (folder / "recordingsInfo.json").write_text(json.dumps(info))
    for seed, (name, raga) in enumerate(RAGAS.items()):
        cents = sing(HINDUSTANI.mode(raga), seed, phrases=12).tolist()
        track = {f"{5 + n * HOP_SECONDS:.2f}": "s" if np.isnan(value) else value for n, value in enumerate(cents)}
        if name == "second":
            track = {time: [value] for time, value in track.items()}
        (folder / "pitchTracks" / f"{name}_pitchTrack.json").write_text(json.dumps(track))
    return folder


def test_report_finds_the_tonics_of_sung_ragas(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tonic_identification, "PASSAGE_SECONDS", 12.0)
    trials = tonic_identification.read_hindustani(folder, HINDUSTANI)
    whole, passages = trials.values()
    assert [trial.recording for trial in whole] == list(RAGAS)
    assert len(passages) > 2 * len(whole)
    assert sum(trial.notes.cents.size for trial in passages) == pytest.approx(
        sum(trial.notes.cents.size for trial in whole), abs=2 * len(passages)
    )
    page = tonic_identification.report({"whole recordings": whole}, None)
    rows = {line.split("|")[1].strip(): line.split("|")[4].strip() for line in page.splitlines() if line.count("|") > 4}
    assert rows["mode given"].startswith("100.0 %")
    assert rows["tradition given"].startswith("100.0 %")
    assert rows["control: the mode of another recording given"] != rows["mode given"]
    assert "By raga: none." in page


def test_a_tonic_elsewhere_is_counted_as_an_error(folder: Path) -> None:
    shifted = [
        TonicTrial(trial.recording, trial.mode, transposed(trial.notes, 700.0))
        for trial in tonic_identification.read_hindustani(folder, HINDUSTANI)["whole recordings"]
    ]
    page = tonic_identification.report({"whole recordings": shifted}, None)
    assert "| fifth | 3 |" in page


def transposed(notes: NoteSequence, cents: float) -> NoteSequence:
    return NoteSequence(notes.cents + cents, notes.seconds, notes.onset_seconds, notes.gap_seconds)


@pytest.mark.parametrize(
    ("off_cents", "kind"),
    [
        (-30.0, "25 to 50 cents off"),
        (-500.0, "fifth"),
        (690.0, "fifth"),
        (510.0, "fourth"),
        (-100.0, "another degree"),
        (390.0, "another degree"),
        (300.0, "between the degrees"),
    ],
)
def test_error_kind(off_cents: float, kind: str) -> None:
    assert error_kind(off_cents, HINDUSTANI.mode("Yaman").degrees_cents) == kind


def test_read_cents_leaves_silence_out(tmp_path: Path) -> None:
    file = tmp_path / "x.json"
    file.write_text(json.dumps({"30.0": -90, "30.01": "s", "30.03": [120]}))
    np.testing.assert_array_equal(tonic_identification.read_cents(file), [-90.0, np.nan, np.nan, 120.0])


def test_a_folder_without_the_data_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match=r"recordingsInfo\.json: no such file"):
        tonic_identification.read_hindustani(tmp_path, HINDUSTANI)
    (tmp_path / "recordingsInfo.json").write_text("{}")
    with pytest.raises(TalimError, match="no pitch track"):
        tonic_identification.read_hindustani(tmp_path, HINDUSTANI)


def test_both_halves_are_determined_by_the_identifier() -> None:
    names = [f"recording {n}" for n in range(400)]
    aside = [tonic_identification.is_set_aside(name) for name in names]
    assert 150 < sum(aside) < 250
    assert aside == [tonic_identification.is_set_aside(name) for name in names]


def test_notes_of_the_sung_melodies_are_steady(folder: Path) -> None:
    trial = tonic_identification.read_hindustani(folder, HINDUSTANI)["whole recordings"][0]
    expected = transcribe_notes(sing(HINDUSTANI.mode("Yaman"), 0, phrases=12), HOP_SECONDS)
    np.testing.assert_allclose(trial.notes.cents, expected.cents)
