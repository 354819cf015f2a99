"""Samples with and without the adapter: files, tags, and the difference between two clips."""

from __future__ import annotations

import numpy as np
import pytest

from talim import audio
from talim.atomic_io import read_jsonl
from talim.audio import Audio
from talim.evaluation import sample_pairs
from talim.run import Run


def test_generate_pairs_writes_before_after_and_real_with_tags(finished_run: Run) -> None:
    rows = read_jsonl(finished_run.samples / "manifest.jsonl")
    assert [r["role"] for r in rows] == ["before", "after", "real"] * 2
    assert [r["adapter"] for r in rows] == [False, True, False] * 2
    for row in rows:
        path = finished_run.samples / row["file"]
        assert audio.read(path).seconds == pytest.approx(1.0, abs=0.05)
        made = "AI-generated" in audio.read_tags(path).values()
        assert made == (row["role"] != "real")


def test_log_mel_distance_db_of_gain_is_the_gain_and_symmetric() -> None:
    rng = np.random.default_rng(0)
    one = Audio(rng.standard_normal(16000).astype(np.float32) * 0.1, 16000)
    louder = Audio(one.samples * 10 ** (-6 / 20), 16000)
    other = Audio(rng.standard_normal(16000).astype(np.float32) * 0.1, 16000)
    silent = Audio(np.zeros(16000, dtype=np.float32), 16000)
    assert sample_pairs.log_mel_distance_db(one, one) == 0
    assert sample_pairs.log_mel_distance_db(one, louder) == pytest.approx(6, abs=0.01)
    assert sample_pairs.log_mel_distance_db(one, other) == sample_pairs.log_mel_distance_db(other, one) > 1
    assert sample_pairs.log_mel_distance_db(silent, silent) == 0
    assert sample_pairs.log_mel_distance_db(one, silent) <= sample_pairs.DYNAMIC_RANGE_DB


def test_token_change_rate_counts_common_frames_only() -> None:
    one = np.zeros((4, 10), dtype=np.int16)
    other = one.copy()
    other[0, :5] = 1
    assert sample_pairs.token_change_rate(one, one[:, :7]) == 0
    assert sample_pairs.token_change_rate(one, other) == 5 / 40
    assert sample_pairs.token_change_rate(one[:, :0], other) == 0


def test_latent_change_of_equal_latents_is_zero_and_of_independent_ones_root_two() -> None:
    rng = np.random.default_rng(0)
    base, other = rng.normal(size=(2, 8, 200, 16))
    assert sample_pairs.latent_change(base, base[:, :50]) == 0
    assert sample_pairs.latent_change(base, other) == pytest.approx(2**0.5, rel=0.02)
    assert sample_pairs.latent_change(base[:, :0], other) == 0
