"""Training of the text encoder on western and broad captions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from research.pretraining import nano_models, text_encoder
from research.pretraining.nano_musicgen import train_text_encoder

SHAPE = {"width": 32, "layers": 1, "heads": 2, "ffn": 128, "text_width": 32, "text_layers": 1}


def test_broad_caption_marks_the_words_that_occur() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        caption, occurring = train_text_encoder.broad_caption(rng)
        marked = {word for word, occurs in zip(train_text_encoder.WORDS, occurring, strict=True) if occurs}
        assert marked == {*caption.split(", ")} & {*train_text_encoder.WORDS}


def test_broad_caption_has_words_in_most_captions() -> None:
    rng = np.random.default_rng(0)
    assert np.mean([any(train_text_encoder.broad_caption(rng)[1]) for _ in range(200)]) > 0.8


def test_train_lowers_both_losses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = nano_models.build_nano_musicgen
    monkeypatch.setattr(nano_models, "build_nano_musicgen", lambda seed: real(seed, **SHAPE))
    trained = train_text_encoder.train(
        train_text_encoder.Config(tmp_path, steps=120, batch_size=16, peak_learning_rate=1e-2)
    )
    first, *_, last = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert last["loss"] < 0.95 * first["loss"]
    assert last["word_loss"] < 0.6 * first["word_loss"]
    restored = real(5, **SHAPE).text_encoder
    text_encoder.restore(restored, tmp_path)
    states = [text_encoder.mean_states(encoder, ["voice, drone"]) for encoder in (trained.eval(), restored.eval())]
    torch.testing.assert_close(*states)
