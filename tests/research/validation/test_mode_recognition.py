"""The confusion report: its bookkeeping on small sung folders, its figures on the real tracks where they are."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from fixtures.sung_melodies import HOP_SECONDS, sing

from research.validation import mode_dataset, mode_recognition
from talim.errors import TalimError
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.tradition import load

SHARED = Path(__file__).parents[4] / "shared" / "data"
HINDUSTANI = load("hindustani")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of two ragas, and one of a raga that nobody knows."""
    where = tmp_path_factory.mktemp("tracks")
    rows = []
    for n, (raga, recording) in enumerate(
        [("Yaman", "a"), ("Yaman", "a"), ("Todi", "b"), ("Marwa", "c"), ("Xyz", "d")]
    ):
        cents = sing(HINDUSTANI.mode("Bhairav" if raga == "Xyz" else raga), n, phrases=25)
        np.savez(where / f"{n}.npz", cents=cents, hop_s=HOP_SECONDS, tonic_hz=150.0)
        rows.append(
            {"id": str(n), "file": f"{n}.npz", "recording_id": recording, "raga": raga, "release": ""}
        )
    rows[2]["release"] = rows[3]["release"] = "one release"
    with open(where / "metadata.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return where


def test_trials_know_their_mode_and_what_leaves_with_them(folder: Path) -> None:
    found, strangers = mode_dataset.trials(folder, HINDUSTANI)
    assert strangers == ["Xyz"]
    assert [HINDUSTANI.modes[trial.truth].name for trial in found] == ["Yaman", "Yaman", "Todi", "Marwa"]
    assert found[0].group == found[1].group != found[2].group == found[3].group


def test_the_report_tells_all(folder: Path) -> None:
    page = mode_recognition.report(folder, None)
    assert "4 tracks of 3 recordings" in page
    assert "| Yaman | 2 | 1 | 1 1 | Yaman 2 |" in page
    for part in ("one recording out", "one mode out", "tonic must be found", "plain pitch histogram", "Xyz"):
        assert part in page
    assert page == mode_recognition.report(folder, None)


def test_ties_count_against_the_truth() -> None:
    assert mode_dataset.ranks(np.array([[0.5, 0.5, 0.1], [0.2, 0.9, 0.1]]), [0, 1]).tolist() == [2, 1]


def test_a_chain_of_shared_releases_and_works_is_one_group() -> None:
    rows = [
        {"release": "r", "work_mbid": ""},
        {"release": "r", "work_mbid": "w,v"},
        {"release": "", "work_mbid": "v"},
    ]
    assert len(set(mode_dataset.leaving_together([*rows, {"release": "", "work_mbid": ""}]))) == 2


def test_a_folder_without_tracks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match=r"metadata\.csv"):
        mode_recognition.report(tmp_path, None)


@pytest.mark.real
@pytest.mark.parametrize(
    ("slug", "part", "best", "best_three", "tonic"),
    [("hindustani", "hindustani", 0.65, 0.82, 0.68), ("makam", "makam_pitch", 0.65, 0.8, 0.72)],
)
def test_the_figures_on_real_tracks_hold(
    slug: str, part: str, best: float, best_three: float, tonic: float
) -> None:
    if not (SHARED / part).is_dir():
        pytest.skip(f"the real pitch tracks (shared/data/{part}) are not here")
    tradition = load(slug)
    found, _ = mode_dataset.trials(SHARED / part, tradition)
    listener = ModeRecognizer([tradition])
    scores, _ = mode_dataset.held_out_scores(listener, found, [trial.group for trial in found])
    places = mode_dataset.ranks(scores, [trial.truth for trial in found])
    plain = mode_dataset.ranks(
        mode_dataset.histogram_scores(found, tradition), [trial.truth for trial in found]
    )
    assert np.mean(places == 1) >= best > 2 * np.mean(plain == 1)
    assert np.mean(places <= 3) >= best_three > np.mean(plain <= 3) + 0.2
    assert (
        mode_dataset.tonic_found(mode_dataset.judgements(listener, found, tonic_known=False)).mean() >= tonic
    )
