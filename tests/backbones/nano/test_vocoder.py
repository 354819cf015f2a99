"""Tests of talim.backbones.nano.vocoder: shapes, gradients, equal frames give equal sound."""

from __future__ import annotations

import torch

from talim.backbones.nano import sinusoidal_model
from talim.backbones.nano.vocoder import NanoVocoder, NanoVocoderConfig


def vocoder() -> NanoVocoder:
    torch.manual_seed(0)
    return NanoVocoder(NanoVocoderConfig(model_in_dim=8, width=16, blocks=2)).eval()


def test_forward_gives_320_samples_for_each_frame() -> None:
    with torch.no_grad():
        sound = vocoder()(torch.randn(2, 7, 8))
    assert sound.shape == (2, 7 * sinusoidal_model.HOP)
    assert bool(torch.isfinite(sound).all())


def test_features_of_a_batch_are_those_of_each_clip_alone() -> None:
    model, frames = vocoder(), torch.randn(3, 9, 8)
    with torch.no_grad():
        together = model.features_of(frames)
        alone = torch.cat([model.features_of(row[None]) for row in frames])
    assert together.shape == (3, sinusoidal_model.FEATURES, 9)
    torch.testing.assert_close(together, alone, atol=1e-5, rtol=1e-5)


def test_loudness_of_the_features_can_be_learnt() -> None:
    model = vocoder()
    model.features_of(torch.randn(1, 5, 8)).square().mean().backward()
    assert all(
        p.grad is not None and float(p.grad.abs().sum()) > 0 for p in (model.inward.weight, model.outward.weight)
    )


def test_config_says_what_the_codec_needs_to_know() -> None:
    config = NanoVocoderConfig()
    assert config.sampling_rate == 16_000
    assert config.upsample_rates == (320,)
