"""Mode recognition of one file: ranked modes, the tonic, and one-line errors for files without a melody."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from fixtures.sung_melodies import HOP_SECONDS, sing

from talim import audio
from talim.cli.main import app
from talim.errors import TalimError, UsageError
from talim.evaluation import recognize_mode as modes
from talim.traditions.tradition import load

TONIC_HZ = 174.6
YAMAN = sing(load("hindustani").mode("Yaman"), 3)


def pitch_track(folder: Path, cents: np.ndarray = YAMAN, **values: object) -> Path:
    """An .npz of `cents`; a value of None leaves a key out."""
    keys: dict[str, object] = {"cents": cents, "hop_s": HOP_SECONDS, "tonic_hz": TONIC_HZ} | values
    np.savez(folder / "track.npz", **{key: np.asarray(value) for key, value in keys.items() if value is not None})
    return folder / "track.npz"


def sounding(folder: Path, cents: np.ndarray, tonic_hz: float, gain: float = 0.5, rate_hz: int = 16_000) -> Path:
    """A reedy tone that sings `cents`, silent where they are NaN."""
    per_frame = round(HOP_SECONDS * rate_hz)
    hz = np.repeat(np.nan_to_num(tonic_hz * 2 ** (cents / 1200)), per_frame)
    phase = 2 * np.pi * np.cumsum(hz) / rate_hz
    tone = sum(np.sin(order * phase) / order for order in range(1, 6)) / 2 * (hz > 0)
    audio.write(folder / "sung.wav", audio.Audio(gain * tone, rate_hz))
    return folder / "sung.wav"


def test_recognize_mode_of_pitch_track_with_tonic_ranks_all_modes(tmp_path: Path) -> None:
    result = modes.recognize_mode(pitch_track(tmp_path), "hindustani")
    assert set(result) == {"tonic_hz", "note_seconds", "modes"}
    assert result["tonic_hz"] == TONIC_HZ
    assert result["modes"][0]["slug"] == "yaman"
    assert all(set(row) == {"name", "slug", "score"} for row in result["modes"])
    scores = [row["score"] for row in result["modes"]]
    assert scores == sorted(scores, reverse=True)
    assert sum(scores) == pytest.approx(1)
    assert len(scores) == len(load("hindustani").modes)


def test_recognize_mode_without_tradition_ranks_those_of_all(tmp_path: Path) -> None:
    result = modes.recognize_mode(pitch_track(tmp_path))
    assert {row["tradition"] for row in result["modes"]} == {"hindustani", "makam"}
    assert result["modes"][0]["name"] == "Yaman"


def test_recognize_mode_with_tonic_overrides_that_of_the_file(tmp_path: Path) -> None:
    wrong = pitch_track(tmp_path, YAMAN + 1200 * np.log2(TONIC_HZ / 200), tonic_hz=200.0)
    right = modes.recognize_mode(wrong, "hindustani", TONIC_HZ)
    assert right["tonic_hz"] == TONIC_HZ
    assert right["modes"][0]["slug"] == "yaman"
    assert modes.recognize_mode(wrong, "hindustani")["modes"][0]["score"] < right["modes"][0]["score"]


def test_recognize_mode_with_another_tonic_than_the_recording_suggests_gives_both(tmp_path: Path) -> None:
    bhoopali = sing(load("hindustani").mode("Bhoopali"), 3) + 1200 * np.log2(TONIC_HZ / 440)
    file = pitch_track(tmp_path, bhoopali, tonic_hz=None)
    right = modes.recognize_mode(file, "hindustani", 2 * TONIC_HZ)  # in another octave
    assert "suggested" not in right
    assert right["modes"][0]["slug"] == "bhoopali"
    for semitones in (1, 5):
        wrong = modes.recognize_mode(file, "hindustani", TONIC_HZ * 2 ** (semitones / 12))
        other = wrong["suggested"]
        assert other["tonic_hz"] == pytest.approx(TONIC_HZ, rel=0.01)
        assert (other["note"], other["slug"]) == ("F3", "bhoopali")
        scores = {row["slug"]: row["score"] for row in wrong["modes"]}
        assert scores["bhoopali"] < 0.05 < other["score"]  # these notes are no Bhoopali of the given tonic
        said = modes.modes_message(wrong).splitlines()
        assert any(line.startswith(f"With the given tonic, {wrong['tonic_hz']:.1f} Hz: most likely ") for line in said)
        assert said[-1].startswith(f"The recording itself suggests a tonic at {other['tonic_hz']:.1f} Hz (F3); with it")
        assert "the best guess is Bhoopali (" in said[-1]


def test_recognize_mode_without_tonic_estimates_it(tmp_path: Path) -> None:
    from_a4 = YAMAN + 1200 * np.log2(TONIC_HZ / 440)
    result = modes.recognize_mode(pitch_track(tmp_path, from_a4, tonic_hz=None), "hindustani")
    assert result["tonic_hz"] == pytest.approx(TONIC_HZ, rel=0.01)
    assert result["modes"][0]["slug"] == "yaman"


def test_recognize_mode_of_audio_is_independent_of_gain(tmp_path: Path) -> None:
    loud = modes.recognize_mode(sounding(tmp_path, YAMAN, 196.0), "hindustani")
    assert loud["tonic_hz"] == pytest.approx(196.0, rel=0.01)
    assert loud["modes"][0]["slug"] == "yaman"
    quiet = modes.recognize_mode(sounding(tmp_path, YAMAN, 196.0, gain=0.02), "hindustani")
    assert quiet["modes"][0]["slug"] == "yaman"
    assert quiet["tonic_hz"] == pytest.approx(loud["tonic_hz"], rel=0.003)


@pytest.mark.parametrize("name", ["Hindustani", "hindustani", "HINDUSTANI"])
def test_resolve_tradition_accepts_any_spelling(name: str) -> None:
    assert modes.resolve_tradition(name).slug == "hindustani"


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"cents": None}, "'cents'"),
        ({"hop_s": None}, "'hop_s'"),
        ({"hop_s": 0.0}, "hop_s must be one number above 0"),
        ({"hop_s": [0.01, 0.02]}, "hop_s must be one number above 0"),
        ({"tonic_hz": -3.0}, "tonic_hz must be one number above 0"),
        ({"tonic_hz": "Sa"}, "tonic_hz must be one number above 0"),
        ({"cents": np.zeros((3, 4))}, "one row of numbers"),
        ({"cents": np.array(["S", "R"])}, "one row of numbers"),
        ({"cents": np.empty(0)}, "one row of numbers"),
        ({"cents": np.full(500, np.nan)}, "unvoiced from end to end"),
        ({"cents": np.full(500, np.inf)}, "unvoiced from end to end"),
        ({"cents": np.zeros(500)}, "too little melody"),
    ],
)
def test_recognize_mode_of_invalid_pitch_track_raises_one_line(
    tmp_path: Path, values: dict[str, object], told: str
) -> None:
    with pytest.raises(TalimError, match=told) as caught:
        modes.recognize_mode(pitch_track(tmp_path, **values))
    assert "track.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_recognize_mode_of_unusable_file_raises_one_line(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("sa re ga ma", encoding="utf-8")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 but no archive")
    audio.write(tmp_path / "silent.wav", audio.Audio(np.zeros((1, 32_000)), 16_000))
    for name, told in (
        ("absent.wav", "no such file"),
        ("", "not a file"),
        ("words.txt", "not audio"),
        ("broken.npz", "cannot be read"),
        ("silent.wav", "silent"),
    ):
        with pytest.raises(TalimError, match=told) as caught:
            modes.recognize_mode(tmp_path / name)
        assert "\n" not in str(caught.value)


def test_recognize_mode_of_unknown_tradition_or_invalid_tonic_raises(tmp_path: Path) -> None:
    file = pitch_track(tmp_path)
    with pytest.raises(TalimError, match="did you mean hindustani"):
        modes.recognize_mode(file, "hindustany")
    for tonic_hz in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(UsageError, match="--tonic must be"):
            modes.recognize_mode(file, None, tonic_hz)


def test_recognize_mode_of_notes_that_two_ragas_share_says_what_to_listen_for(tmp_path: Path) -> None:
    file = pitch_track(tmp_path, sing(load("hindustani").mode("Deshkar"), 1, phrases=8))
    result = modes.recognize_mode(file, "hindustani", TONIC_HZ)
    likelier, other = result["modes"][:2]
    assert (likelier["slug"], other["slug"]) == ("deshkar", "bhoopali")
    assert [row["slug"] for row in result["alike"]] == ["deshkar", "bhoopali"]
    assert modes.best_guess(result) == ("Deshkar or Bhoopali", pytest.approx(likelier["score"] + other["score"]))
    lines = modes.modes_message(result).splitlines()
    at = lines.index(f"Most likely Deshkar or Bhoopali, its tonic at {TONIC_HZ} Hz.")
    assert "this recording does not tell them apart" in lines[at + 1]
    assert lines[at + 2 :] == [
        "  Deshkar: notes S R G P D; strong D G; the notes of Bhoopali, centred on dha and the upper half",
        "  Bhoopali: notes S R G P D; strong G D; five notes; rests on ga and re, weight below pa",
    ]
    told = result | {"alike": []}
    assert modes.best_guess(told) == ("Deshkar", likelier["score"])
    assert "does not tell" not in modes.modes_message(told)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("Beyati", "notes 0 7 13 22 31 35 44; strong 22; contour both; the scale of Uşşak, begun round its güçlü"),
        ("Hicaz Uzzâl", "notes 0 5 17 22 31 39 44; strong 31; contour both"),
    ],
)
def test_listen_for_names_notes_strong_notes_contour_and_remark(name: str, told: str) -> None:
    assert modes.listen_for(load("makam"), load("makam").mode(name)) == told


def test_modes_command_prints_json_or_a_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = str(pitch_track(tmp_path))
    app(["modes", file, "--tradition", "hindustani", "--json"], standalone_mode=False)
    document = json.loads(capsys.readouterr().out)
    assert document["modes"][0]["slug"] == "yaman"
    app(["modes", file], standalone_mode=False)
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].startswith("1. Yaman")
    assert shown[-1].endswith("Hz.")
    assert len(shown) == modes.MAX_MODES_SHOWN + 2
    assert shown[-2].startswith("Per cent: the probability among the ")


def test_one_mode_alone_is_no_recognition() -> None:
    only = {"tonic_hz": 220.0, "modes": [{"name": "Own", "slug": "own", "score": 1.0}]}
    assert "has one mode only, so the share says nothing" in modes.modes_message(only)
    two = {"tonic_hz": 220.0, "modes": [{"name": n, "slug": n, "score": s} for n, s in (("Own", 0.9), ("Other", 0.1))]}
    assert "Most likely Own, its tonic at 220.0 Hz." in modes.modes_message(two)


def test_message_of_a_short_melody_says_that_it_is_too_little(tmp_path: Path) -> None:
    result = modes.recognize_mode(pitch_track(tmp_path), "hindustani")
    assert result["note_seconds"] > 0
    unsure = result | {"note_seconds": 6.2, "modes": [row | {"score": 0.4} for row in result["modes"]]}
    said = "There are only 6 s of steady notes: too little to tell a mode by; 20 s or more tell more."
    assert said in modes.modes_message(unsure)
    assert said not in modes.modes_message(unsure | {"note_seconds": 60.0})
