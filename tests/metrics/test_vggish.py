"""VGGish's input and the shape of its output."""

from __future__ import annotations

import numpy as np
import pytest

from talim.metrics import vggish


def test_vggish_log_mel_matches_an_independent_filter_bank() -> None:
    """Mel weights against those of transformers, made independently; a tone's place and its level by hand."""
    from transformers.audio_utils import mel_filter_bank

    other = mel_filter_bank(
        257, 64, 125.0, 7500.0, 16000, norm=None, mel_scale="kaldi", triangularize_in_mel_space=True
    )
    np.testing.assert_allclose(vggish.mel_weights(), other, atol=2e-3)
    tone = np.sin(2 * np.pi * 1000 * np.arange(15600) / 16000)
    patch = vggish.log_mel(tone)
    assert patch.shape == (96, 64)
    band = int(patch[50].argmax())
    assert vggish.mel_weights()[32, band] == vggish.mel_weights()[32].max()
    assert np.exp(patch).max() - 0.01 < 200 * 1.5  # 400-point Hann of a full-scale sine peaks at 100
    assert patch.min() == pytest.approx(np.log(0.01), abs=0.2)


def test_vggish_of_one_patch_has_128_activations() -> None:
    import torch

    model = vggish.Vggish(dense=8).eval()
    with torch.inference_mode():
        assert model(torch.zeros(2, 1, vggish.FRAMES, vggish.BANDS)).shape == (2, 128)
