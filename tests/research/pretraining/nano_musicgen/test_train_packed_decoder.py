"""Training from packed tokens on tiny settings: learning, resumption, new files, held-out files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_model

from research.pretraining import nano_models
from research.pretraining.nano_musicgen import assemble, pack_tokens, plain_decoder, train_packed_decoder
from talim.backbones.load import load
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig

SHAPE = {"width": 32, "layers": 3, "heads": 2, "ffn": 48}
CPU = torch.device("cpu")


@dataclass(frozen=True)
class TinyShape(plain_decoder.DecoderShape):
    width: int = 32
    layers: int = 3
    heads: int = 2
    ffn: int = 48


def make_shard(rng: np.random.Generator, frames: int = 60) -> pack_tokens.Shard:
    """Eight clips of sixteen codes, each repeated for ten frames; four of them with a beat."""
    codes = np.repeat(rng.integers(0, 16, (8, 4, frames // 10)), 10, axis=2).astype(np.int16)
    metre = np.zeros((8, 2), np.float32)
    metre[:4] = (0.5, 2.0)
    return pack_tokens.Shard(codes, [f"piece {n}, ıtü" for n in range(8)], metre)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a text encoder and three token files."""
    monkeypatch.setattr(plain_decoder, "DecoderShape", TinyShape)
    monkeypatch.setattr(train_packed_decoder, "DecoderShape", TinyShape)
    monkeypatch.setattr(pack_tokens, "FRAMES", 60)
    for name, value in (
        ("CROP_FRAMES", (20, 60)),
        ("EARLY_CROP_PROBABILITIES", (0.5, 0.5)),
        ("LATE_CROP_PROBABILITIES", (0.5, 0.5)),
    ):
        monkeypatch.setattr(train_packed_decoder, name, value)
    save_model(nano_models.build_nano_musicgen(0, **SHAPE).text_encoder, str(tmp_path / "text_encoder.safetensors"))
    rng = np.random.default_rng(1)
    for n in range(3):
        pack_tokens.write(tmp_path / f"tokens-{n:08d}.npz", make_shard(rng))
    return tmp_path


def train(folder: Path, steps: int) -> list[dict[str, Any]]:
    """The log after training to `steps`."""
    config = train_packed_decoder.Config(
        folder, folder, folder / "out", seconds=1e6, steps=steps, frames_per_step=240,
        peak_learning_rate=3e-3, warmup_steps=5, device="cpu",
    )  # fmt: skip
    train_packed_decoder.train(config)
    return [json.loads(line) for line in (folder / "out" / "log.jsonl").read_text().splitlines()]


def test_train_learns_and_resumes(folder: Path) -> None:
    early = train(folder, 10)[-1]
    late = train(folder, 60)[-1]
    assert (early["step"], late["step"]) == (10, 60)
    assert late["western"][0] < 5 < early["western"][0]
    weights = load_file(folder / "out" / "weights.safetensors")
    assert weights["decoder.lm_heads.0.weight"].dtype == torch.bfloat16
    model = assemble.assemble(
        NanoCodec(NanoCodecConfig(width=16, encoder_blocks=1, decoder_blocks=1)),
        folder, folder / "out" / "weights.safetensors", **SHAPE,
    )  # fmt: skip
    model.save_pretrained(folder / "nano")
    assert plain_decoder.max_logit_difference(folder / "nano") < 1e-4
    assert load(str(folder / "nano")).window_seconds == pack_tokens.SECONDS


def test_token_pool_reads_files_once_and_new_ones_later(folder: Path) -> None:
    text = train_packed_decoder.load_text_encoder(folder, CPU)
    pool = train_packed_decoder.TokenPool(folder, text, CPU)
    pool.read_new_files(2)
    assert len(pool.codes) == 16
    pool.read_new_files()
    pool.read_new_files()
    assert len(pool.codes) == 24
    assert (len(pool.western), len(pool.broad)) == (12, 12)
    (folder / "more").mkdir()
    pack_tokens.write(folder / "more" / "tokens-00000003.npz", make_shard(np.random.default_rng(2)))
    pool.read_new_files()
    assert len(pool.codes) == 32


def test_draw_predicts_beats_of_conditioned_openings_only(folder: Path) -> None:
    text = train_packed_decoder.load_text_encoder(folder, CPU)
    pool = train_packed_decoder.TokenPool(folder, text, CPU)
    pool.read_new_files()
    config = train_packed_decoder.Config(frames_per_step=1200)
    batches = [train_packed_decoder.draw(pool, step, config, early=True) for step in range(20)]
    with_beat = torch.cat([batch.metre[:, 0] > 0 for batch in batches])
    conditioned = torch.cat([batch.mask.any(1) for batch in batches])
    assert 0 < int(with_beat.sum()) < len(with_beat)
    assert bool(conditioned[with_beat].all())
    assert not bool(conditioned.all())
    again = train_packed_decoder.draw(pool, 3, config, early=True)
    assert torch.equal(again.codes, batches[3].codes)


def test_beat_head_error_of_a_constant_guess_is_one_half() -> None:
    head = train_packed_decoder.BeatHead(8).requires_grad_(False)
    torch.nn.init.zeros_(head.read[1].weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(head.read[1].bias)  # type: ignore[arg-type]
    metre = torch.tensor([[0.5, 2.0], [0.0, 0.0]])
    assert float(head.error(torch.randn(2, 100, 8), metre)) == pytest.approx(0.5, abs=1e-3)
    assert float(head.error(torch.randn(2, 100, 8), metre * 0)) == 0.0


def test_lr_at_warms_up_and_decays() -> None:
    config = train_packed_decoder.Config(peak_learning_rate=1.0, warmup_steps=10, final_learning_rate_fraction=0.01)
    assert train_packed_decoder.lr_at(0.0, 0, config) == pytest.approx(0.1)
    assert train_packed_decoder.lr_at(0.5, 100, config) == pytest.approx(0.505)
    assert train_packed_decoder.lr_at(1.0, 100, config) == pytest.approx(0.01)
