"""The text encoder's schooling in miniature: it learns to read, and what it learnt is found again."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from research.pretraining import text_encoder
from talim.backbones.nano import musicgen


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    real = musicgen.build_nano_musicgen
    shape = {"width": 32, "layers": 1, "heads": 2, "text_width": 32, "text_layers": 1}
    monkeypatch.setattr(musicgen, "build_nano_musicgen", lambda seed: real(seed, **shape))
    monkeypatch.setattr(text_encoder, "BATCH", 16)


def test_it_learns_what_captions_ask_for(tiny: None, tmp_path: Path) -> None:
    text_encoder.train(tmp_path, steps=120, seed=1, peak_rate=1e-2)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert rows[-1]["loss"] < 0.85 * rows[0]["loss"]


def test_restored_weights_read_the_same_and_are_frozen(tiny: None, tmp_path: Path) -> None:
    trained = text_encoder.train(tmp_path, steps=2, seed=1).eval()
    restored = musicgen.build_nano_musicgen(5).text_encoder.eval()  # type: ignore[call-arg]
    text_encoder.restore(restored, tmp_path)
    words = ["solo flute, C major, 96 bpm", "132 bpm, A minor, violin with chords, waltz"]
    expected = text_encoder.mean_states(trained, words)
    torch.testing.assert_close(text_encoder.mean_states(restored, words), expected)
    assert not any(weight.requires_grad for weight in restored.parameters())


def test_padding_does_not_move_a_captions_mean(tiny: None) -> None:
    encoder = musicgen.build_nano_musicgen(0).text_encoder.eval()  # type: ignore[call-arg]
    short, long = "flute", "132 bpm, A minor, violin with chords and drums, waltz"
    alone = text_encoder.mean_states(encoder, [short])[0]
    beside = text_encoder.mean_states(encoder, [short, long])[0]
    torch.testing.assert_close(alone, beside, rtol=1e-4, atol=1e-5)


def test_captions_and_facts_belong_together() -> None:
    for seed in range(20):
        caption, facts = text_encoder.sample_caption(seed)
        assert f"{facts['tempo_bpm']} bpm" in caption
        assert f"{facts['tonic']} {facts['scale']}" in caption
        assert str(facts["instrument"]) in caption
        assert ("drums" in caption) == facts["drums"]
