"""The check of the rule on continuation scores: what stands for the models, and how outcomes are counted."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.validation import continuation_scores
from research.validation.continuation_scores import Piece, cut_piece, outcome, recorded_pieces, summary, table
from talim.audio import Audio
from talim.metrics.cache import MetricCache
from talim.reporting.sample_changes import BETTER, WORSE

RATE_HZ = 16_000


def melody(number: int, seconds: float = 16.0) -> Audio:
    """Steps between four notes that each number has of its own."""
    rng = np.random.default_rng(number)
    notes = 200 * 2 ** (rng.permutation(12)[:4] / 12) * (1 + 0.1 * number)
    hz = np.repeat(rng.choice(notes, round(seconds * 4)), RATE_HZ // 4)
    return Audio((0.3 * np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ))[None].astype(np.float32), RATE_HZ)


def test_cut_piece_takes_one_part_after_the_other() -> None:
    ramp = Audio((np.arange(20 * 1000) / 20_000)[None].astype(np.float32), 1000)
    piece = cut_piece(ramp, 1.0, "x")
    assert [part.seconds for part in (piece.phrase, piece.real, piece.later)] == [4.0, 6.0, 6.0]
    assert piece.real.samples[0, 0] == pytest.approx(0.25)
    assert piece.later.samples[0, 0] == pytest.approx(0.55)


def test_recorded_pieces_hold_each_recording_once(tmp_path: Path) -> None:
    for number in range(6):
        melody(number, 33.0 if number else 16.0).save(tmp_path / f"{number}.wav")
    (pieces,) = recorded_pieces(tmp_path)  # five recordings are too few for a second list
    assert [piece.clip.recording for piece in pieces] == [str(number) for number in range(6)]


@pytest.mark.slow
def test_outcome_of_own_and_of_other_continuations(tmp_path: Path) -> None:
    pieces = [cut_piece(melody(number), 0.0, str(number)) for number in range(14)]
    own, unrelated, cache = pieces[:7], pieces[7:], MetricCache(tmp_path)
    better = outcome(own, unrelated, cache, lambda n: own[n].later, lambda n: own[n].real)
    assert better["continuation_scale_distance"] == (True, BETTER)
    turned = outcome(own, unrelated, cache, lambda n: unrelated[n - 1].later, lambda n: unrelated[n].real)
    assert turned["continuation_scale_distance"][0] is False


def test_summary_counts_by_testable_and_verdict() -> None:
    score = "continuation_scale_distance"
    found = {
        "better": [{score: (True, BETTER)}, {score: (False, BETTER)}, {score: (True, WORSE)}],
        "neither": [{score: (True, "unclear")}, {score: (False, WORSE)}],
        "hollow": [{score: (True, BETTER)}],
        "unrelated": [{score: (False, "unclear")}],
    }
    (row,) = [row for row in summary(found) if row["score"] == score]
    assert (row["better_n"], row["better_testable"], row["better_better_testable"]) == (3, 2, 1)
    assert (row["better_worse_testable"], row["better_better_not_testable"]) == (1, 1)
    line = table([row]).splitlines()[-1]
    assert line == "| scale_distance | 2 of 3 | 1 (1) of 2 | 1 (0) of 1 | 0 of 1 | 1 of 1 | 1 of 1 | 0 of 0 | 0 of 1 |"


def test_pieces_of_one_experiment_are_not_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    silent = Audio(np.zeros((1, 10), np.float32), 10)
    pieces = [Piece(cut_piece(silent, 0.0, str(n)).clip, silent, silent, silent) for n in range(24)]
    seen = []
    monkeypatch.setattr(
        continuation_scores, "conditions", lambda own, one, other, cache: seen.append([*own, *one, *other]) or {}
    )
    continuation_scores.experiments(pieces, 3, MetricCache(None))
    assert [len({piece.clip.recording for piece in each}) for each in seen] == [24, 24, 24]
