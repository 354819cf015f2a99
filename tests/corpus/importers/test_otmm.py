"""The OTMM importer joins metadata with the user's files and refuses a folder without any."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest
from fixtures.importer_sources import IDS, otmm_original, otmm_table, sound

from talim.audio import write
from talim.corpus.importers import otmm
from talim.corpus.importers.protocol import ImportRequest
from talim.errors import TalimError

PACK = Path(__file__).parents[4] / "shared" / "data" / "makam_pitch"


def test_list_recordings_without_audio_files_raises(folder: Path, out: Path) -> None:
    otmm_table(folder)
    for path in folder.rglob("*.flac"):
        path.unlink()
    with pytest.raises(TalimError, match=f"no audio; put your own files below .* {IDS[0]}.mp3"):
        otmm.list_recordings(ImportRequest(str(folder), out))


def test_list_recordings_prefers_annotated_makam_and_notes_missing_audio(folder: Path, out: Path) -> None:
    imported = otmm.list_recordings(ImportRequest(str(otmm_table(folder)), out))
    assert {file.row["makam"] for file in imported.files} == {"Hicaz"}
    assert imported.notes[0]["note"] == "2 of 5 recordings of this data set without an audio file here"


def test_list_recordings_with_two_files_of_a_recording_skips_one(folder: Path, out: Path) -> None:
    otmm_table(folder)
    write(folder / "my files" / f"{IDS[0]} copy.wav", sound(50, 2))
    imported = otmm.list_recordings(ImportRequest(str(folder), out))
    assert any("a second file for" in row["reason"] for row in imported.skipped)


def test_list_recordings_of_the_unpacked_archive_gives_rows(folder: Path, out: Path) -> None:
    inside = folder / "MTG-otmm_makam_recognition_dataset-55ce75a"
    inside.mkdir()
    otmm_original(inside)
    assert otmm.matches(folder)
    rows = [file.row for file in otmm.list_recordings(ImportRequest(str(folder), out)).files]
    assert rows[0]["usul"] == "Aksak"
    assert rows[0]["instruments"] == "voice | ney"
    assert rows[0]["release_mbid"] == "rel-0"
    assert rows[0]["tonic_hz"] == "220.5"


def test_list_recordings_with_damaged_json_names_the_file(folder: Path, out: Path) -> None:
    otmm_original(folder)
    damaged = folder / "data" / "Hicaz" / f"{IDS[0]}.json"
    damaged.write_text("{")
    with pytest.raises(TalimError, match=str(damaged)):
        otmm.list_recordings(ImportRequest(str(folder), out))


@pytest.mark.real
def test_list_recordings_of_the_real_table_joins_audio(folder: Path, out: Path) -> None:
    if not PACK.is_dir():
        pytest.skip("the real metadata (shared/data/makam_pitch) is not here")
    (folder / "recordings_1000.csv").write_bytes((PACK / "recordings_1000.csv").read_bytes())
    with open(PACK / "recordings_1000.csv", encoding="utf-8") as file:
        rows = {row["mbid"]: row for row in csv.DictReader(file)}
    assert len(rows) == 1000
    chosen = list(rows)[::125]
    for n, mbid in enumerate(chosen):
        write(folder / f"{mbid}.wav", sound(n, 2))
    imported = otmm.list_recordings(ImportRequest(str(folder), out))
    assert [file.row["mbid"] for file in imported.files] == sorted(chosen)
    for file in imported.files:
        row = rows[file.row["mbid"]]
        assert file.row["makam"] == row["makam_annotated"]
        assert float(file.row["tonic_hz"]) == float(row["tonic_hz"])
    assert json.dumps(imported.notes)
