"""The frozen-layer cache's speed-up: measured on a small shape, and the committed page."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from research.validation import frozen_cache_speedup
from research.validation.random_musicgen import random_musicgen
from talim.design.musicgen_sites import MusicGenShape

ROOT = Path(__file__).parents[3]


def test_measure_gives_the_same_loss_with_the_cache(tmp_path: Path) -> None:
    backbone = random_musicgen(MusicGenShape(32, 4, 2), torch.float32)
    items = frozen_cache_speedup.random_items(20)
    row = frozen_cache_speedup.measure("conv@post:10%", False, backbone, items, 1, tmp_path)
    assert row["frozen_layers"] == 4
    assert row["loss_difference"] == 0
    assert len(row["speedups"]) == 1
    assert row["entry_bytes"] > 0


def test_page_of_the_committed_numbers_is_the_committed_page() -> None:
    file = ROOT / frozen_cache_speedup.PAGE
    numbers = json.loads(file.with_suffix(".json").read_text("utf-8"))
    assert file.read_text("utf-8") == frozen_cache_speedup.page(numbers)
