"""The pitch probe: targets, errors, detuned examples, and training on tiny settings."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import tiny_nano_mustango
from hypothesis import given
from hypothesis import strategies as st

from research.pretraining.nano_mustango import pitch_probe
from research.pretraining.nano_mustango.pitch_probe import PitchProbe, PitchTargets, pitch_targets, target_distribution
from research.pretraining.western_style import western_notes


def test_pitch_targets_mark_frames_with_a_change_as_unclear() -> None:
    tones = pitch_targets([[(0.0, 0.0), (0.5, 400.0), (2.0, 700.0)]], 64, 10.24)  # frames of 0.16 s
    assert tones.cents[0, :14].tolist() == [0] * 3 + [400] * 9 + [700] * 2  # at 0.56 s the second sounds
    # the fourth frame is from 0.48 to 0.64 s and holds the first change, the thirteenth from 1.92 s the second
    assert tones.clear[0].logical_not().nonzero()[:, 0].tolist() == [3, 12]


def test_bins_cover_every_western_melody() -> None:
    cents = [note.cents for seed in range(300) for note in western_notes(seed, 10.24)]
    room = pitch_probe.MAX_SHIFT_CENTS + 2 * pitch_probe.TARGET_SIGMA_CENTS
    assert min(cents) - room >= pitch_probe.LOWEST_CENTS
    assert max(cents) + room <= pitch_probe.HIGHEST_CENTS


@given(st.floats(-900, 2000))
def test_target_distribution_is_centred_on_the_pitch(cents: float) -> None:
    weights = target_distribution(torch.tensor(cents)).double()
    bins = pitch_probe.LOWEST_CENTS + pitch_probe.BIN_CENTS * torch.arange(pitch_probe.BINS)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert float((weights * bins).sum()) == pytest.approx(cents, abs=1.0)


def test_errors_of_a_perfect_prediction_are_zero_and_ignore_unclear_frames() -> None:
    tones = PitchTargets(torch.tensor([[0.0, 100.0], [0.0, 100.0]]), torch.tensor([[True, True], [True, False]]))

    class Perfect(PitchProbe):
        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return target_distribution(latents).clamp(min=1e-12).log()

    probe = Perfect(4)
    assert probe.errors(tones.cents, tones).tolist() == pytest.approx([0, 0], abs=1e-4)
    off = probe.errors(torch.tensor([[0.0, 200.0], [0.0, 200.0]]), tones)
    assert off[0] > 5
    assert float(off[1]) == pytest.approx(0, abs=1e-4)
    assert probe.cents(tones.cents)[0].tolist() == pytest.approx([0, 100], abs=2.0)


def test_errors_gradient_reduces_the_error() -> None:
    torch.manual_seed(0)
    probe, latents = PitchProbe(4 * 8).requires_grad_(False), torch.randn(1, 4, 8, 8, requires_grad=True)
    tones = PitchTargets(torch.full((1, 8), 700.0), torch.ones(1, 8, dtype=torch.bool))
    before = probe.errors(latents, tones)
    (slope,) = torch.autograd.grad(before.sum(), latents)
    after = probe.errors(latents - 0.1 * slope / slope.norm(), tones)
    reduction = float((before - after).detach())
    assert reduction == pytest.approx(0.1 * float(slope.norm()), rel=0.1)


def test_pitch_example_detunes_all_notes_alike() -> None:
    mel_vae = tiny_nano_mustango.SHAPE.mel_vae().eval()
    shifts = []
    for clip in range(6):
        latents, melody = pitch_probe.pitch_example(mel_vae, clip, 1.28)
        assert latents.shape[1] == 8
        assert np.isfinite(latents).all()
        off = np.array([cents for _, cents in melody]) % 100
        assert np.ptp((off - off[0] + 50) % 100) < 1e-6  # all notes are shifted alike
        shifts.append(off[0])
    assert len({round(float(each), 3) for each in shifts}) == 6


def test_train_logs_and_restore_gives_the_frozen_probe(tmp_path: Path) -> None:
    mel_vae = tiny_nano_mustango.SHAPE.mel_vae().eval()
    config = pitch_probe.Config(tmp_path, clips=8, steps=3, seconds=1.28, batch_size=4, held_out=2, num_workers=1)
    trained = pitch_probe.train(config, mel_vae, 1.0)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"loss", "median_cents", "within_25_cents"} <= rows[-1].keys()
    restored = pitch_probe.restore(tmp_path)
    latents = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(restored(latents), trained(latents))
    assert not any(weight.requires_grad for weight in restored.parameters())
