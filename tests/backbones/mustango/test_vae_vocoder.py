"""Spectrogram, VAE and vocoder: levels, lengths, silence, frequency bands."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from fixtures import released_mustango
from hypothesis import given
from hypothesis import strategies as st

from talim.audio.load_librosa import load_librosa
from talim.backbones.mustango import vae_vocoder
from talim.backbones.mustango.backbone import Mustango
from talim.backbones.mustango.vae_vocoder import MelConfig, MelSpectrogram
from talim.errors import TalimError


def tone(hz: float, seconds: float = 1.0, peak: float = 0.2) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hz * np.arange(round(seconds * 16000)) / 16000)).astype(np.float32)


@given(st.floats(0.01, 0.9), st.floats(-0.1, 0.1))
def test_normalise_any_level_gives_peak_half(peak: float, offset: float) -> None:
    normalised = vae_vocoder.normalise(tone(440.0, peak=peak) + np.float32(offset))
    assert abs(normalised.mean()) < 1e-3
    assert np.abs(normalised).max() == pytest.approx(0.5, abs=1e-3)


def test_normalise_silence_stays_silent_and_finite() -> None:
    assert not vae_vocoder.normalise(np.zeros(100, np.float32)).any()
    assert not vae_vocoder.pad_or_trim(np.zeros(100, np.float32), 200).any()
    mel = MelSpectrogram(MelConfig())(torch.zeros(1, 1600))
    assert torch.allclose(mel, torch.tensor(1e-5).log())


def test_pad_or_trim_gives_the_length_and_peak() -> None:
    samples = tone(440.0)
    assert vae_vocoder.pad_or_trim(samples, 4000).shape == (4000,)
    longer = vae_vocoder.pad_or_trim(samples, 20000)
    assert not longer[16000:].any()
    assert np.abs(longer).max() == pytest.approx(0.5)


@pytest.mark.parametrize("hz", [220.0, 1000.0, 5000.0])
def test_spectrogram_of_a_tone_peaks_in_its_band(hz: float) -> None:
    librosa = load_librosa()

    mel = MelSpectrogram(MelConfig())(torch.from_numpy(tone(hz))[None])[0, :, 50]
    centres = librosa.mel_frequencies(66, fmin=0, fmax=8000)[1:-1]
    assert abs(int(mel.argmax()) - int(np.abs(centres - hz).argmin())) <= 1


def test_mel_vae_shapes_are_consistent(tiny: Mustango) -> None:
    mel_vae = tiny.mel_vae
    assert (mel_vae.downsampling_factor, mel_vae.samples_per_frame, mel_vae.channels, mel_vae.bands) == (4, 640, 8, 16)
    assert mel_vae.spectrogram(tone(440.0), 40).shape == (1, 40, 64)


@torch.no_grad()
def test_posterior_does_not_depend_on_the_batch(tiny: Mustango) -> None:
    mels = torch.randn(3, 1, 16, 64) - 4
    together = tiny.mel_vae.posterior(mels).mean
    assert torch.equal(together[1:2], tiny.mel_vae.posterior(mels[1:2]).mean)


@torch.no_grad()
@pytest.mark.parametrize("frames", [40, 70])
def test_vocode_blocks_are_the_samples_of_vocode(tiny: Mustango, frames: int) -> None:
    mel = torch.randn(2, 1, 163, 64, generator=torch.Generator().manual_seed(0)) - 4
    whole = tiny.mel_vae.vocode(mel)
    blocks = list(tiny.mel_vae.vocode_blocks(mel, frames))
    assert [block.shape[1] for block in blocks[:-1]] == [160 * frames] * (162 // frames)
    torch.testing.assert_close(torch.cat(blocks, 1), whole, atol=2e-6, rtol=0)
    assert torch.equal(*map(torch.cat, ([whole], list(tiny.mel_vae.vocode_blocks(mel)))))


@torch.no_grad()
def test_vocode_blocks_need_all_of_their_context(tiny: Mustango, monkeypatch: pytest.MonkeyPatch) -> None:
    needed = vae_vocoder.receptive_frames(tiny.mel_vae.vocoder.config)
    mel = torch.zeros(1, 1, 4 * needed, 64) - 4
    changed = mel.clone()
    changed[:, :, 0] += 5  # all that the first frame reaches
    moved = (tiny.mel_vae.vocode(mel) - tiny.mel_vae.vocode(changed))[0].abs() > 0
    reached = int(moved.nonzero().max()) / 160
    assert needed - 5 < reached <= needed + 1
    monkeypatch.setattr(vae_vocoder, "receptive_frames", lambda config: 2)
    short = torch.cat(list(tiny.mel_vae.vocode_blocks(changed, needed)), 1)
    assert (short - tiny.mel_vae.vocode(changed)).abs().max() > 1e-5


def test_mel_vae_with_another_hop_raises_talim_error(tiny: Mustango) -> None:
    config = MelConfig.of(released_mustango.STFT | {"hop_length": 200})
    with pytest.raises(TalimError, match="160 samples per frame"):
        vae_vocoder.MelVAE(tiny.mel_vae.vae, tiny.mel_vae.vocoder, config)


def test_mel_config_of_nested_file() -> None:
    nested = {"preprocessing": {"stft": {"hop_length": 80}, "mel": {"n_mel_channels": 32}}}
    assert (MelConfig.of(nested).hop_length, MelConfig.of(nested).n_mel_channels) == (80, 32)
