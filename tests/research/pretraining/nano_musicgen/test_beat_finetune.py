"""Beat fine-tuning on tiny settings: phases, masked clips, truncation, exact resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import MusicgenForConditionalGeneration

from research.pretraining import nano_models
from research.pretraining.nano_musicgen import beat_finetune, decoder
from research.pretraining.nano_musicgen.beat_finetune import BeatPhaseHead
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig

CODEC = {"width": 16, "encoder_blocks": 1, "decoder_blocks": 1, "latent": 8, "codebook_size": 32}
TINY = {"width": 32, "layers": 4, "heads": 2, "ffn": 128, "text_width": 16, "text_layers": 1}


@pytest.fixture
def model() -> Any:
    torch.manual_seed(0)
    return nano_models.build_nano_musicgen(0, NanoCodec(NanoCodecConfig(**CODEC)).eval(), **TINY)


@pytest.fixture
def start(model: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint to continue from, and a folder of encoded pieces."""
    pieces = tmp_path / "pieces"
    files = decoder.pieces(decoder.Config(out=pieces, clips=6, long_seconds=2.0, short_seconds=1.0, num_workers=1))
    decoder.tokens(files, model.audio_encoder, pieces)
    model.save_pretrained(tmp_path / "start")
    return tmp_path / "start", pieces


def test_phases_follow_beat_and_bar() -> None:
    angles = beat_finetune.phases(["flute, C major, 60 bpm", "120 bpm, D minor, solo oboe, waltz"], 151)
    assert angles.shape == (2, 151, 4)
    torch.testing.assert_close(angles[0, 50, :2], torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0)  # one beat: one second
    torch.testing.assert_close(angles[0, 50, 2:], torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0)  # a quarter of 4/4
    torch.testing.assert_close(angles[1, 75], angles[1, 0], atol=1e-4, rtol=0)  # a bar of three half seconds
    torch.testing.assert_close(angles[1, 25, 2:], angles[1, 100, 2:], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="no tempo"):
        beat_finetune.phases(["a recording of music"], 3)


def test_auxiliary_phase_of_masked_clips_depends_on_text_only(model: Any) -> None:
    head = BeatPhaseHead(model)
    codes, other = (torch.randint(32, (1, 4, 30), generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    for masked, same in ((True, True), (False, False)):
        rows = torch.tensor([masked])
        errors = [beat_finetune.auxiliary_phase(model, head, each, ["oboe, 96 bpm"], rows) for each in (codes, other)]
        assert torch.equal(*errors) is same
    by_text = [
        beat_finetune.auxiliary_phase(model, head, codes, [f"oboe, 96 bpm{more}"], torch.tensor([True]))
        for more in ("", " ")
    ]
    assert not torch.equal(*by_text)


def test_auxiliary_phase_trains_the_first_layers_only_and_restores_the_others(model: Any) -> None:
    head, layers = BeatPhaseHead(model), model.decoder.model.decoder.layers
    codes = torch.zeros(1, 4, 20, dtype=torch.long)
    beat_finetune.auxiliary_phase(model, head, codes, ["oboe, 96 bpm"], torch.tensor([True])).sum().backward()
    assert model.decoder.model.decoder.layers is layers
    trained = [any(w.grad is not None for w in layer.parameters()) for layer in layers]
    assert trained == [True] * beat_finetune.LAYERS + [False] * (len(layers) - beat_finetune.LAYERS)


def test_auxiliary_phase_of_masked_clips_can_be_learnt_from_text(model: Any) -> None:
    head, captions = BeatPhaseHead(model), ["solo oboe, C major, 60 bpm", "solo oboe, C major, 96 bpm"]
    codes, masked = torch.zeros(2, 4, 60, dtype=torch.long), torch.tensor([True, True])
    optimiser = torch.optim.AdamW([*model.parameters(), *head.parameters()], lr=3e-3)
    for _ in range(150):
        loss = beat_finetune.auxiliary_phase(model, head, codes, captions, masked).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1  # a constant guess gives 0.5


def test_draw_starts_with_the_piece_and_depends_on_seed_and_step_only() -> None:
    codes = [np.arange(100 if n % 3 == 0 else 50, dtype=np.int16)[None] for n in range(12)]
    conditioned = []
    config = beat_finetune.Config(opening_crop_frames=(20, 40), frames_per_step=100)
    for step in range(60):
        batch, captions, rows = beat_finetune.draw(codes, ["a"] * 12, step, config)
        assert (batch[:, 0, 0] == 0).all()
        assert len(captions) == len(batch) == len(rows)
        assert torch.equal(batch, beat_finetune.draw(codes, ["a"] * 12, step, config)[0])
        conditioned += rows.tolist()
    assert 0.8 < np.mean(conditioned) < 1


def test_train_resumed_equals_uninterrupted(
    start: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(folder: str) -> dict[str, torch.Tensor]:
        config = beat_finetune.Config(
            *start,
            tmp_path / folder,
            auxiliary_steps=3,
            steps=4,
            opening_crop_frames=(20, 40),
            frames_per_step=100,
            checkpoint_every=2,
        )
        return beat_finetune.train(config).state_dict()

    whole, real_draw = train("whole"), beat_finetune.draw

    def interrupted(*arguments: Any) -> Any:
        if arguments[2] == 5:
            raise KeyboardInterrupt
        return real_draw(*arguments)

    monkeypatch.setattr(beat_finetune, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("parts")
    monkeypatch.setattr(beat_finetune, "draw", real_draw)
    resumed = train("parts")
    before = MusicgenForConditionalGeneration.from_pretrained(start[0]).state_dict()
    for name, weight in whole.items():
        torch.testing.assert_close(weight, resumed[name], rtol=0, atol=0, msg=name)
        if name.startswith(("text_encoder.", "audio_encoder.")):
            assert torch.equal(weight, before[name]), name
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"phase_error", "phase_error_masked"} <= rows[0].keys()
    assert "loss" in rows[-1]
