"""The decoder's schooling in miniature: pieces, tokens, dropout of words, exact resumption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from talim.backbones.nano import models
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig
from talim.stages import pretrain_decoder

CODEC = {"width": 16, "encoder_blocks": 1, "decoder_blocks": 1, "latent": 8, "codebook_size": 32}
TINY = {"width": 32, "layers": 2, "heads": 2, "text_width": 16, "text_layers": 1}


@pytest.fixture
def codec(monkeypatch: pytest.MonkeyPatch) -> NanoCodec:
    monkeypatch.setattr(pretrain_decoder, "LONG_SECONDS", 2.0)
    monkeypatch.setattr(pretrain_decoder, "SHORT_SECONDS", 1.0)
    monkeypatch.setattr(pretrain_decoder, "FRAMES_PER_STEP", 100)
    monkeypatch.setattr(pretrain_decoder, "KEEP_EVERY", 2)
    real = models.build
    monkeypatch.setattr(models, "build", lambda seed, codec: real(seed, codec, **TINY))
    torch.manual_seed(0)
    return NanoCodec(NanoCodecConfig(**CODEC)).eval()


def test_stopped_and_resumed_equals_uninterrupted(
    codec: NanoCodec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(folder: str) -> dict[str, torch.Tensor]:
        return pretrain_decoder.train(tmp_path / folder, codec, 6, steps=5, seed=1, workers=1).state_dict()

    whole, real_draw = train("whole"), pretrain_decoder.draw

    def interrupted(*arguments: Any) -> Any:
        if arguments[2] == 3:
            raise KeyboardInterrupt
        return real_draw(*arguments)

    monkeypatch.setattr(pretrain_decoder, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("parts")
    monkeypatch.setattr(pretrain_decoder, "draw", real_draw)
    resumed = train("parts")
    for name, weight in whole.items():
        torch.testing.assert_close(weight, resumed[name], rtol=0, atol=0, msg=name)


def test_a_third_of_the_clips_fills_the_window(codec: NanoCodec, tmp_path: Path) -> None:
    files = pretrain_decoder.pieces(tmp_path, 6, workers=1)
    codes, captions = pretrain_decoder.tokens(files, codec, tmp_path)
    assert [c.shape[1] for c in codes] == [100, 50, 50, 100, 50, 50]
    assert len(captions) == 6
    assert all("bpm" in caption for caption in captions)


def test_about_one_in_ten_clips_is_drawn_without_its_words(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_decoder, "FRAMES_PER_STEP", 200)
    codes = [np.zeros((4, 100 if n % 3 == 0 else 50), np.int16) for n in range(30)]
    heard = []
    for step in range(200):
        _, words = pretrain_decoder.draw(codes, ["a"] * 30, step, 0)
        heard += words["kept"].any(1).tolist()
        assert words["attention_mask"].all()
    assert 0.85 < np.mean(heard) < 0.95


def test_words_that_were_dropped_do_not_matter(codec: NanoCodec) -> None:
    model = models.build(0, codec)  # type: ignore[call-arg]
    codes = torch.randint(32, (2, 4, 20), generator=torch.Generator().manual_seed(0))
    losses = []
    for prompt in ("flute", "drums"):
        words = models.ByteTokenizer()([prompt, prompt])
        words["kept"] = torch.zeros_like(words["attention_mask"])
        losses.append(pretrain_decoder.loss(model, codes, words))
    torch.testing.assert_close(losses[0], losses[1], rtol=0, atol=0)
