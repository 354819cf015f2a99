"""SymbTr scores: notes, times, graces, usuls and sections, in practice and theory; held against real scores."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest
from fixtures.importer_sources import SCORE_HEAD, score_rows

from talim.corpus.importers.protocol import ImportRequest
from talim.corpus.importers.symbtr import COMMA_CENTS, list_recordings, matches, read_score
from talim.errors import TalimError

PACK = Path(__file__).parents[4] / "shared" / "data" / "makam"
ROWS = (
    "1\t51\t\t\t0\t0\t9\t8\t0\t20\t0\tAksak (9/8)\t0.0\n"
    "2\t9\tLa4\tA4\t305\t305\t1\t4\t500\t100\t127\tARANAĞME\t0.25\n"
    "3\t9\tSi4b2\tB4b1\t312\t313\t1\t8\t250\t80\t64\t.\t0.375\n"
    "4\t9\tEs\tEs\t-1\t-1\t1\t4\t500\t95\t0\t.\t0.6\n"
    "5\t8\tRe5\tD5\t327\t327\t0\t0\t0\t95\t96\t\t0.6\n"
    "6\t9\tDo5\tC5\t318\t318\t1\t4\t500\t95\t96\tGül\t0.9\n"
    "7\t53\t\t\t-1\t-1\t0\t0\t0\t0\t0\t\t0.9\n"
    "8\t51\t\t\t0\t0\t4\t4\t0\t6\t0\tSofyan\t0.9\n"
    "9\t9\tLa4\tA4\t305\t305\t1\t2\t1000\t95\t96\t2. HANE\t1.0\n"
)


@pytest.fixture
def score_file(folder: Path) -> Path:
    path = folder / "ussak--sarki--aksak--gul--nobody.txt"
    path.write_text(SCORE_HEAD + ROWS, encoding="utf-8")
    return path


def test_read_score_gives_onsets_lengths_and_cents(score_file: Path) -> None:
    score = read_score(score_file)
    assert score.karar_hz == 440
    assert score.seconds == pytest.approx(2.75)
    assert score.tempo_bpm == 120
    first, second, grace, main, last = score.notes
    assert (first.onset_seconds, first.seconds, first.cents) == (0, 0.5, 0)
    assert (first.sounding_fraction, first.velocity, first.label) == (1.0, 1.0, "ARANAĞME")
    assert second.cents == pytest.approx(7 * 1200 / 53)  # practice: seven commas above dugah
    assert (grace.onset_seconds, grace.seconds, grace.grace) == (1.25, 0.07, True)
    assert grace.cents == pytest.approx(22 * COMMA_CENTS)
    assert main.onset_seconds == pytest.approx(1.32)
    assert main.seconds == pytest.approx(0.43)
    assert main.label == "Gül"
    assert (last.cents, last.seconds) == (0, 1.0)


def test_read_score_in_theory_intonation_differs_from_practice(score_file: Path) -> None:
    assert read_score(score_file, "theory").notes[1].cents == pytest.approx(8 * 1200 / 53)


def test_read_score_gives_usul_changes_and_sections(score_file: Path) -> None:
    score = read_score(score_file)
    assert [(u.onset_seconds, u.name, u.pulses, u.unit) for u in score.usuls] == [
        (0.0, "Aksak", 9, 8),
        (1.75, "Sofyan", 4, 4),
    ]
    assert score.sections == ((0.0, "ARANAĞME"), (1.32, ""), (1.75, "2. HANE"))


def test_read_score_of_an_invalid_file_raises(folder: Path) -> None:
    path = folder / "letter.txt"
    path.write_text("dear friend", encoding="utf-8")
    assert not matches(path)
    path.write_text(SCORE_HEAD + "1\t9\tLa4\tA4\thigh\t305\t1\t4\t500\t95\t96\t.\t1\n", encoding="utf-8")
    assert matches(path)
    with pytest.raises(TalimError, match=r"letter\.txt: line 2 is no SymbTr row"):
        read_score(path)
    path.write_bytes(SCORE_HEAD.encode() + b"\xff\xfe")
    with pytest.raises(TalimError, match="UTF-8"):
        read_score(path)
    path.write_bytes(SCORE_HEAD.encode() + b"1\t\0\n")
    with pytest.raises(TalimError, match="cannot be read as a table"):
        read_score(path)
    path.write_text(score_rows(0).replace("\t305", "\t-1").replace("\t3", "\t-1"), encoding="utf-8")
    with pytest.raises(TalimError):
        read_score(path)


COLUMNS = ("Sira", "Kod", "Nota53", "NotaAE", "Koma53", "KomaAE", "Pay", "Payda", "Ms", "LNS", "Bas", "Soz1")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        *((column, "x") for column in ("Kod", "Koma53", "Pay", "Payda", "Ms", "LNS", "Bas")),
        *((column, value) for column in ("Ms", "LNS", "Bas", "Pay") for value in ("inf", "nan", "-inf", "3e8", "-5")),
        ("Koma53", "99999999"),
        ("Koma53", "305.5"),
        ("Pay", "9" * 4000),
        ("Payda", "9" * 5000),
        ("Kod", "1e999"),
    ],
)
def test_read_score_of_an_impossible_value_names_row_and_column(
    folder: Path, score_file: Path, column: str, value: str
) -> None:
    rows = [line.split("\t") for line in ROWS.splitlines()]
    rows[2][COLUMNS.index(column)] = value
    text = "".join("\t".join(row) + "\n" for row in rows)
    (folder / "bad--sarki.txt").write_text(SCORE_HEAD + text, encoding="utf-8")
    with pytest.raises(TalimError, match=rf"line 4 is no SymbTr row \({column} is '"):
        read_score(folder / "bad--sarki.txt")
    imported = list_recordings(ImportRequest(str(folder), folder / "out"))
    assert [file.name for file in imported.files] == [score_file.name]  # one bad score costs no other
    assert [row["file"] for row in imported.skipped] == ["bad--sarki.txt"]


def test_read_score_takes_missing_strengths_as_usual(score_file: Path) -> None:
    score_file.write_text(SCORE_HEAD + ROWS.replace("\t80\t64\t", "\t\t\t"), encoding="utf-8")
    assert read_score(score_file).notes[1].sounding_fraction == 0.95


def test_read_score_of_endless_music_raises(folder: Path) -> None:
    note = "1\t9\tLa4\tA4\t305\t305\t1\t4\t600000\t95\t96\t.\t1\n"
    (folder / "long.txt").write_text(SCORE_HEAD + note * 30, encoding="utf-8")
    with pytest.raises(TalimError, match="is longer than 4 hours at line 26"):
        read_score(folder / "long.txt")


def test_matches_of_a_pipe_is_false(folder: Path) -> None:
    os.mkfifo(folder / "a.txt")
    assert not matches(folder)


@pytest.mark.real
def test_read_score_of_real_scores_agrees_with_their_index() -> None:
    if not PACK.is_dir():
        pytest.skip("the real scores (shared/data/makam) are not here")
    with open(PACK / "metadata.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 96
    for row in rows:
        score = read_score(PACK / row["file"])
        lines = [line.split("\t") for line in (PACK / row["file"]).read_text("utf-8").splitlines()[1:]]
        unheard = sum(int(cells[8]) for cells in lines if cells[1] == "11") / 1000
        # The index leaves out rows of code 11, although the scores' own Offset counts their time.
        assert score.seconds == pytest.approx(float(row["duration_s"]) + unheard, abs=0.02)
        karar = 440 * 2 ** ((int(row["karar_koma53"]) - 305) / 53)
        assert score.karar_hz == pytest.approx(karar, rel=1e-6)
        assert len(score.usuls) == int(row["n_usul_rows"])
        commas = [round(note.cents / COMMA_CENTS) + int(row["karar_koma53"]) for note in score.notes if not note.grace]
        assert (min(commas), max(commas)) == (int(row["koma53_min"]), int(row["koma53_max"]))
