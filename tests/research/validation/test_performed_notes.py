"""Notes and ornaments of performances, on own-made sessions and annotations in the same layouts."""

from __future__ import annotations

import bz2
from pathlib import Path

import numpy as np
import pytest

from research.validation import performed_notes
from talim.errors import TalimError

STEP_HZ = (220.0, 247.0, 262.0, 294.0, 330.0)
RATE_HZ, TRACK_STEP = performed_notes.RATE_HZ, performed_notes.TRACK_STEP


def write_session(file: Path, notes: list[tuple[float, float, float]], shift: int = 7, octave: int = 0) -> None:
    """A session with a flat pitch track in each note (onset, seconds, Hz); onsets `shift` samples off the grid."""
    frames = np.arange(0, round((notes[-1][0] + notes[-1][1] + 1) * RATE_HZ), TRACK_STEP)
    hz = np.zeros(frames.size)
    regions = []
    for onset, seconds, pitch_hz in notes:
        start = round(onset * RATE_HZ / 2048) * 2048 + shift
        hz[(frames >= start) & (frames < start + seconds * RATE_HZ)] = pitch_hz
        value = pitch_hz * 2**octave
        regions.append(f'<point frame="{start}" duration="{round(seconds * RATE_HZ)}" value="{value}" label="" />')
    track = "".join(f'<point frame="{at}" value="{value}" label="" />' for at, value in zip(frames, hz, strict=True))
    text = (
        '<sv><data><model id="0" type="wavefile" /><model id="2" type="sparse" dimensions="2" dataset="1" />'
        '<model id="4" type="sparse" dimensions="3" subtype="region" dataset="3" />'
        f'<dataset id="1" dimensions="2">{track}</dataset><dataset id="3">{"".join(regions)}</dataset></data></sv>'
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(bz2.compress(text.encode()))


@pytest.fixture(scope="module")
def sessions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A song and a prelude, the prelude by two annotators, and one that nobody has edited."""
    folder = tmp_path_factory.mktemp("data")
    notes = [(0.5 + 0.6 * n, 0.5, STEP_HZ[2 * n * n % 5]) for n in range(30)]
    notes = [note for n, note in enumerate(notes) if n == 0 or note[2] != notes[n - 1][2]]
    late = [(onset + (0.2 if n % 3 == 0 else 0.0), 0.3, hz) for n, (onset, _, hz) in enumerate(notes)]
    write_session(folder / "rast--sarki--aksak--a--b" / "song" / "one.sv", notes, octave=1)
    write_session(folder / "rast--pesrev--hafif--a--b" / "prelude" / "one.sv", notes)
    write_session(folder / "rast--pesrev--hafif--a--b" / "prelude" / "two.sv", late)
    write_session(folder / "rast--pesrev--hafif--a--b" / "prelude" / "template.sv", late)
    write_session(folder / "rast--pesrev--hafif--c--d" / "untouched" / "one.sv", notes, shift=0)
    return folder


@pytest.fixture(scope="module")
def ornaments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two annotators of five slow glides: one of them found another ornament in two; a track in MBID.pitch.txt."""
    folder = tmp_path_factory.mktemp("ornaments")
    glides = [2.0 * n + 1.0 for n in range(5)]
    first = (
        [(at, "me_s") for at in glides]
        + [(at + 0.5, "me_e") for at in glides]
        + [(11.0, "c_k_me_s"), (12.0, "c_k_me_e")]
    )
    second = [(at, f"{'k' if n < 2 else 'me'}_s") for n, at in enumerate(glides)]
    second += [(at + 0.5, f"{'k' if n < 2 else 'me'}_e") for n, at in enumerate(glides)] + [(12.0, "none"), (12.5, "Q")]
    for name, rows in (("a.csv", first), ("b.csv ", second)):
        (folder / name).write_text("".join(f"{at},{label}\n" for at, label in sorted(rows)), encoding="utf-8")
    table = 'mbid ID,Raag,artist,Duration,OHVFilenames,OHVAnnotator1,OHVAnnotator1\nmb,X,Y,0:13,"a.csv\nb.csv",,\n'
    (folder / "Saraga-OHV-file-mapping.csv").write_text(table, encoding="utf-8")
    at = np.arange(0, 13, 0.0044444)
    cents = np.zeros(at.size)
    for n, begin in enumerate(glides):
        progress = np.clip((at - begin) / 0.5, 0, 1)
        cents += (1 if n % 2 == 0 else -1) * 150 * (1 - np.cos(np.pi * progress))
    hz = 200 * 2 ** (cents / 1200)
    (folder / "mb.pitch.txt").write_text("".join(f"{t:.6f}\t{value:.3f}\n" for t, value in zip(at, hz, strict=True)))
    return folder


def test_sessions_are_read_and_untouched_ones_left_out(sessions: Path) -> None:
    trials, untouched = performed_notes.read_notes(sessions)
    assert untouched == ["untouched"]
    assert [(trial.recording, trial.annotator, trial.sung) for trial in trials] == [
        ("prelude", "one", False), ("prelude", "two", False), ("song", "one", True),
    ]  # fmt: skip
    assert trials[0].hz.size == trials[1].hz.size > 20
    assert trials[0].seconds[0] == pytest.approx([0.5, 1.0], abs=0.03)


def test_flat_notes_are_found_in_any_octave_and_moved_ones_are_not(sessions: Path) -> None:
    trials, _ = performed_notes.read_notes(sessions)
    song = trials[2]
    for system in (performed_notes.notes_of_modes, performed_notes.notes_of_scores):
        found = system(song.track_hz)
        scores = performed_notes.score_notes((song.seconds, song.hz), found)
        assert scores[:2] == pytest.approx([1.0, 1.0])
        moved = performed_notes.moved_notes(found, song.seconds[0, 0], song.seconds[:, 1].max())
        assert performed_notes.score_notes((song.seconds, song.hz), moved)[1] < 0.5
    wrong = (song.seconds, song.hz * 2 ** (100 / 1200))
    assert performed_notes.score_notes((song.seconds, song.hz), wrong)[:2] == [1.0, 0.0]


def test_two_annotators_agree_where_their_onsets_do(sessions: Path) -> None:
    trials, _ = performed_notes.read_notes(sessions)
    ((recording, who, onset, *_),) = performed_notes.agreement_rows(trials)
    assert (recording, who) == ("prelude", "1 and 2")
    assert float(onset) == pytest.approx(2 / 3, abs=0.01)


def test_labels_compounds_and_blanks_in_names(ornaments: Path) -> None:
    ((first_name, first), (_, second)) = performed_notes.read_annotations(ornaments)["mb"]
    assert first_name == "a.csv"
    assert [trial.kind for trial in first if trial.required] == ["glide"] * 5
    assert [trial.kind for trial in first if not trial.required] == ["touch", "glide"]
    assert [trial.kind for trial in second] == ["touch"] * 2 + ["glide"] * 3


def test_report_measures_the_detector_and_the_annotators(sessions: Path, ornaments: Path) -> None:
    rows = performed_notes.ornament_rows(performed_notes.read_annotations(ornaments), ornaments)
    f1 = {(name, kind.split()[0]): cells for name, _, kind, *cells in rows}
    assert f1["another annotator", "glide"] == ["8", "6", "2", "0.75"]
    assert f1["control: another annotator, moved", "glide"][3] < f1["another annotator", "glide"][3]
    assert f1["`talim`", "glide"][:2] == ["8", "8"]
    page = performed_notes.report(sessions, ornaments, None)
    assert "Not measured, for want of a pitch track: mb." in page
    assert "Left out, as no onset was moved by hand: untouched." in page


@pytest.mark.parametrize("content", [b"no session", bz2.compress(b"<sv></sv>"), bz2.compress(b"<sv>")])
def test_a_broken_session_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "a--sarki--b--c--d" / "x" / "one.sv"
    file.parent.mkdir(parents=True)
    file.write_bytes(content)
    with pytest.raises(TalimError, match=r"one\.sv"):
        performed_notes.read_notes(tmp_path)


def test_wrong_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="give the folder `data`"):
        performed_notes.read_notes(tmp_path)
    with pytest.raises(TalimError, match="no such file"):
        performed_notes.read_annotations(tmp_path)
