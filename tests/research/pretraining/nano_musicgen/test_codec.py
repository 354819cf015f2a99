"""Training of the codec on tiny settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from research.pretraining.nano_musicgen import codec
from talim.backbones.nano import sinusoidal_model


def tiny_config(out: Path) -> codec.Config:
    return codec.Config(
        out=out,
        steps=6,
        clips=2,
        clip_seconds=1.0,
        batch_size=2,
        segment_frames=16,
        quantise_after=2,
        checkpoint_every=3,
        seed=3,
        num_workers=1,
    )


def test_train_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = codec.train(tiny_config(tmp_path / "whole"))
    real_draw = codec.draw

    def interrupted(rows: np.ndarray, step: int, config: codec.Config) -> torch.Tensor:
        if step == 4:
            raise KeyboardInterrupt
        return real_draw(rows, step, config)

    monkeypatch.setattr(codec, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        codec.train(tiny_config(tmp_path / "parts"))
    monkeypatch.setattr(codec, "draw", real_draw)
    resumed = codec.train(tiny_config(tmp_path / "parts"))
    for (name, expected), (_, weight) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=0, atol=0, msg=name)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"step", "loss", "level", "frequency", "noise"} <= rows[-1].keys()


def test_losses_are_zero_for_equal_features_and_grow_with_pitch_error() -> None:
    time = torch.arange(16000) / 16000
    exact, near, far = (
        sinusoidal_model.analyze(0.3 * torch.sin(2 * torch.pi * hz * time)[None]) for hz in (440.0, 441.0, 446.0)
    )
    assert sum(codec.losses(exact, exact).values()) == 0
    small_gap, large_gap = (codec.losses(x, exact)["frequency"] for x in (near, far))
    assert 0 < small_gap < large_gap


def test_follow_reinitialises_unused_codes() -> None:
    books, latent = torch.full((1, 8, 4), 50.0), torch.randn(256, 4)
    averages = codec.EmaCodebooks(books)
    generator = torch.Generator().manual_seed(0)
    for _ in range(200):
        averages.follow(books, latent, generator)
    assert len(torch.cdist(latent, books[0]).argmin(1).unique()) >= 7


def test_draw_depends_on_seed_and_step_only() -> None:
    rows = np.random.default_rng(0).random((3, sinusoidal_model.FEATURES, 100)).astype(np.float16)
    first, same, other = (codec.draw(rows, step, codec.Config()) for step in (5, 5, 6))
    torch.testing.assert_close(first, same, rtol=0, atol=0)
    assert not torch.equal(first, other)
