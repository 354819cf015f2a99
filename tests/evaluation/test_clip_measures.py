"""Measures of single clips are cached, and independent of gain."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talim.audio import Audio
from talim.evaluation import clip_measures
from talim.metrics.cache import MetricCache


def voice(seconds: float = 3.0) -> Audio:
    """A voice with vibrato and a little noise."""
    times = np.arange(round(seconds * 16000)) / 16000
    phase = 2 * np.pi * np.cumsum(220 * 2 ** (0.4 / 12 * np.sin(2 * np.pi * 5.5 * times))) / 16000
    harmonics = sum(np.sin(k * phase) / k for k in range(1, 6))
    noise = np.random.default_rng(0).standard_normal(times.size)
    return Audio((0.1 * harmonics + 0.001 * noise).astype(np.float32)[None], 16000)


def test_measure_clip_with_gain_changes_only_the_loudness() -> None:
    clip, cache = voice(), MetricCache(None)
    measures = clip_measures.measure_clip(clip, cache).values
    quieter = clip_measures.measure_clip(Audio(clip.samples * 0.5, 16000), cache).values
    assert quieter["loudness_lufs"] == pytest.approx(measures["loudness_lufs"] - 6.02, abs=0.05)
    for name in set(measures) - {"loudness_lufs"}:
        assert quieter[name] == pytest.approx(measures[name], rel=0.02, abs=1e-3, nan_ok=True), name
    assert measures["ornaments"] > 0


def test_measure_clip_a_second_time_reads_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache, clip = MetricCache(tmp_path), voice()
    first = clip_measures.measure_clip(clip, cache)
    monkeypatch.setattr(clip_measures, "_packed_measures", lambda audio: pytest.fail("measured twice"))
    second = clip_measures.measure_clip(clip, cache)
    assert second.values == pytest.approx(first.values, nan_ok=True)
    assert second.ngrams == first.ngrams
