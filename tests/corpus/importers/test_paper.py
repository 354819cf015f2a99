"""The paper's own tables: its columns are read, its faults are not inherited."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.sources import IDS, sound, table

from talim.audio import write
from talim.corpus.importers import paper
from talim.corpus.importers.contract import Request
from talim.corpus.recordings import Found
from talim.errors import UsageError

PACK = Path(__file__).parents[4] / "shared" / "data" / "paper_schema"


def found_in(path: Path, out: Path) -> Found:
    return paper.find(Request(str(path), out))


def test_two_recordings_that_claim_one_file_are_both_left_out(folder: Path, out: Path) -> None:
    """Equal titles share a folder in the paper's download, and one's audio gets the other's labels."""
    write(folder / "a.wav", sound(0, 2))
    write(folder / "b.wav", sound(1, 2))
    rows = [{"title": "Raag X", "mbid": mbid, "raga": "X", "audio_path": "a.wav"} for mbid in IDS[:2]]
    table(folder / "h.csv", [*rows, {"title": "Y", "mbid": IDS[2], "raga": "Y", "audio_path": "b.wav"}])
    found = found_in(folder / "h.csv", out)
    assert [file.name for file in found.files] == ["b.wav"]
    assert [row["file"] for row in found.left_out] == [f"Raag X ({mbid})" for mbid in IDS[:2]]
    assert all("2 rows of different recordings name this one file" in row["reason"] for row in found.left_out)


def test_chunks_of_one_recording_stay_one_recording(folder: Path, out: Path) -> None:
    for n in range(2):
        write(folder / f"c{n}.wav", sound(n, 2))
    rows = [
        {"title": "T", "mbid": IDS[0], "makam": "Hicaz", "usul": "Aksak", "audio_path": f"c{n}.wav"}
        for n in range(2)
    ]
    table(folder / "m.csv", rows)
    files = found_in(folder / "m.csv", out).files
    assert [file.row["mbid"] for file in files] == [IDS[0], IDS[0]]
    assert {file.row["tradition"] for file in files} == {"makam"}


def test_a_name_that_is_there_twice_is_not_guessed(folder: Path, out: Path) -> None:
    for place in ("one", "two"):
        (folder / place).mkdir()
        write(folder / place / "a.wav", sound(0, 2))
    table(folder / "h.csv", [{"title": "T", "mbid": IDS[0], "raga": "X", "audio_path": "/old/a.wav"}])
    found = found_in(folder / "h.csv", out)
    assert found.files == ()
    assert found.left_out == ({"file": f"T ({IDS[0]})", "reason": "its file is not there: /old/a.wav"},)


def test_another_table_is_none(folder: Path, out: Path) -> None:
    table(folder / "x.csv", [{"file_name": "a.wav", "raga": "Y"}])
    assert not paper.recognises(folder / "x.csv")
    with pytest.raises(UsageError, match="audio_path and raga or makam"):
        found_in(folder / "x.csv", out)


@pytest.mark.real
@pytest.mark.parametrize(("name", "count"), [("hindustani.csv", 108), ("makam.csv", 1000)])
def test_every_row_of_the_real_tables_is_named_as_without_audio(name: str, count: int, out: Path) -> None:
    if not PACK.is_dir():
        pytest.skip("the real tables (shared/data/paper_schema) are not here")
    found = found_in(PACK / name, out)
    assert len(found.left_out) == count
    assert {row["reason"] for row in found.left_out} == {"its audio_path is empty"}
    assert len({row["file"] for row in found.left_out}) == count
