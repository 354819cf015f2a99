"""Shares of right pitch classes: by hand, controls, and a small run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from research.validation import melody_conditioning, pitch_tracking
from research.validation.pitch_tracking import PitchExcerpt
from talim.metrics import pitch


def test_share_equal_counts_voiced_frames_only() -> None:
    truth, voiced = np.array([0, 4, 7, 0]), np.array([True, True, True, False])
    assert melody_conditioning.share_equal(np.array([0, 4, 0, 5]), truth, voiced) == pytest.approx(2 / 3)
    assert melody_conditioning.share_equal(0, truth, voiced) == pytest.approx(1 / 3)
    assert melody_conditioning.share_equal(0, truth, ~voiced) == 1.0
    assert melody_conditioning.share_equal(0, truth, np.zeros(4, bool)) == 0.0
    assert melody_conditioning.most_frequent(np.array([3, 3, 11], np.int8)) == 3


def test_true_classes_of_a_known_track() -> None:
    """A second of C, half a second of silence, a second of A."""
    hz = np.concatenate([np.full(50, 261.63), np.full(25, np.nan), np.full(51, 440.0)])
    excerpt = PitchExcerpt("drone", "x", np.zeros(1), lambda _: hz)
    classes, voiced = melody_conditioning.true_classes(excerpt, 20, 0.0)
    assert classes[:8].tolist() == [0] * 8
    assert set(classes[13:]) == {9}
    assert voiced.tolist() == [True] * 8 + [False] * 4 + [True] * 8
    assert pitch.HOP_SECONDS == 0.02


def test_main_with_synthetic_excerpts_ranks_the_sources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pitch_tracking, "SECONDS", 4.0)
    out = tmp_path / "page.md"
    melody_conditioning.main(["--performances", "2", "--first-seed", "8000", "--out", str(out)])
    cells = [[c.strip() for c in line.split("|")[1:-1]] for line in out.read_text().splitlines() if "|" in line]
    shares = {(row[0], row[1]): float(row[2].split()[0]) for row in cells[2:]}
    for kind in ("chords and drums", "drone"):
        assert shares[kind, melody_conditioning.PITCH] > 70
        assert shares[kind, melody_conditioning.PITCH] > shares[kind, melody_conditioning.BEST]
        assert shares[kind, melody_conditioning.OTHER] < shares[kind, melody_conditioning.BEST]
        assert shares[kind, melody_conditioning.DIFFERENCE] == pytest.approx(
            shares[kind, melody_conditioning.PITCH] - shares[kind, melody_conditioning.CHROMA], abs=0.11
        )
