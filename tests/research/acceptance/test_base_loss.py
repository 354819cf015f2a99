"""Trivial predictors on codes of known entropy; token files; losses of a tiny base."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from research.acceptance import base_loss
from research.pretraining import nano_models
from research.pretraining.nano_musicgen import plain_decoder
from talim.backbones.nano.codec import NanoCodec, NanoCodecConfig


def test_predictors_of_uniform_codes_equal_their_entropy() -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 16, (4, 4000)) for _ in range(2)]
    found = base_loss.predictors(codes[:1], codes[1:])
    assert found["uniform"] == pytest.approx([np.log(1024)] * 4)
    assert found["unigram"] == pytest.approx([np.log(16)] * 4, abs=0.02)
    assert found["last_token"] == pytest.approx(found["unigram"], abs=0.02)  # one in 16 repeats by chance


def test_predictors_last_token_uses_repeated_codes() -> None:
    rng = np.random.default_rng(0)
    codes = [np.repeat(rng.integers(0, 256, (4, 4000)), 8, axis=1) for _ in range(2)]
    found = base_loss.predictors(codes[:1], codes[1:])
    change = -(7 / 8) * np.log(7 / 8) - (1 / 8) * np.log(1 / 8) + np.log(256) / 8
    assert found["last_token"] == pytest.approx([change] * 4, abs=0.12)
    assert found["unigram"] == pytest.approx([np.log(256)] * 4, abs=0.15)


def test_read_inverts_write(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    codes = [rng.integers(0, 1024, (4, n)).astype(np.int16) for n in (50, 70)]
    pieces = base_loss.Pieces(codes, ["bir söz", "b"], ["r1", "r2"], ["train", "test"])
    base_loss.write(tmp_path / "one.npz", pieces)
    stored = base_loss.read(tmp_path / "one.npz")
    assert [c.shape for c in stored.codes] == [(4, 50), (4, 70)]
    assert all(np.array_equal(a, b) for a, b in zip(stored.codes, codes, strict=True))
    assert (stored.captions, stored.recordings) == (pieces.captions, pieces.recordings)
    assert stored.on_sides("test") == [1]


@pytest.fixture
def base(tmp_path: Path) -> base_loss.BaseModel:
    codec = NanoCodec(NanoCodecConfig(width=16, encoder_blocks=1, decoder_blocks=1))
    nano_models.build_nano_musicgen(0, codec, width=32, layers=2, heads=2, ffn=48).save_pretrained(tmp_path / "nano")
    return base_loss.load_checkpoint(tmp_path / "nano", torch.device("cpu"))


def test_loss_of_a_padded_clip_equals_that_of_the_clip_alone(base: base_loss.BaseModel) -> None:
    rng = np.random.default_rng(0)
    short, long = (rng.integers(0, 1024, (4, n)) for n in (20, 50))
    with torch.no_grad():
        alone = [base.loss([clip], ["a"]).double() for clip in (short, long)]
        together = base.loss([short, long], ["a", "a"]).double()
    torch.testing.assert_close(together, (20 * alone[0] + 50 * alone[1]) / 70, rtol=1e-4, atol=1e-4)


def test_measure_reports_the_gates_of_base_and_adapted(
    base: base_loss.BaseModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base_loss, "VALIDATE_EVERY", 2)
    rng = np.random.default_rng(0)
    codes = [np.repeat(rng.integers(0, 8, (4, 10)), 6, axis=1) for _ in range(6)]
    pieces = base_loss.Pieces(
        codes, ["a"] * 6, [f"r{n}" for n in range(6)], ["train"] * 3 + ["validation"] + ["test"] * 2
    )
    result = base_loss.measure(base, pieces, None, adapt=True, steps=4)
    assert result["clips"] == 2
    assert not result["passed_base"]  # an untrained base is no better than uniform
    assert [step for step, _ in result["adapted"]["curve"]] == [0, 2, 4]
    assert result["below_unigram"] == pytest.approx(np.mean(result["unigram"]) - np.mean(result["base"]))
    assert isinstance(base.model, plain_decoder.PlainDecoder)


def test_leave_one_out_of_disjoint_recordings_is_near_uniform() -> None:
    codes = [np.full((4, 50), code) for code in (1, 2, 3)]
    pieces = base_loss.Pieces(codes, ["a"] * 3, ["r1", "r2", "r3"], ["test"] * 3)
    result = base_loss.leave_one_out(pieces)
    assert result["unigram_of_same_recordings"] == pytest.approx([np.log(3)] * 4, abs=1e-3)
    assert min(result["unigram"]) > 4
