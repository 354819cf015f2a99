"""Training of the text encoder on tiny settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from research.pretraining import nano_models, text_encoder
from research.pretraining.western_style import western_caption


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    real = nano_models.build_nano_musicgen
    shape = {"width": 32, "layers": 1, "heads": 2, "ffn": 128, "text_width": 32, "text_layers": 1}
    monkeypatch.setattr(nano_models, "build_nano_musicgen", lambda seed: real(seed, **shape))


def test_train_lowers_the_attribute_loss(tiny: None, tmp_path: Path) -> None:
    text_encoder.train(text_encoder.Config(tmp_path, steps=120, batch_size=16, peak_learning_rate=1e-2))
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]


def test_restore_gives_the_trained_frozen_weights(tiny: None, tmp_path: Path) -> None:
    trained = text_encoder.train(text_encoder.Config(tmp_path, steps=2, batch_size=16)).eval()
    restored = nano_models.build_nano_musicgen(5).text_encoder.eval()  # type: ignore[call-arg]
    text_encoder.restore(restored, tmp_path)
    captions = ["solo flute, C major, 96 bpm", "132 bpm, A minor, violin with chords, waltz"]
    expected = text_encoder.mean_states(trained, captions)
    torch.testing.assert_close(text_encoder.mean_states(restored, captions), expected)
    assert not any(weight.requires_grad for weight in restored.parameters())


def test_mean_states_is_independent_of_padding(tiny: None) -> None:
    encoder = nano_models.build_nano_musicgen(0).text_encoder.eval()  # type: ignore[call-arg]
    short, long = "flute", "132 bpm, A minor, violin with chords and drums, waltz"
    alone = text_encoder.mean_states(encoder, [short])[0]
    beside = text_encoder.mean_states(encoder, [short, long])[0]
    torch.testing.assert_close(alone, beside, rtol=1e-4, atol=1e-5)


def test_western_caption_matches_its_facts() -> None:
    for seed in range(20):
        caption, facts = western_caption(seed)
        assert f"{facts['tempo_bpm']} bpm" in caption
        assert f"{facts['tonic']} {facts['scale']}" in caption
        assert str(facts["instrument"]) in caption
        assert ("drums" in caption) == facts["drums"]
