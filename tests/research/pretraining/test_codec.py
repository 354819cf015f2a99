"""The codec's schooling in miniature: it learns, it resumes exactly, its books stay in use."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from research.pretraining import codec
from talim.backbones.nano import sinusoidal_model


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "BATCH", 2)
    monkeypatch.setattr(codec, "SEGMENT_FRAMES", 16)
    monkeypatch.setattr(codec, "QUANTISE_AFTER", 2)
    monkeypatch.setattr(codec, "CLIP_SECONDS", 1.0)
    monkeypatch.setattr(codec, "CHECKPOINT_INTERVAL", 3)


def test_stopped_and_resumed_equals_uninterrupted(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = codec.train(tmp_path / "whole", steps=6, clips=2, seed=3, workers=1)
    real_draw = codec.draw

    def interrupted(rows: np.ndarray, step: int, seed: int) -> torch.Tensor:
        if step == 4:
            raise KeyboardInterrupt
        return real_draw(rows, step, seed)

    monkeypatch.setattr(codec, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        codec.train(tmp_path / "parts", steps=6, clips=2, seed=3, workers=1)
    monkeypatch.setattr(codec, "draw", real_draw)
    resumed = codec.train(tmp_path / "parts", steps=6, clips=2, seed=3, workers=1)
    for (name, one), (_, two) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, msg=name)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"step", "loss", "level", "frequency", "noise"} <= rows[-1].keys()


def test_loss_is_zero_for_the_same_description_and_grows_with_pitch_error() -> None:
    time = torch.arange(16000) / 16000
    one, near, far = (
        sinusoidal_model.analyze(0.3 * torch.sin(2 * torch.pi * hz * time)[None])
        for hz in (440.0, 441.0, 446.0)
    )
    assert sum(codec.losses(one, one).values()) == 0
    small_gap, large_gap = (codec.losses(x, one)["frequency"] for x in (near, far))
    assert 0 < small_gap < large_gap


def test_idle_codes_are_put_back_to_work() -> None:
    books, latent = torch.full((1, 8, 4), 50.0), torch.randn(256, 4)
    averages = codec.EmaCodebooks(books)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        averages.follow(books, latent, generator)
    assert len(torch.cdist(latent, books[0]).argmin(1).unique()) >= 7


def test_a_batch_depends_on_seed_and_step_alone() -> None:
    rows = np.random.default_rng(0).random((3, sinusoidal_model.FEATURES, 100)).astype(np.float16)
    one, same, other = (codec.draw(rows, step, 1) for step in (5, 5, 6))
    torch.testing.assert_close(one, same, rtol=0, atol=0)
    assert not torch.equal(one, other)
