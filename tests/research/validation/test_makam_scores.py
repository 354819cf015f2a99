"""Makam recognition from scores, on a small collection of own melodies in the same layout."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.validation import makam_scores
from talim.errors import TalimError
from talim.progress import Progress
from talim.traditions.tradition import load

MAKAM = load("makam")
HEADER = "Sira\tKod\tNota53\tNotaAE\tKoma53\tKomaAE\tPay\tPayda\tMs\tLNS\tBas\tSoz1\tOffset\n"
FINALS = {"rast": 296, "segah": 313, "saba": 305}  # written


def write_score(file: Path, commas: list[int]) -> None:
    rows = [f"{n}\t9\tX\tX\t{comma}\t{comma}\t1\t8\t300\t95\t96\t\t0.0\n" for n, comma in enumerate(commas, 1)]
    file.write_text(HEADER + "".join(rows), encoding="utf-8")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four scores of each makam: its degrees in a random walk, its final last; one score is an excerpt of another."""
    scores, rng = tmp_path_factory.mktemp("txt"), np.random.default_rng(3)
    for makam, final in FINALS.items():
        degrees = np.round(np.array(MAKAM.mode(makam).degrees_cents) / makam_scores.COMMA_CENTS).astype(int)
        for number in range(4):
            steps = np.abs(np.cumsum(rng.integers(-2, 3, 90))) % degrees.size
            write_score(scores / f"{makam}--sarki--aksak--{number}--x.txt", [*(final + degrees[steps]), final])
    whole = (scores / "rast--sarki--aksak--0--x.txt").read_text(encoding="utf-8").splitlines(keepends=True)
    (scores / "rast--aranagme--aksak--1--.txt").write_text("".join([whole[0], *whole[-40:]]), encoding="utf-8")
    return scores


@pytest.fixture(scope="module")
def trials(folder: Path) -> list[makam_scores.ScoreTrial]:
    return makam_scores.read_trials(folder, tuple(FINALS), MAKAM, Progress())


def test_excerpts_belong_to_their_work(trials: list[makam_scores.ScoreTrial]) -> None:
    works = dict(zip([trial.name for trial in trials], makam_scores.shared_works(trials), strict=True))
    assert works["rast--aranagme--aksak--1--"] == works["rast--sarki--aksak--0--x"]
    assert len(set(works.values())) == 12


def test_makams_are_recognised_from_other_scores_and_not_from_exchanged_ones(
    trials: list[makam_scores.ScoreTrial],
) -> None:
    data = makam_scores.ScoreHistograms(trials, MAKAM)
    assert [data.modes[n].slug for n in range(3)] == ["rast", "saba", "segah"]
    assert data.finals == [44, 0, 8]  # commas above A, in any octave
    rows, confusions = makam_scores.measure(trials, MAKAM)
    recall = {name: float(cell.split(" %")[0]) for name, cell, _ in rows}
    assert recall["fitted without the score's work"] == 100.0
    assert recall["control: always the most frequent makam"] == pytest.approx(100 / 3, abs=0.1)
    exchanged = next(value for name, value in recall.items() if "exchanged" in name)
    assert exchanged < 70.0
    assert [line[:3] for line in confusions] == [["Rast", "5", "5"], ["Sabâ", "4", "4"], ["Segâh", "4", "4"]]


def test_what_is_left_out_of_training_has_no_influence(trials: list[makam_scores.ScoreTrial]) -> None:
    data = makam_scores.ScoreHistograms(trials, MAKAM)
    groups = np.array(makam_scores.shared_works(trials))
    seen: list[tuple[int, frozenset[int]]] = []

    def model(makam: int, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        seen.append((makam, frozenset(rows.tolist())))
        return data.facts(makam, None)

    makam_scores.leave_out(data, model, groups)
    refits = seen[len(data.modes) :]
    assert len(refits) == 12
    for group, (makam, rows) in zip(np.unique(groups), refits, strict=True):
        assert rows == set(np.flatnonzero((data.truths == makam) & (groups != group)).tolist())


def test_mean_recall_counts_every_makam_alike() -> None:
    truths, right = np.array([0] * 8 + [1] * 2), np.array([True] * 8 + [False] * 2)
    recall, low, high = makam_scores.mean_recall(right, truths, np.arange(10).astype(str))
    assert (recall, high) == (0.5, 0.5)
    assert 0.0 <= low <= 0.5  # a draw without the second makam is a mean over makams with none of its scores right


def test_a_folder_without_the_makams_is_refused(folder: Path) -> None:
    with pytest.raises(TalimError, match="fewer than two scores of hicaz"):
        makam_scores.read_trials(folder, ("hicaz", "rast"), MAKAM, Progress())


@pytest.mark.slow
def test_report_has_both_lists(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(makam_scores, "LISTS", {"own": tuple(FINALS)})
    page = makam_scores.report(folder, MAKAM, Progress())
    assert "13 scores of 12 works." in page
    assert "90.9 %" in page
