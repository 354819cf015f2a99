"""Training of the decoder on tiny settings: pieces, tokens, crops, exact resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from research.pretraining import nano_models, text_encoder
from research.pretraining.nano_musicgen import decoder
from talim.backbones.nano import musicgen
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig

CODEC = {"width": 16, "encoder_blocks": 1, "decoder_blocks": 1, "latent": 8, "codebook_size": 32}
TINY = {"width": 32, "layers": 2, "heads": 2, "ffn": 128, "text_width": 16, "text_layers": 1}


def tiny_config(out: Path, **changes: Any) -> decoder.Config:
    settings = {"steps": 5, "clips": 6, "long_seconds": 2.0, "short_seconds": 1.0, "frames_per_step": 100}
    settings |= {"crop_frames": (20, 40), "caption_gain_every": 2, "checkpoint_every": 2, "num_workers": 1}
    return decoder.Config(out=out, **(settings | changes))


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> NanoCodec:
    real = nano_models.build_nano_musicgen
    monkeypatch.setattr(nano_models, "build_nano_musicgen", lambda seed, codec=None: real(seed, codec, **TINY))
    torch.manual_seed(0)
    return NanoCodec(NanoCodecConfig(**CODEC)).eval()


def test_train_resumed_equals_uninterrupted(codec: NanoCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = tmp_path / "text"
    text_encoder.train(text_encoder.Config(text, steps=1))

    def train(folder: str) -> dict[str, torch.Tensor]:
        return decoder.train(tiny_config(tmp_path / folder, text=text), codec).state_dict()

    whole, real_draw = train("whole"), decoder.draw

    def interrupted(*arguments: Any, **named: Any) -> Any:
        if arguments[2] == 3:
            raise KeyboardInterrupt
        return real_draw(*arguments, **named)

    monkeypatch.setattr(decoder, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("parts")
    monkeypatch.setattr(decoder, "draw", real_draw)
    resumed = train("parts")
    for name, weight in whole.items():
        torch.testing.assert_close(weight, resumed[name], rtol=0, atol=0, msg=name)
    stored = load_file(text / text_encoder.WEIGHTS)
    for name, weight in stored.items():  # the text encoder is frozen
        torch.testing.assert_close(whole[f"text_encoder.{name}"], weight, rtol=0, atol=0, msg=name)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert "caption_gain" in rows[0]


def test_draw_of_crops_starts_half_of_them_with_the_piece() -> None:
    codes = [np.arange(1000 if n % 3 == 0 else 400, dtype=np.int16)[None] for n in range(60)]
    starts, lengths, config = [], set(), decoder.Config(seed=0)
    for step in range(100):
        batch, text = decoder.draw(codes, ["a"] * 60, step, config, 1.0)
        assert batch.shape[0] == text["input_ids"].shape[0] == min(60, 2000 // batch.shape[2])
        assert (batch[:, 0].diff(dim=1) == 1).all()
        starts += (batch[:, 0, 0] == 0).tolist()
        lengths.add(batch.shape[2])
    assert 0.4 < np.mean(starts) < 0.6
    assert (min(lengths), max(lengths)) >= (50, 140)
    assert max(lengths) <= 150
    whole = {decoder.draw(codes, ["a"] * 60, step, config, 0.0)[0].shape[2] for step in range(20)}
    assert whole == {1000, 400}


def test_caption_gain_without_cross_attention_is_zero(codec: NanoCodec) -> None:
    model = nano_models.build_nano_musicgen(0, codec)  # type: ignore[call-arg]
    for layer in model.decoder.model.decoder.layers:
        torch.nn.init.zeros_(layer.encoder_attn.out_proj.weight)
    codes = torch.randint(32, (2, 4, 20), generator=torch.Generator().manual_seed(0))
    text = musicgen.ByteTokenizer()(["flute", "drums"])
    text["condition_mask"] = text["attention_mask"]
    assert decoder.caption_gain(model, codes, text) == 0


def test_pieces_every_third_fills_the_window(codec: NanoCodec, tmp_path: Path) -> None:
    files = decoder.pieces(tiny_config(tmp_path))
    codes, captions = decoder.tokens(files, codec, tmp_path)
    assert [c.shape[1] for c in codes] == [100, 50, 50, 100, 50, 50]
    assert len(captions) == 6
    assert all("bpm" in caption for caption in captions)


def test_draw_drops_one_condition_in_ten() -> None:
    config = decoder.Config(seed=0, frames_per_step=200)
    codes = [np.zeros((4, 100 if n % 3 == 0 else 50), np.int16) for n in range(30)]
    conditioned = []
    for step in range(200):
        _, text = decoder.draw(codes, ["a"] * 30, step, config, 0.0)
        conditioned += text["condition_mask"].any(1).tolist()
        assert text["attention_mask"].all()
    assert 0.85 < np.mean(conditioned) < 0.95


def test_loss_with_dropped_conditions_is_independent_of_the_text(codec: NanoCodec) -> None:
    model = nano_models.build_nano_musicgen(0, codec)  # type: ignore[call-arg]
    codes = torch.randint(32, (2, 4, 20), generator=torch.Generator().manual_seed(0))
    losses = []
    for prompt in ("flute", "drums"):
        text = musicgen.ByteTokenizer()([prompt, prompt])
        text["condition_mask"] = torch.zeros_like(text["attention_mask"])
        losses.append(decoder.loss(model, codes, text))
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
