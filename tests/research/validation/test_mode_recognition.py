"""Mode recognition: grouping and ranks on small sung folders, accuracy on the real tracks if they are present."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from fixtures.sung_melodies import HOP_SECONDS, sing

from research.validation import mode_calibration, mode_dataset, mode_recognition
from talim.errors import TalimError
from talim.traditions import mode_recognition as mode_recognizer
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.tradition import load

SHARED = Path(__file__).parents[4] / "shared" / "data"
HINDUSTANI = load("hindustani")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three recordings of three ragas, and one of an unknown raga."""
    tracks = tmp_path_factory.mktemp("tracks")
    rows = []
    for n, (raga, recording) in enumerate(
        [("Yaman", "a"), ("Yaman", "a"), ("Todi", "b"), ("Marwa", "c"), ("Xyz", "d")]
    ):
        cents = sing(HINDUSTANI.mode("Bhairav" if raga == "Xyz" else raga), n, phrases=25)
        np.savez(tracks / f"{n}.npz", cents=cents, hop_s=HOP_SECONDS, tonic_hz=150.0)
        rows.append({"id": str(n), "file": f"{n}.npz", "recording_id": recording, "raga": raga, "release": ""})
    rows[2]["release"] = rows[3]["release"] = "one release"
    with open(tracks / "metadata.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return tracks


def test_load_trials_gives_modes_groups_and_unknown_modes(folder: Path) -> None:
    trials, unknown = mode_dataset.load_trials(folder, HINDUSTANI)
    assert unknown == ["Xyz"]
    assert [HINDUSTANI.modes[trial.truth].name for trial in trials] == ["Yaman", "Yaman", "Todi", "Marwa"]
    assert trials[0].group == trials[1].group != trials[2].group == trials[3].group


@pytest.fixture(autouse=True)
def one_performance(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mode_calibration, "performed", lambda tradition: [])


def test_report_has_every_table_and_is_deterministic(folder: Path) -> None:
    page = mode_recognition.report(folder, None, None)
    assert "4 tracks of 3 recordings" in page
    assert "| Yaman | 2 | 1 | 1 1 | Yaman 2 |" in page
    for part in (
        "one recording out",
        "one mode out",
        "tonic estimated",
        "plain pitch histogram",
        "Xyz",
        "not told apart",
    ):
        assert part in page
    assert page == mode_recognition.report(folder, None, None)


def test_ranks_with_ties_puts_the_true_mode_last() -> None:
    assert mode_dataset.ranks(np.array([[0.5, 0.5, 0.1], [0.2, 0.9, 0.1]]), [0, 1]).tolist() == [2, 1]


def test_cross_validation_groups_joins_rows_over_shared_releases_and_works() -> None:
    rows = [{"release": "r", "work_mbid": ""}, {"release": "r", "work_mbid": "w,v"}, {"release": "", "work_mbid": "v"}]
    assert len(set(mode_dataset.cross_validation_groups([*rows, {"release": "", "work_mbid": ""}]))) == 2


def test_report_of_a_folder_without_tracks_fails(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match=r"metadata\.csv"):
        mode_recognition.report(tmp_path, None, None)


def test_parts_of_a_melody_have_its_notes_and_their_own_time(folder: Path) -> None:
    trial = mode_dataset.load_trials(folder, HINDUSTANI)[0][0]
    (melody,) = mode_calibration.of_trials([trial])
    parts = melody.parts(10.0)
    assert len(parts) == 3
    assert all(0 <= part.notes.onset_seconds.min() <= part.notes.onset_seconds.max() <= 10.0 for part in parts)
    assert sum(part.notes.cents.size for part in parts) < melody.notes.cents.size
    assert melody.parts(1e4) == []


def test_half_seconds_that_is_fitted_has_the_lowest_log_loss() -> None:
    """Clips whose first mode is wrong half of the time: a probability of one would be punished."""
    scores = np.array([[0.99, 0.01], [0.99, 0.01]])
    clips = [mode_calibration.Melody("a", truth, None) for truth in (0, 1)]  # type: ignore[arg-type]
    fair = mode_calibration.log_loss(np.full((2, 2), 0.5), clips)
    assert fair == pytest.approx(np.log(2))
    assert mode_calibration.log_loss(scores, clips) > fair


@pytest.mark.real
def test_modes_called_likely_in_short_passages_are_as_often_right_as_their_probability_says() -> None:
    """Within two standard errors, in 10 to 60 s; at a weight that does not follow the length, they are not."""
    for slug, part in (("hindustani", "hindustani"), ("makam", "makam_pitch")):
        if not (SHARED / part).is_dir():
            pytest.skip(f"the real pitch tracks (shared/data/{part}) are not here")
        tradition = load(slug)
        melodies = mode_calibration.of_trials(mode_dataset.load_trials(SHARED / part, tradition)[0])
        clips = [clip for each in melodies for seconds in (10.0, 60.0) for clip in each.parts(seconds)[1:2]]
        for half_seconds, is_calibrated in ((mode_recognizer.HALF_SECONDS, True), (0.0, slug == "makam")):
            scores, kept = mode_calibration.judged(ModeRecognizer([tradition]), clips, half_seconds)
            likely = scores.max(1) >= 0.5
            right = (scores.argmax(1) == [clip.truth for clip in kept])[likely]
            said = scores.max(1)[likely]
            error = np.sqrt(np.mean(said * (1 - said)) / said.size)
            assert (right.mean() >= said.mean() - 2 * error) == is_calibrated


@pytest.mark.real
@pytest.mark.parametrize(
    ("slug", "part", "top_1", "top_3", "tonic"),
    [("hindustani", "hindustani", 0.65, 0.82, 0.68), ("makam", "makam_pitch", 0.65, 0.8, 0.72)],
)
def test_held_out_accuracy_on_real_tracks_holds(slug: str, part: str, top_1: float, top_3: float, tonic: float) -> None:
    if not (SHARED / part).is_dir():
        pytest.skip(f"the real pitch tracks (shared/data/{part}) are not here")
    tradition = load(slug)
    trials, _ = mode_dataset.load_trials(SHARED / part, tradition)
    recognizer = ModeRecognizer([tradition])
    scores, _ = mode_dataset.held_out_scores(recognizer, trials, [trial.group for trial in trials])
    ranks = mode_dataset.ranks(scores, [trial.truth for trial in trials])
    baseline = mode_dataset.ranks(mode_dataset.histogram_scores(trials, tradition), [trial.truth for trial in trials])
    assert np.mean(ranks == 1) >= top_1 > 2 * np.mean(baseline == 1)
    assert np.mean(ranks <= 3) >= top_3 > np.mean(baseline <= 3) + 0.2
    assert mode_dataset.tonic_found(mode_dataset.judgements(recognizer, trials, tonic_known=False)).mean() >= tonic
