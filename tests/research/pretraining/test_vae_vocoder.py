"""The schooling of VAE and vocoder in miniature: it resumes exactly, and pitches reach the vocoder's ear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import tiny_nano_mustango

from research.pretraining import vae_vocoder
from talim.backbones.nano import sinusoidal_model


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vae_vocoder, "NanoMustangoConfig", lambda: tiny_nano_mustango.SHAPE)
    monkeypatch.setattr(vae_vocoder, "BATCH", 2)
    monkeypatch.setattr(vae_vocoder, "SEGMENT_FRAMES", 16)
    monkeypatch.setattr(vae_vocoder, "CLIP_SECONDS", 1.0)
    monkeypatch.setattr(vae_vocoder, "CHECKPOINT_INTERVAL", 3)


def test_stopped_and_resumed_equals_uninterrupted(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = vae_vocoder.train(tmp_path / "whole", steps=5, clips=2, seed=3, workers=1)
    real_draw = vae_vocoder.draw

    def interrupted(rows: Any, step: int, seed: int) -> Any:
        if step == 4:
            raise KeyboardInterrupt
        return real_draw(rows, step, seed)

    monkeypatch.setattr(vae_vocoder, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        vae_vocoder.train(tmp_path / "parts", steps=5, clips=2, seed=3, workers=1)
    monkeypatch.setattr(vae_vocoder, "draw", real_draw)
    resumed = vae_vocoder.train(tmp_path / "parts", steps=5, clips=2, seed=3, workers=1)
    for (name, one), (_, two) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, msg=name)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"step", "mel", "kl", "heard", "kept"} <= rows[-1].keys()


def test_spectrogram_and_description_are_of_the_same_moments(small: None) -> None:
    mel, description = vae_vocoder.render((5, "western"))
    assert mel.shape == (64, 50)
    assert description.shape == (sinusoidal_model.FEATURES, 50)
    loud = description[: sinusoidal_model.PITCH_CELLS].astype(np.float32).max(0)
    # a frame's loudest sinusoid and its loudest band rise and fall together
    assert np.corrcoef(loud, mel.astype(np.float32).max(0))[0, 1] > 0.5


def test_a_batch_depends_on_seed_and_step_alone(small: None) -> None:
    rng = np.random.default_rng(0)
    rows = (
        rng.random((3, 64, 100)).astype(np.float16),
        rng.random((3, sinusoidal_model.FEATURES, 100)).astype(np.float16),
    )
    one, same, other = (vae_vocoder.draw(rows, step, 1) for step in (5, 5, 6))
    torch.testing.assert_close(one[0], same[0], rtol=0, atol=0)
    assert not torch.equal(one[1], other[1])
    assert one[0].shape == (2, 16, 64)
