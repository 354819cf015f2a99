"""The schooling of VAE and vocoder in miniature: it resumes exactly, and pitches reach the vocoder's ear."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import nano_mustango

from talim.backbones.nano import sinusoids
from talim.stages import pretrain_sound


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_sound, "Shape", lambda: nano_mustango.SHAPE)
    monkeypatch.setattr(pretrain_sound, "BATCH", 2)
    monkeypatch.setattr(pretrain_sound, "SEGMENT_FRAMES", 16)
    monkeypatch.setattr(pretrain_sound, "CLIP_SECONDS", 1.0)
    monkeypatch.setattr(pretrain_sound, "KEEP_EVERY", 3)


def test_stopped_and_resumed_equals_uninterrupted(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = pretrain_sound.train(tmp_path / "whole", steps=5, clips=2, seed=3, workers=1)
    real_draw = pretrain_sound.draw

    def interrupted(rows: Any, step: int, seed: int) -> Any:
        if step == 4:
            raise KeyboardInterrupt
        return real_draw(rows, step, seed)

    monkeypatch.setattr(pretrain_sound, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pretrain_sound.train(tmp_path / "parts", steps=5, clips=2, seed=3, workers=1)
    monkeypatch.setattr(pretrain_sound, "draw", real_draw)
    resumed = pretrain_sound.train(tmp_path / "parts", steps=5, clips=2, seed=3, workers=1)
    for (name, one), (_, two) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, msg=name)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"step", "mel", "kl", "heard", "kept"} <= rows[-1].keys()


def test_spectrogram_and_description_are_of_the_same_moments(small: None) -> None:
    mel, description = pretrain_sound.render((5, "western"))
    assert mel.shape == (64, 50)
    assert description.shape == (sinusoids.FEATURES, 50)
    loud = description[: sinusoids.CELLS].astype(np.float32).max(0)
    # a frame's loudest sinusoid and its loudest band rise and fall together
    assert np.corrcoef(loud, mel.astype(np.float32).max(0))[0, 1] > 0.5


def test_a_batch_depends_on_seed_and_step_alone(small: None) -> None:
    rng = np.random.default_rng(0)
    rows = (
        rng.random((3, 64, 100)).astype(np.float16),
        rng.random((3, sinusoids.FEATURES, 100)).astype(np.float16),
    )
    one, same, other = (pretrain_sound.draw(rows, step, 1) for step in (5, 5, 6))
    torch.testing.assert_close(one[0], same[0], rtol=0, atol=0)
    assert not torch.equal(one[1], other[1])
    assert one[0].shape == (2, 16, 64)
