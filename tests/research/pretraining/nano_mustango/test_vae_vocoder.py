"""Training of VAE and vocoder on tiny settings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import tiny_nano_mustango

from research.pretraining.nano_mustango import vae_vocoder
from talim.backbones.nano import sinusoidal_model


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_vocoder.nano_models, "nano_mustango_config", lambda: tiny_nano_mustango.SHAPE)


def tiny_config(out: Path) -> vae_vocoder.Config:
    sizes = {"steps": 5, "clips": 2, "batch_size": 2, "segment_frames": 16, "checkpoint_every": 3}
    return vae_vocoder.Config(out=out, clip_seconds=1.0, seed=3, num_workers=1, **sizes)


def test_train_resumed_equals_uninterrupted(tiny: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = vae_vocoder.train(tiny_config(tmp_path / "whole"))
    real_draw = vae_vocoder.draw

    def interrupted(rows: Any, step: int, config: Any) -> Any:
        if step == 4:
            raise KeyboardInterrupt
        return real_draw(rows, step, config)

    monkeypatch.setattr(vae_vocoder, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vae_vocoder.train(tiny_config(tmp_path / "parts"))
    monkeypatch.setattr(vae_vocoder, "draw", real_draw)
    resumed = vae_vocoder.train(tiny_config(tmp_path / "parts"))
    for (name, expected), (_, weight) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=0, atol=0, msg=name)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"step", "mel", "kl", "vocoder", "reconstruction"} <= rows[-1].keys()


def test_render_aligns_spectrogram_and_features(tiny: None) -> None:
    mel, features = vae_vocoder.render((5, "western"), 1.0)
    assert mel.shape == (64, 50)
    assert features.shape == (sinusoidal_model.FEATURES, 50)
    loud = features[: sinusoidal_model.PITCH_CELLS].astype(np.float32).max(0)
    # a frame's loudest sinusoid and its loudest band rise and fall together
    assert np.corrcoef(loud, mel.astype(np.float32).max(0))[0, 1] > 0.5


def test_draw_depends_on_seed_and_step_only(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rows = (
        rng.random((3, 64, 100)).astype(np.float16),
        rng.random((3, sinusoidal_model.FEATURES, 100)).astype(np.float16),
    )
    first, same, other = (vae_vocoder.draw(rows, step, tiny_config(tmp_path)) for step in (5, 5, 6))
    torch.testing.assert_close(first[0], same[0], rtol=0, atol=0)
    assert not torch.equal(first[1], other[1])
    assert first[0].shape == (2, 16, 64)
