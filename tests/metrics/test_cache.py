"""Arrays cached by audio and measure."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from talim.audio import Audio
from talim.metrics.cache import MetricCache


def test_cache_get_separates_clips_and_recomputes_damaged_entries(tmp_path: Path) -> None:
    clip = Audio(np.random.default_rng(0).standard_normal((1, 100)) / 9, 16000)
    cache = MetricCache(tmp_path)
    assert cache.get(clip, "one/1", lambda: np.arange(3)).tolist() == [0, 1, 2]
    cache.file(clip, "one/1").write_bytes(b"torn")
    assert cache.get(clip, "one/1", lambda: np.arange(4)).tolist() == [0, 1, 2, 3]
    assert cache.get(clip, "one/2", lambda: np.ones(1)).tolist() == [1]
    assert cache.get(Audio(clip.samples * 0.5, 16000), "one/1", lambda: np.zeros(1)).tolist() == [0]
    assert cache.get(clip, "one/1", lambda: np.zeros(9)).size == 4
