"""Suggested labels: what is told of recordings, the file, and that nothing reads it before it is confirmed."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from fixtures.log_lines import Lines

from talim import cli
from talim.audio import Audio
from talim.audio.write import write
from talim.corpus.metadata import read_metadata, recording_columns, with_known_columns
from talim.corpus.tables import read_table
from talim.errors import TalimError, UsageError
from talim.evaluation import suggested_labels
from talim.evaluation.recognize_mode import best_guess, recognize_mode
from talim.synthesis.performer import perform
from talim.traditions.tradition import Tradition, load

RATE_HZ = 16000
NOTES = (0, 4, 7, 9, 12, 9, 7, 4, 2, 0, 2, 4, 7, 9, 7, 4)  # a pentatonic scale up and down


def tune(seconds_per_note: float = 0.4, repeats: int = 2) -> np.ndarray:
    """The notes with a clear attack each, float32 [T]."""
    time = np.arange(round(seconds_per_note * RATE_HZ)) / RATE_HZ
    sounds = []
    for note in NOTES * repeats:
        hz = 220 * 2 ** (note / 12)
        sounds.append(sum(np.sin(2 * np.pi * k * hz * time) / k for k in (1, 2, 3)) * np.exp(-3 * time) * 0.3)
    return np.concatenate(sounds).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tune, the same one below, and silence."""
    folder = tmp_path_factory.mktemp("takes")
    (folder / "more").mkdir()
    write(folder / "tune.wav", Audio(tune()[None], RATE_HZ))
    write(folder / "more" / "again.flac", Audio(tune(0.5)[None], RATE_HZ))
    write(folder / "silence.wav", Audio(np.zeros((1, RATE_HZ), np.float32), RATE_HZ))
    return folder


@pytest.fixture(scope="module")
def log() -> Lines:
    return Lines()


@pytest.fixture(scope="module")
def rows(folder: Path, log: Lines) -> list[dict[str, str]]:
    """Suggestions as for modes that are likely: nobody plays a scale for long enough."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(suggested_labels, "LIKELY_MODE", 0.0)
        return suggested_labels.suggest_labels(folder, "hindustani", log)


def test_rows_tell_mode_tonic_and_tempo_or_why_not(folder: Path, rows: list[dict[str, str]], log: Lines) -> None:
    by_name = {row["file_name"]: row for row in rows}
    assert set(by_name) == {"tune.wav", "more/again.flac", "silence.wav"}
    assert by_name["silence.wav"] == {"file_name": "silence.wav"}
    assert any("silence.wav: silent" in line for line in log.lines)
    row, found = by_name["tune.wav"], recognize_mode(folder / "tune.wav", "hindustani")
    guess, score = best_guess(found)
    assert row["suggested_raga"] == guess
    assert float(row["suggested_mode_probability"]) == pytest.approx(score, abs=0.006)
    others = [mode for mode in found["modes"] if mode["name"] not in guess.split(" or ")]
    assert row["suggested_other_modes"] == "; ".join(f"{mode['name']} {mode['score']:.0%}" for mode in others[:2])
    assert float(row["suggested_tonic_hz"]) == pytest.approx(found["tonic_hz"], abs=0.06)
    assert row["suggested_tradition"] == "hindustani"
    notes_per_minute = 60 / 0.4
    assert any(
        notes_per_minute * factor / float(row["suggested_tempo_bpm"]) == pytest.approx(1, rel=0.03)
        for factor in (0.5, 1)
    )


def test_a_mode_that_is_less_likely_than_not_is_among_the_others_only(
    folder: Path, rows: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggested_labels, "LIKELY_MODE", 1.01)
    found = {row["file_name"]: row for row in suggested_labels.suggest_labels(folder, "hindustani")}["tune.wav"]
    likely = next(row for row in rows if row["file_name"] == "tune.wav")
    assert "suggested_raga" not in found
    assert found["suggested_other_modes"].startswith(f"{likely['suggested_raga']} ")
    assert found["suggested_other_modes"].count("%") == 3
    assert found["suggested_mode_probability"] == likely["suggested_mode_probability"]


def test_modes_that_are_not_told_apart_are_joined_with_their_probability_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = {"Shuddha Kalyan": 0.5, "Bhoopali": 0.25, "Pahadi": 0.1, "Des": 0.05, "Kafi": 0.04}
    modes = [{"name": name, "slug": name, "score": score} for name, score in scores.items()]
    found = {"tonic_hz": 220.0, "modes": modes, "alike": [modes[1], modes[0]]}
    monkeypatch.setattr(suggested_labels, "recognize_mode", lambda *_, **__: found)
    write(tmp_path / "take.wav", Audio(np.zeros((1, RATE_HZ), np.float32), RATE_HZ))
    (row,) = suggested_labels.suggest_labels(tmp_path, "hindustani")
    assert row["suggested_raga"] == "Bhoopali or Shuddha Kalyan"
    assert row["suggested_mode_probability"] == "0.75"
    assert row["suggested_other_modes"] == "Pahadi 10%; Des 5%"


def test_rows_hold_the_cycle_and_the_instruments_that_were_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def cycle(file: Path, tradition: Tradition) -> dict[str, str]:
        asked.append((file.name, tradition.slug))
        return {"suggested_tala": "Teentaal", "suggested_cycle_probability": "0.40"}

    monkeypatch.setattr(suggested_labels, "suggested_cycle", cycle)
    write(tmp_path / "sitar solo.wav", Audio(tune(0.2)[None], RATE_HZ))
    (row,) = suggested_labels.suggest_labels(tmp_path, "hindustani")
    assert asked == [("sitar solo.wav", "hindustani")]
    assert (row["suggested_tala"], row["suggested_cycle_probability"]) == ("Teentaal", "0.40")
    assert (row["suggested_instruments"], row["suggested_instruments_from"]) == ("sitar", "sitar: file name")


def test_message_where_nothing_was_told_names_no_column_to_confirm(tmp_path: Path) -> None:
    text = suggested_labels.suggestions_message(tmp_path / "new.csv", tmp_path, [{"file_name": "drum.wav"}])
    assert "of none could anything be told" in text
    assert "suggested_" not in text


def test_tempo_of_a_held_tone_is_not_told(tmp_path: Path) -> None:
    time = np.arange(12 * RATE_HZ) / RATE_HZ
    glide = np.sin(2 * np.pi * np.cumsum(220 + 20 * np.sin(time)) / RATE_HZ)
    write(tmp_path / "held.wav", Audio((0.3 * glide)[None].astype(np.float32), RATE_HZ))
    assert suggested_labels.suggested_tempo(tmp_path / "held.wav") is None
    write(tmp_path / "silent.wav", Audio(np.zeros((1, RATE_HZ), np.float32), RATE_HZ))
    assert suggested_labels.suggested_tempo(tmp_path / "silent.wav") is None


def struck(path: Path, cycle_name: str, even: bool = False) -> Path:
    """Noise bursts at the strokes of a tala, of their weight, or at all its beats alike; forty seconds."""
    cycle, rng = load("hindustani").cycle(cycle_name), np.random.default_rng(5)
    samples = rng.normal(0, 1e-4, 40 * RATE_HZ)
    burst = rng.normal(0, 0.3, 800) * np.exp(-np.arange(800) / 150)
    onsets = [(beat, 0.6) for beat in range(int(cycle.beats))] if even else cycle.strokes
    for number in range(int(40 * 132 / 60 / cycle.beats)):
        for stroke in onsets:
            beat, weight = stroke if isinstance(stroke, tuple) else (stroke.onset_beats, stroke.weight)
            at = round((number * cycle.beats + beat) * 60 / 132 * RATE_HZ)
            samples[at : at + 800] += weight**2 * burst
    write(path, Audio(samples[None].astype(np.float32), RATE_HZ))
    return path


def test_cycle_is_told_with_its_probability_where_strokes_tell_it(tmp_path: Path) -> None:
    played = perform(83_055, "hindustani", 40.0)  # with a drum
    assert played.truth is not None
    write(tmp_path / "a.wav", Audio(np.atleast_2d(played.samples), played.rate_hz))
    cells = suggested_labels.suggested_cycle(tmp_path / "a.wav", load("hindustani"))
    assert cells["suggested_tala"] == load("hindustani").cycle(str(played.truth.cycle)).name
    assert 0.25 <= float(cells["suggested_cycle_probability"]) <= 1
    assert cells["suggested_other_cycles"].count("%") == 2


def test_cycle_is_not_told_of_an_even_pulse_nor_where_it_was_not_measured_to_be_right(tmp_path: Path) -> None:
    even = struck(tmp_path / "a.wav", "teentaal", even=True)
    assert suggested_labels.suggested_cycle(even, load("hindustani")) == {}
    assert suggested_labels.suggested_cycle(struck(tmp_path / "b.wav", "rupak"), load("makam")) == {}
    write(tmp_path / "c.wav", Audio(tune(repeats=1)[None], RATE_HZ))  # fewer than two rounds of most cycles
    assert suggested_labels.suggested_cycle(tmp_path / "c.wav", load("hindustani")) == {}


def test_without_a_tradition_the_column_is_that_of_the_best_mode(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(suggested_labels, "LIKELY_MODE", 0.0)
    (row,) = [row for row in suggested_labels.suggest_labels(folder) if row["file_name"] == "tune.wav"]
    word = load(row["suggested_tradition"]).mode_word
    assert row[f"suggested_{word}"]


def test_written_table_is_ignored_by_prepare_until_a_column_is_renamed(
    folder: Path, rows: list[dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "metadata.csv"
    suggested_labels.write_suggestions(out, rows)
    with out.open(newline="", encoding="utf-8") as file:
        assert [row["file_name"] for row in csv.DictReader(file)] == [row["file_name"] for row in rows]
    names = [row["file_name"] for row in rows]
    found, notes = read_metadata(tmp_path, [tmp_path], names)
    assert not any(cells for cells in found.values())
    (note,) = [note["note"] for note in notes if "suggest" in note["note"]]
    assert "suggestions that nobody has confirmed, not used: suggested_tradition, suggested_raga" in note
    assert "suggested_tradition to tradition" in note
    out.write_text(out.read_text(encoding="utf-8").replace("suggested_raga", "raga"), encoding="utf-8")
    confirmed, _ = read_metadata(tmp_path, [tmp_path], names)
    told = {name: row["suggested_raga"] for row in rows if "suggested_raga" in row for name in [row["file_name"]]}
    assert {name: cells["raga"] for name, cells in confirmed.items() if cells} == told
    assert len(told) == 2


def test_columns_of_suggestions_are_dropped_from_any_table(tmp_path: Path) -> None:
    path = tmp_path / "metadata.csv"
    path.write_text("file_name,raga,suggested_raga,suggested_colour\na.wav,Yaman,Bhairav,red\n", encoding="utf-8")
    table = with_known_columns(read_table(path), recording_columns())
    assert [cells for _, cells in table.rows] == [{"file_name": "a.wav", "raga": "Yaman"}]
    assert any("not used: suggested_raga, suggested_colour" in note for note in table.notes)


def test_nothing_is_overwritten_and_a_folder_without_recordings_is_told(
    rows: list[dict[str, str]], tmp_path: Path
) -> None:
    out = tmp_path / "metadata.csv"
    out.write_text("file_name,raga\n", encoding="utf-8")
    with pytest.raises(UsageError, match="nothing is overwritten"):
        suggested_labels.write_suggestions(out, rows)
    assert out.read_text(encoding="utf-8") == "file_name,raga\n"
    with pytest.raises(TalimError, match="no recordings here"):
        suggested_labels.suggest_labels(tmp_path)


def command(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main(["modes", *map(str, arguments)])
    out, said = capsys.readouterr()
    return int(done.value.code or 0), out, said


def test_command_writes_the_table_and_says_what_it_does(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggested_labels, "LIKELY_MODE", 0.0)
    out = tmp_path / "suggested.csv"
    status, said, _ = command(capsys, folder, "--tradition", "hindustani", "--suggest", out)
    assert status == 0
    assert out.is_file()
    words = " ".join(said.split())
    assert "suggestions for 2 of 3 recordings" in words
    assert "Nothing reads these columns" in words
    assert "suggested_raga becomes raga" in words


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tune.wav", "--suggest", "new.csv"], "is a file: leave it out"),
        ([".", "--suggest", "new.csv", "--tonic", "220"], "--tonic is of one recording"),
        (["."], "is a folder: give one recording, or --suggest"),
        ([".", "--suggest", "tune.wav"], "nothing is overwritten"),
    ],
)
def test_command_refuses_what_does_not_fit(
    capsys: pytest.CaptureFixture[str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(folder)
    status, _, said = command(capsys, *arguments)
    assert status == 2
    assert message in " ".join(said.split())
