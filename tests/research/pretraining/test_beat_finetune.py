"""The lessons in keeping time, in miniature: the clock's truth, what a drill hears, exact resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from research.pretraining import beat_finetune, decoder
from research.pretraining.beat_finetune import BeatPhaseHead
from talim.backbones.nano import musicgen
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig

CODEC = {"width": 16, "encoder_blocks": 1, "decoder_blocks": 1, "latent": 8, "codebook_size": 32}
TINY = {"width": 32, "layers": 4, "heads": 2, "text_width": 16, "text_layers": 1}


@pytest.fixture
def model(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(decoder, "LONG_SECONDS", 2.0)
    monkeypatch.setattr(decoder, "SHORT_SECONDS", 1.0)
    monkeypatch.setattr(decoder, "FRAMES_PER_STEP", 100)
    monkeypatch.setattr(beat_finetune, "OPENING_CROP_FRAMES", (20, 40))
    monkeypatch.setattr(beat_finetune, "CHECKPOINT_INTERVAL", 2)
    torch.manual_seed(0)
    return musicgen.build_nano_musicgen(0, NanoCodec(NanoCodecConfig(**CODEC)).eval(), **TINY)


@pytest.fixture
def start(model: Any, tmp_path: Path) -> tuple[Path, Path]:
    """A checkpoint to go on from, and a folder of coded pieces."""
    pieces = tmp_path / "pieces"
    files = decoder.pieces(pieces, 6, workers=1)
    decoder.tokens(files, model.audio_encoder, pieces)
    model.save_pretrained(tmp_path / "start")
    return tmp_path / "start", pieces


def test_phases_turn_with_the_beat_and_the_bar() -> None:
    told = beat_finetune.phases(["flute, C major, 60 bpm", "120 bpm, D minor, solo oboe, waltz"], 151)
    assert told.shape == (2, 151, 4)
    torch.testing.assert_close(
        told[0, 50, :2], torch.tensor([0.0, 1.0]), atol=1e-4, rtol=0
    )  # a beat: a second
    torch.testing.assert_close(
        told[0, 50, 2:], torch.tensor([1.0, 0.0]), atol=1e-4, rtol=0
    )  # a quarter of 4/4
    torch.testing.assert_close(told[1, 75], told[1, 0], atol=1e-4, rtol=0)  # a bar of three half seconds
    torch.testing.assert_close(told[1, 25, 2:], told[1, 100, 2:], atol=1e-4, rtol=0)
    with pytest.raises(ValueError, match="no tempo"):
        beat_finetune.phases(["a recording of music"], 3)


def test_an_unheard_piece_leaves_words_and_positions_only(model: Any) -> None:
    clock = BeatPhaseHead(model)
    one, other = (torch.randint(32, (1, 4, 30), generator=torch.Generator().manual_seed(n)) for n in (0, 1))
    for unheard, same in ((True, True), (False, False)):
        rows = torch.tensor([unheard])
        errors = [
            beat_finetune.auxiliary_phase(model, clock, codes, ["oboe, 96 bpm"], rows)
            for codes in (one, other)
        ]
        assert torch.equal(*errors) is same
    words = [
        beat_finetune.auxiliary_phase(model, clock, one, [f"oboe, 96 bpm{more}"], torch.tensor([True]))
        for more in ("", " ")
    ]
    assert not torch.equal(*words)


def test_a_drill_uses_the_first_layers_only_and_gives_the_others_back(model: Any) -> None:
    clock, layers = BeatPhaseHead(model), model.decoder.model.decoder.layers
    codes = torch.zeros(1, 4, 20, dtype=torch.long)
    beat_finetune.auxiliary_phase(
        model, clock, codes, ["oboe, 96 bpm"], torch.tensor([True])
    ).sum().backward()
    assert model.decoder.model.decoder.layers is layers
    taught = [any(w.grad is not None for w in layer.parameters()) for layer in layers]
    assert taught == [True] * beat_finetune.LAYERS + [False] * (len(layers) - beat_finetune.LAYERS)


def test_a_clock_can_be_learnt_from_the_words(model: Any) -> None:
    """Two tempi, nothing heard: the error falls far below that of a guess."""
    clock, captions = BeatPhaseHead(model), ["solo oboe, C major, 60 bpm", "solo oboe, C major, 96 bpm"]
    codes, unheard = torch.zeros(2, 4, 60, dtype=torch.long), torch.tensor([True, True])
    optimiser = torch.optim.AdamW([*model.parameters(), *clock.parameters()], lr=3e-3)
    for _ in range(150):
        loss = beat_finetune.auxiliary_phase(model, clock, codes, captions, unheard).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    assert loss.item() < 0.1  # 0.5 is a guess


def test_batches_begin_where_pieces_begin_and_depend_on_seed_and_step_alone(model: Any) -> None:
    codes = [np.arange(100 if n % 3 == 0 else 50, dtype=np.int16)[None] for n in range(12)]
    told = []
    for step in range(60):
        batch, captions, rows = beat_finetune.draw(codes, ["a"] * 12, step, 1)
        assert (batch[:, 0, 0] == 0).all()
        assert len(captions) == len(batch) == len(rows)
        assert torch.equal(batch, beat_finetune.draw(codes, ["a"] * 12, step, 1)[0])
        told += rows.tolist()
    assert 0.8 < np.mean(told) < 1


def test_stopped_and_resumed_equals_uninterrupted(
    start: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(folder: str) -> dict[str, torch.Tensor]:
        return beat_finetune.train(*start, tmp_path / folder, drills=3, steps=4, seed=1).state_dict()

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
    before = musicgen.MusicgenForConditionalGeneration.from_pretrained(start[0]).state_dict()
    for name, weight in whole.items():
        torch.testing.assert_close(weight, resumed[name], rtol=0, atol=0, msg=name)
        if name.startswith(("text_encoder.", "audio_encoder.")):
            assert torch.equal(weight, before[name]), name
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"heard", "unheard"} <= rows[0].keys()
    assert "loss" in rows[-1]
