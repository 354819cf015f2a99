"""`talim modes --fit`: a prepared corpus with labels, what is left out of it, and recognition with the result."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.sung_melodies import HOP_SECONDS, sing
from typer.testing import CliRunner

from talim import audio
from talim.cli.main import app
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.errors import TalimError, UsageError
from talim.evaluation import recognize_mode
from talim.evaluation.fit_modes import fit_corpus, fit_message
from talim.progress import Progress
from talim.traditions.fitted_modes import fit_modes, load_fitted, save_fitted
from talim.traditions.tradition import load

RATE_HZ = 16_000
ROWS = (  # recording, raga, tonic in Hz that is sung, tonic in the table
    ("a", "Yaman", 174.6, "174.6"),
    ("b", "Yaman", 155.0, ""),
    ("c", "Marwa", 164.8, "164.8"),
    ("d", "", 164.8, ""),
    ("e", "Nonsense", 164.8, ""),
)


def sung(cents: np.ndarray, tonic_hz: float) -> audio.Audio:
    hz = np.repeat(np.nan_to_num(tonic_hz * 2 ** (cents / 1200)), round(HOP_SECONDS * RATE_HZ))
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    return audio.Audio(sum(np.sin(k * phase) / k for k in range(1, 6)) / 4 * (hz > 0), RATE_HZ)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five recordings, of which three name a raga of the tradition, all on the training side but one."""
    folder = tmp_path_factory.mktemp("labelled")
    raga = load("hindustani").mode
    with open(folder / "metadata.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file_name", "raga", "tonic_hz", "tradition"])
        for seed, (name, label, tonic_hz, given) in enumerate(ROWS):
            cents = sing(raga(label if label in ("Yaman", "Marwa") else "Yaman"), seed, phrases=9)
            audio.write(folder / f"{name}.wav", sung(cents, tonic_hz))
            writer.writerow([f"{name}.wav", label, given, "hindustani"])
    out = folder / "corpus"
    prepare(folder, out, clip_seconds=10.0, sample_rate=RATE_HZ, progress=Progress())
    lines = [json.loads(line) for line in (out / "corpus.jsonl").read_text().splitlines()]
    for line in lines:
        line["split"] = "train"
    (out / "corpus.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


def test_fit_counts_labelled_recordings_and_says_what_is_left_out(corpus: Path, tmp_path: Path) -> None:
    result = fit_corpus(corpus, tmp_path / "fitted.npz")
    assert result["tradition"] == "hindustani"
    assert result["modes"] == {"Yaman": 2, "Marwa": 1}
    assert sorted(result["left_out"]) == ["d", "e"]
    assert result["left_out"]["d"] == "names no mode"
    text = fit_message(result)
    assert "2 modes of hindustani from 3 recordings: Yaman 2, Marwa 1" in text
    assert "fewer than 5 recordings of Yaman, Marwa" in text
    assert "left out: 2 recordings" in text


def test_notes_are_counted_from_the_given_tonic_and_from_an_estimated_one(corpus: Path, tmp_path: Path) -> None:
    fit_corpus(corpus, tmp_path / "fitted.npz")
    yaman = load_fitted(tmp_path / "fitted.npz").modes["yaman"]
    degrees = yaman.degrees.sum(0) / yaman.degrees.sum()
    in_scale = [round(cents / 10) % 120 for cents in load("hindustani").mode("Yaman").degrees_cents]
    on_scale = [sum(degrees[(each + shift) % 120] for each in in_scale) for shift in range(120)]
    assert int(np.argmax(on_scale)) in (0, 1, 119)  # both recordings, at no other tonic


@pytest.mark.parametrize(("gain", "left_out"), [(1e-3, False), (1e-6, True)])
def test_gain_does_not_matter_and_silence_is_left_out(
    corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, left_out: bool
) -> None:
    read = Corpus.read_clip

    def quiet(self: Corpus, clip: Any) -> audio.Audio:
        sound = read(self, clip)
        return replace(sound, samples=sound.samples * gain) if clip.recording == "a" else sound

    monkeypatch.setattr(Corpus, "read_clip", quiet)
    result = fit_corpus(corpus, tmp_path / "fitted.npz")
    assert result["modes"]["Yaman"] == (1 if left_out else 2)
    assert ("silent" in result["left_out"].get("a", "")) == left_out


def test_held_out_recordings_are_not_used(corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = Corpus.load(corpus)
    sides = tuple(
        clip.model_copy(update={"split": "held_out"}) if clip.recording == "a" else clip for clip in whole.clips
    )
    monkeypatch.setattr(Corpus, "load", lambda folder: replace(whole, clips=sides))
    result = fit_corpus(corpus, tmp_path / "fitted.npz")
    assert result["modes"] == {"Yaman": 1, "Marwa": 1}
    assert result["held_out"] == 1
    assert "not used: 1 held-out recording" in fit_message(result)


def test_a_corpus_without_labels_of_the_tradition_is_refused(corpus: Path, tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="no recording could be used; give a corpus whose metadata has a column makam"):
        fit_corpus(corpus, tmp_path / "fitted.npz", "makam")
    assert not (tmp_path / "fitted.npz").exists()


def test_nothing_is_overwritten(corpus: Path, tmp_path: Path) -> None:
    (tmp_path / "fitted.npz").write_text("mine")
    with pytest.raises(TalimError, match="exists already"):
        fit_corpus(corpus, tmp_path / "fitted.npz")
    assert (tmp_path / "fitted.npz").read_text() == "mine"


def test_fitted_modes_of_another_tradition_are_refused(tmp_path: Path) -> None:
    track = tmp_path / "track.npz"
    np.savez(track, cents=sing(load("makam").mode("Rast"), 0), hop_s=HOP_SECONDS, tonic_hz=174.6)
    fitted = fit_modes("hindustani", [])
    with pytest.raises(UsageError, match="of hindustani, not of makam"):
        recognize_mode.recognize_mode(track, "makam", fitted=[fitted])
    save_fitted(fitted, tmp_path / "fitted.npz")
    result = CliRunner().invoke(
        app, ["modes", str(track), "--tradition", "makam", "--fitted", str(tmp_path / "fitted.npz")]
    )
    assert result.exit_code != 0


def test_the_command_fits_and_recognises(corpus: Path, tmp_path: Path) -> None:
    out, track = tmp_path / "fitted.npz", tmp_path / "track.npz"
    np.savez(track, cents=sing(load("hindustani").mode("Marwa"), 9), hop_s=HOP_SECONDS, tonic_hz=164.8)
    fitted = CliRunner().invoke(app, ["modes", str(corpus), "--fit", str(out), "--json"], catch_exceptions=False)
    assert json.loads(fitted.stdout)["modes"] == {"Yaman": 2, "Marwa": 1}
    arguments = ["modes", str(track), "--tradition", "hindustani", "--fitted", str(out), "--json"]
    found = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert json.loads(found.stdout)["modes"][0]["slug"] == "marwa"
    both = CliRunner().invoke(app, ["modes", str(corpus), "--fit", str(out), "--tonic", "150"])
    assert "--fit does not go with --tonic" in both.output + str(both.exception)
