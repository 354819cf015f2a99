"""Instruments that are written beside recordings: where they are looked for, and what is no evidence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fixtures.log_lines import Lines

from talim import audio
from talim.audio import Audio
from talim.evaluation.suggested_instruments import suggest_instruments
from talim.evaluation.suggested_labels import suggestions_message, write_suggestions

SOUND = Audio(np.full((1, 800), 0.1, np.float32), 8000)


def recorded(folder: Path, name: str, **tags: str) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    audio.write(path, SOUND, tags)
    return path


def found(folder: Path, *files: Path, log: Lines | None = None) -> dict[str, tuple[str, str]]:
    suggested = suggest_instruments(folder, files, log or Lines())
    return {file.name: (named.names, named.origin) for file, named in suggested.items()}


def test_each_place_is_read_and_named(tmp_path: Path) -> None:
    folder = tmp_path / "archive"
    tagged = recorded(folder, "1.flac", title="Hicaz taksim (ney)")
    explicit = recorded(folder, "2.wav", instrument="Ud; Ses")
    below = recorded(folder, "sitar solos/yaman तबला.wav")
    told = recorded(folder, "3.wav")
    told.with_suffix(".txt").write_text("a slow alap on the sarod, without tabla", encoding="utf-8")
    rows = "file_name,title,performer\n4.wav,尺八独奏,Violin Jones\n"
    (folder / "metadata.csv").write_text(rows, encoding="utf-8")
    titled = recorded(folder, "4.wav")
    silent = recorded(folder, "take 5.wav")
    assert found(folder, tagged, explicit, below, told, titled, silent) == {
        "1.flac": ("ney", "ney: tag title"),
        "2.wav": ("oud|voice", "oud: tag instrument; voice: tag instrument"),
        "yaman तबला.wav": ("tabla|sitar", "tabla: file name; sitar: folder sitar solos"),
        "3.wav": ("sarod", "sarod: text 3.txt"),
        "4.wav": ("shakuhachi", "shakuhachi: column title"),
    }


def test_the_given_folder_itself_may_name_the_instrument(tmp_path: Path) -> None:
    folder = tmp_path / "Ney recordings"
    file = recorded(folder, "1.wav")
    assert found(folder, file) == {"1.wav": ("ney", "ney: folder Ney recordings")}
    above = tmp_path / "Ney recordings" / "takes"
    assert found(above, recorded(above, "1.wav")) == {}  # folders above were not given


def test_performer_tag_counts_in_brackets_only(tmp_path: Path) -> None:
    file = recorded(tmp_path, "1.wav", performer="Ney Brothers (tanbur)", artist="Sitar Singh")
    assert found(tmp_path, file) == {"1.wav": ("tanbur", "tanbur: tag performer")}


def test_prompt_of_a_generated_file_is_no_evidence(tmp_path: Path) -> None:
    file = recorded(tmp_path, "1.wav", title="slow sitar", ai_generated="AI-generated", software="talim 1")
    assert found(tmp_path, file) == {}


def test_instruments_in_the_table_are_not_suggested_again(tmp_path: Path) -> None:
    first, second = recorded(tmp_path, "sitar 1.wav"), recorded(tmp_path, "sitar 2.wav")
    (tmp_path / "metadata.csv").write_text("file_name,instruments\nsitar 1.wav,sarod\n", encoding="utf-8")
    assert list(found(tmp_path, first, second)) == ["sitar 2.wav"]


def test_unreadable_table_is_told(tmp_path: Path) -> None:
    file, log = recorded(tmp_path, "sitar.wav"), Lines()
    (tmp_path / "metadata.csv").write_bytes(b"\xff\xfe\x00")
    assert found(tmp_path, file, log=log)["sitar.wav"][0] == "sitar"
    assert any("no instruments are taken from a table" in line for line in log.lines)


def test_columns_stand_last_and_the_message_names_one_to_confirm(tmp_path: Path) -> None:
    rows = [
        {"file_name": "a.wav", "suggested_instruments": "ney", "suggested_instruments_from": "ney: file name"},
        {"file_name": "b.wav", "suggested_tonic_hz": "220.0"},
    ]
    write_suggestions(tmp_path / "new.csv", rows)
    header = (tmp_path / "new.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "file_name,suggested_tonic_hz,suggested_instruments,suggested_instruments_from"
    assert "suggested_instruments becomes instruments" in suggestions_message(tmp_path, tmp_path, rows[:1])


@pytest.mark.parametrize("suffix", [".mp3", ".ogg"])
def test_tags_of_compressed_files_are_read(tmp_path: Path, suffix: str) -> None:
    import soundfile

    path = tmp_path / f"1{suffix}"
    with soundfile.SoundFile(path, "w", 8000, 1) as file:
        file.title = "Raga Yaman, bansuri"
        file.write(np.full(8000, 0.1))
    assert found(tmp_path, path) == {path.name: ("bansuri", "bansuri: tag title")}
