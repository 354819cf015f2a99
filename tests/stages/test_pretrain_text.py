"""The text encoder's schooling in miniature: it learns to read, and what it learnt is found again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from talim.backbones.nano import models
from talim.stages import pretrain_text


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    real = models.build
    shape = {"width": 32, "layers": 1, "heads": 2, "text_width": 32, "text_layers": 1}
    monkeypatch.setattr(models, "build", lambda seed: real(seed, **shape))
    monkeypatch.setattr(pretrain_text, "BATCH", 16)


def test_it_learns_what_captions_ask_for(tiny: None, tmp_path: Path) -> None:
    pretrain_text.train(tmp_path, steps=120, seed=1, peak_rate=1e-2)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]


def test_restored_weights_read_the_same_and_are_frozen(tiny: None, tmp_path: Path) -> None:
    trained = pretrain_text.train(tmp_path, steps=2, seed=1).eval()
    restored = models.build(5).text_encoder.eval()  # type: ignore[call-arg]
    pretrain_text.restore(restored, tmp_path)
    words = ["solo flute, C major, 96 bpm", "132 bpm, A minor, violin with chords, waltz"]
    expected = pretrain_text.mean_states(trained, words)
    torch.testing.assert_close(pretrain_text.mean_states(restored, words), expected)
    assert not any(weight.requires_grad for weight in restored.parameters())


def test_padding_does_not_move_a_captions_mean(tiny: None) -> None:
    encoder = models.build(0).text_encoder.eval()  # type: ignore[call-arg]
    short, long = "flute", "132 bpm, A minor, violin with chords and drums, waltz"
    alone = pretrain_text.mean_states(encoder, [short])[0]
    beside = pretrain_text.mean_states(encoder, [short, long])[0]
    torch.testing.assert_close(alone, beside, rtol=1e-4, atol=1e-5)


def test_captions_and_facts_belong_together() -> None:
    for seed in range(20):
        caption, facts = pretrain_text.drawn(seed)
        assert f"{facts['tempo_bpm']} bpm" in caption
        assert f"{facts['tonic']} {facts['scale']}" in caption
        assert str(facts["instrument"]) in caption
        assert ("drums" in caption) == facts["drums"]
