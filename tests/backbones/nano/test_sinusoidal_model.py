"""Sinusoidal model: exact pitch, level, noise, shapes, determinism."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from research.pretraining.western_style import perform
from talim.backbones.nano import sinusoidal_model
from talim.metrics import pitch

RATE_HZ = sinusoidal_model.RATE_HZ


def there_and_back(samples: np.ndarray) -> np.ndarray:
    features = sinusoidal_model.analyze(torch.from_numpy(samples.astype(np.float32))[None])
    return sinusoidal_model.synthesize(features)[0].numpy()[: samples.size]


@settings(max_examples=15, deadline=None)
@given(st.floats(90, 1500), st.floats(0.02, 0.5))
def test_resynthesis_of_a_sine_keeps_frequency_and_level(hz: float, amplitude: float) -> None:
    samples = amplitude * np.sin(2 * np.pi * hz * np.arange(RATE_HZ) / RATE_HZ)
    back = there_and_back(samples)[2000:-2000]
    spectrum = np.abs(np.fft.rfft(back * np.hanning(back.size), 1 << 18))
    frequency = np.argmax(spectrum) * RATE_HZ / (1 << 18)
    assert abs(1200 * np.log2(frequency / hz)) < 2
    assert np.sqrt(2 * np.mean(back**2)) == pytest.approx(amplitude, rel=0.12)


def test_resynthesis_of_music_keeps_pitch_within_two_cents() -> None:
    samples = perform(1, "western", 5.0).samples
    before, after = pitch.track_pitch(samples, RATE_HZ), pitch.track_pitch(there_and_back(samples), RATE_HZ)
    both = before.voiced & after.voiced
    assert both.sum() > 0.9 * before.voiced.sum()
    assert np.median(np.abs(before.cents - after.cents)[both]) < 2


def test_resynthesis_of_noise_keeps_its_level() -> None:
    samples = 0.1 * np.random.default_rng(0).standard_normal(2 * RATE_HZ)
    features = sinusoidal_model.analyze(torch.from_numpy(samples.astype(np.float32))[None])
    tonal = (
        sinusoidal_model.level_to_amplitude(features[:, : sinusoidal_model.PITCH_CELLS]).square().sum(1).mean().sqrt()
    )
    assert tonal < 0.05
    assert np.std(there_and_back(samples)) == pytest.approx(0.1, rel=0.25)


def test_resynthesis_of_silence_is_silent() -> None:
    assert np.abs(there_and_back(np.zeros(RATE_HZ))).max() < 1e-3


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 8000])
def test_analyze_and_synthesize_shapes_for_any_length(samples: int) -> None:
    features = sinusoidal_model.analyze(0.1 * torch.randn(2, samples, generator=torch.Generator().manual_seed(0)))
    frames = sinusoidal_model.num_frames(samples)
    assert features.shape == (2, sinusoidal_model.FEATURES, frames)
    assert sinusoidal_model.synthesize(features).shape == (2, frames * sinusoidal_model.HOP)


def test_amplitude_to_level_is_linear_in_db_and_invertible() -> None:
    amplitude = torch.tensor([1.0, 0.1, 0.01])
    torch.testing.assert_close(sinusoidal_model.amplitude_to_level(amplitude), torch.tensor([1.0, 0.75, 0.5]))
    torch.testing.assert_close(
        sinusoidal_model.level_to_amplitude(sinusoidal_model.amplitude_to_level(amplitude)), amplitude
    )
    assert sinusoidal_model.level_to_amplitude(torch.zeros(1)) == 0


def test_synthesize_depends_on_the_seed() -> None:
    features = sinusoidal_model.analyze(0.1 * torch.randn(1, 4000, generator=torch.Generator().manual_seed(0)))
    torch.testing.assert_close(
        sinusoidal_model.synthesize(features), sinusoidal_model.synthesize(features), rtol=0, atol=0
    )
    assert not torch.equal(sinusoidal_model.synthesize(features, 1), sinusoidal_model.synthesize(features, 2))


@pytest.mark.parametrize("sizes", [(1, 1, 48), (17, 33), (49, 1), (16, 16, 16, 2)])
def test_synthesizer_gives_the_same_sound_for_any_blocks(sizes: tuple[int, ...]) -> None:
    waves = [perform(seed, "western", 1.0).samples[:RATE_HZ] for seed in (1, 2)]
    features = sinusoidal_model.analyze(torch.stack([torch.from_numpy(np.float32(wave)) for wave in waves]))
    whole = sinusoidal_model.synthesize(features, seed=5)
    synthesizer = sinusoidal_model.Synthesizer(seed=5)
    parts = [synthesizer.add(block) for block in features.split(sizes, 2)]
    assert [part.shape[1] for part in parts] == [320 * sizes[0] - 160, *(320 * size for size in sizes[1:])]
    torch.testing.assert_close(torch.cat([*parts, synthesizer.finish()], 1), whole, rtol=0, atol=1e-6)
    assert whole.abs().amax(1).min() > 0.05
