"""Tests of `talim modes`: what it refuses, and how a result is printed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.log_lines import Lines

from talim import cli
from talim.cli.modes import _tonic_hz
from talim.corpus.labels import note_hz, note_name, parse_labels


def modes(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as done:
        cli.main(["modes", *map(str, arguments)])
    out, said = capsys.readouterr()
    return int(done.value.code or 0), out, said


@pytest.fixture
def track(tmp_path: Path) -> Path:
    """Ten minutes of a scale of seven degrees as a pitch track."""
    rng = np.random.default_rng(0)
    degrees = rng.choice([0, 200, 400, 600, 700, 900, 1100, 1200], size=6000)
    cents = np.repeat(degrees, 10) + rng.normal(0, 5, 60_000)
    np.savez(tmp_path / "track.npz", cents=cents.astype(np.float32), hop_s=0.01, tonic_hz=146.8)
    return tmp_path / "track.npz"


def test_modes_json_is_one_document(capsys: pytest.CaptureFixture[str], track: Path) -> None:
    status, out, _ = modes(capsys, track, "--tradition", "hindustani", "--json")
    assert status == 0
    assert json.loads(out)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("empty.npz", b""),
        ("words.npz", b"la la la"),
        ("zip.npz", b"PK\x03\x04" + bytes(200)),
        ("no-such.npz", None),
        ("words.wav", b"la la la"),
    ],
)
def test_modes_of_a_file_that_is_none_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    status, out, said = modes(capsys, tmp_path / name)
    assert status in (1, 2)
    assert (out, said.count("\n")) == ("", 1)
    assert name in said
    assert "bug in talim" not in said


@pytest.mark.parametrize("shape", ["(1000000000000,)", "(-1,)", "(4, 4, 4)"])
def test_modes_of_an_array_whose_shape_lies_is_one_line(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, shape: str
) -> None:
    import zipfile

    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    data = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode() + bytes(64)
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("cents.npy", data)
    np.savez(tmp_path / "rest.npz", hop_s=0.01, tonic_hz=146.8)
    with zipfile.ZipFile(tmp_path / "lie.npz", "a") as archive, zipfile.ZipFile(tmp_path / "rest.npz") as rest:
        for member in rest.namelist():
            archive.writestr(member, rest.read(member))
    status, out, said = modes(capsys, tmp_path / "lie.npz")
    assert status in (1, 2)
    assert (out, said.count("\n")) == ("", 1)
    assert "bug in talim" not in said


@pytest.mark.parametrize(
    "options", [("--tonic", "nan"), ("--tonic", "0"), ("--tonic", "1e308"), ("--tradition", "x" * 300)]
)
def test_modes_with_values_out_of_range_is_one_line(
    capsys: pytest.CaptureFixture[str], track: Path, options: tuple[str, str]
) -> None:
    status, out, said = modes(capsys, track, *options)
    assert status in (1, 2)
    assert (out, said.count("\n")) == ("", 1)
    assert "bug in talim" not in said


@pytest.mark.parametrize(
    ("written", "hz"),
    [("Ab", 207.65), ("ab", 207.65), ("Bb", 233.08), ("Eb", 155.56), ("F#", 185.0), ("B", 246.94), ("Sa = D4", 293.66)],
)
def test_a_tonic_by_its_note_is_one_frequency_wherever_it_is_given(written: str, hz: float) -> None:
    assert parse_labels({"tonic": written}).tonic_hz == pytest.approx(hz, abs=0.005)  # the column, and so prepare
    said, silent = Lines(), Lines()
    assert _tonic_hz(written, said) == pytest.approx(hz, abs=0.005)
    (line,) = said.lines
    assert f"as {hz:.1f} Hz at A4 = 440 Hz" in line
    assert ("German B" in line) == (written == "B")
    assert _tonic_hz(f"{hz} Hz", silent) == hz
    assert silent.lines == []


def test_the_note_of_a_frequency_is_the_nearest_one() -> None:
    assert [note_name(hz) for hz in (440.0, 207.3, 261.7, 246.0, 27.5)] == ["A4", "G#3", "C4", "B3", "A0"]
    assert note_hz(note_name(277.0)) == pytest.approx(277.0, rel=0.03)


@pytest.mark.parametrize("written", ["As", "Es", "H", "Cis", "re", "komal re", "Sa", "C minor", "C#/E", "D | E", ""])
def test_a_tonic_that_is_ambiguous_or_no_note_is_refused_with_the_forms_that_are_read(
    capsys: pytest.CaptureFixture[str], track: Path, written: str
) -> None:
    assert parse_labels({"tonic": "" if "|" in written else written}).tonic_hz is None
    status, out, said = modes(capsys, track, "--tonic", written)
    assert (status, out, said.count("\n")) == (2, "", 1)
    assert "one note by its English name: C#, Db, Ab, E flat, B, D4" in said


def test_suggestions_for_no_recording_end_with_status_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "takes").mkdir()
    (tmp_path / "takes" / "words.wav").write_bytes(b"la la la" * 100)
    status, out, said = modes(capsys, tmp_path / "takes", "--suggest", tmp_path / "s.csv")
    assert status == 1
    assert "of none could anything be told" in out
    assert "words.wav" in said
