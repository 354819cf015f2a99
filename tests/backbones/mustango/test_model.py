"""The released model on the meta device: a training step and generation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from golden_mustango.structure import RELEASED_UNET
from torch._subclasses.fake_tensor import FakeTensorMode
from transformers import T5Config

import talim.adapters as adapters
from talim.backbones.mustango import diffusion
from talim.backbones.mustango.batch import LatentBatch, beat_chord_tokens
from talim.backbones.mustango.model import ModelDims, MustangoModel
from talim.backbones.mustango.unet_config import UNetConfig
from talim.beats_chords import BeatsAndChords

PARAMETERS = 1_416_364_360  # U-Net, beat and chord layers of the released files
WIDTH, WORDS, CLIPS = 1024, 32, 2


def released() -> MustangoModel:
    """The released dimensions with a text encoder that is not called."""
    text = T5Config(vocab_size=8, d_model=WIDTH, d_kv=4, d_ff=4, num_layers=1, num_heads=1)
    return MustangoModel(UNetConfig.of(RELEASED_UNET), text, ModelDims(*[WIDTH] * 5)).requires_grad_(False)


def batch_of(frames: tuple[int, ...], **where: Any) -> LatentBatch:
    beats, chords = beat_chord_tokens([BeatsAndChords()] * len(frames))
    longest = max(frames)
    return LatentBatch(
        torch.zeros(len(frames), 8, longest, 16, **where),
        torch.ones(len(frames), longest, dtype=torch.bool, **where),
        torch.zeros(len(frames), WORDS, WIDTH, **where),
        torch.ones(len(frames), WORDS, dtype=torch.bool, **where),
        beats,
        chords,
        frames,
    )


@pytest.mark.parametrize("frames", [(256, 256), pytest.param((256, 141), marks=pytest.mark.slow)])
def test_training_step_of_the_released_model_runs_on_meta(frames: tuple[int, ...]) -> None:
    with torch.device("meta"):
        model = released()
        peft = adapters.attach(model, "conv@all:40M", model.sites())
    trained = adapters.trainable_parameters(peft)
    assert model.own_parameters == PARAMETERS
    assert sum(weight.numel() for weight in trained) == pytest.approx(40e6, rel=0.01)
    with FakeTensorMode(allow_non_fake_inputs=True):
        model.to_empty(device="cpu").train()  # as if there were memory for it
        schedule, batch = diffusion.make_scheduler(), batch_of(frames)
        levels, noise = diffusion.sample_noise_levels(batch)
        errors, _ = diffusion.velocity_errors(model, schedule, batch, levels, noise)
        (errors * diffusion.min_snr_weights(schedule.alphas_cumprod, levels, "min_snr_v")).mean().backward()
        trained = [weight for weight in model.parameters() if weight.requires_grad]
        assert errors.shape == (len(frames),)
        assert sum(weight.numel() for weight in trained if weight.grad is not None) == pytest.approx(40e6, rel=0.01)
        torch.optim.AdamW(trained, lr=1e-3).step()


@pytest.mark.parametrize("sampler", diffusion.SAMPLERS)
def test_generation_of_the_released_model_runs_on_meta(sampler: str) -> None:
    with torch.device("meta"):
        model = released()
        text = torch.zeros(2 * CLIPS, WORDS, WIDTH)
        mask = torch.ones(2 * CLIPS, WORDS, dtype=torch.bool)
        latents = torch.zeros(CLIPS, 8, 256, 16)
    beats, chords = (tokens.to("meta") for tokens in beat_chord_tokens([BeatsAndChords()] * 2 * CLIPS))
    calls: list[torch.Size] = []

    def predict(noisy: torch.Tensor, level: torch.Tensor) -> torch.Tensor:
        calls.append(noisy.shape)
        if len(calls) == 1:  # every call is the same one; the others are not needed to know that it goes
            return model(noisy, level, text, mask, beats, chords)
        return torch.empty_like(noisy)

    sources = diffusion.make_generators(0, CLIPS)
    with torch.no_grad():
        output = diffusion.denoise(
            diffusion.with_guidance(predict, 3.0), latents, 100, diffusion.make_scheduler(sampler), sources
        )
    assert output.shape == latents.shape
    assert output.device.type == "meta"
    assert len(calls) >= 100
    assert set(calls) == {torch.Size((2 * CLIPS, 8, 256, 16))}
