"""The published folds of makam recordings, on a small data set of sung melodies in the same layout."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from fixtures.sung_melodies import sing

from research.validation import makam_folds
from talim.errors import TalimError
from talim.progress import Progress
from talim.traditions.note_transcription import transcribe_notes
from talim.traditions.tradition import load

MAKAM = load("makam")
TONIC_HZ = 220.0


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Three folds of two recordings each of two makams, and one recording without a pitch track."""
    folder = tmp_path_factory.mktemp("otmm")
    folds: list[tuple[int, dict[str, list[dict[str, object]]]]] = [(n, {"testing": []}) for n in range(3)]
    seed = 0
    for name in ("Rast", "Segah"):
        (folder / name).mkdir()
        for n in range(6):
            seed += 1
            cents = sing(MAKAM.mode(name), seed, phrases=15)
            each = np.arange(0, cents.size, makam_folds.HOP_SECONDS / 0.01).astype(int)
            hz = np.nan_to_num(TONIC_HZ * 2 ** (cents[each] / 1200))
            (folder / name / f"{name}-{n}.pitch").write_text("\n".join(f"{value:.1f}" for value in hz))
            folds[n % 3][1]["testing"].append({"source": f"{name}-{n}", "mode": name, "tonic": TONIC_HZ})
    folds[0][1]["testing"].append({"source": "lost", "mode": "Rast", "tonic": TONIC_HZ})
    (folder / "folds.json").write_text(json.dumps(folds))
    return folder, folder / "folds.json"


@pytest.mark.slow
def test_report_tells_the_makams_apart(data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makam_folds, "SMOOTHING_GRID", (20.0,))
    trials, missing = makam_folds.read_trials(*data, MAKAM, Progress())
    assert (len(trials), missing) == (12, ["lost"])
    page = makam_folds.report(trials, missing, MAKAM, Progress())
    rows = {line.split("|")[1].strip(): line for line in page.splitlines() if line.startswith("| ")}
    assert rows["facts and training folds, 20 makams"].split("|")[2].strip().startswith("100.0 %")
    assert "\n- lost\n" in page
    assert "| Segâh | 6 | 6 |" in page


def test_settings_of_a_fold_do_not_see_its_recordings(data: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makam_folds, "SMOOTHING_GRID", (20.0,))
    trials, _ = makam_folds.read_trials(*data, MAKAM, Progress())
    tradition = makam_folds.restricted(MAKAM, trials)
    chosen = makam_folds.choose_settings(makam_folds.Histograms(trials, tradition), Progress())
    noise = transcribe_notes(np.repeat(np.random.default_rng(0).uniform(0, 1200, 400), 100), makam_folds.HOP_SECONDS)
    spoilt = [replace(trial, notes=noise) if trial.fold == 1 else trial for trial in trials]
    again = makam_folds.choose_settings(makam_folds.Histograms(spoilt, tradition), Progress())
    assert chosen[1] == again[1]


def test_counts_of_parts_add_up(data: tuple[Path, Path]) -> None:
    trials, _ = makam_folds.read_trials(*data, MAKAM, Progress())
    whole = makam_folds.fit(trials, MAKAM)
    parts = makam_folds.add_counts([makam_folds.fit(trials[:5], MAKAM), makam_folds.fit(trials[5:], MAKAM)])
    for slug, counts in whole.modes.items():
        assert parts.modes[slug].recordings == counts.recordings
        np.testing.assert_allclose(parts.modes[slug].intervals, counts.intervals)


def test_a_folder_without_the_recordings_is_refused(data: tuple[Path, Path], tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="none of the recordings"):
        makam_folds.read_trials(tmp_path, data[1], MAKAM, Progress())
