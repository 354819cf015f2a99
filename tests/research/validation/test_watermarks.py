"""Tests of research.validation.watermarks: how detections are counted, and what the changes do to a clip."""

from __future__ import annotations

import numpy as np

from research.validation import watermarks


def test_detection_row_counts_found_false_alarms_and_found_above_the_unmarked() -> None:
    unmarked = [0.0, 0.1, 0.2, 0.7]
    assert watermarks.detection_row([0.4, 0.6, 0.8, 1.0], unmarked) == (3, 1, 2)
    saturated = watermarks.detection_row([1.0, 1.0], [1.0, 0.0])
    assert saturated == (2, 1, 0)  # no threshold parts them


def test_changes_keep_or_change_the_length_as_they_say() -> None:
    clip = np.random.default_rng(0).standard_normal(320_000).astype(np.float32) * 0.1
    assert watermarks.excerpt(clip, 2.0).size == 64_000
    assert abs(watermarks.at_speed(clip, 1.01).size - 320_000 / 1.01) < 2
    assert watermarks.resampled(clip, 8000).size == clip.size
    coded = watermarks.transcoded(np.sin(np.arange(64_000) / 10).astype(np.float32) * 0.3, ".mp3", "-b:a", "128k")
    assert abs(coded[6400:57_600].std() - 0.3 / np.sqrt(2)) < 0.02  # its encoder turns down
