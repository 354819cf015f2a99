"""The ear for latents: what it is asked, what counts as right, and that it hears a quarter of a tone."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from fixtures import tiny_nano_mustango
from hypothesis import given
from hypothesis import strategies as st

from research.pretraining import pitch_probe
from research.pretraining.pitch_probe import PitchProbe, PitchTargets, pitch_bell, pitch_targets
from research.pretraining.western_style import western_notes


def test_tones_and_where_they_are_clear() -> None:
    tones = pitch_targets([[(0.0, 0.0), (0.5, 400.0), (2.0, 700.0)]], 64, 10.24)  # frames of 0.16 s
    assert tones.cents[0, :14].tolist() == [0] * 3 + [400] * 9 + [700] * 2  # at 0.56 s the second sounds
    # the fourth frame is from 0.48 to 0.64 s and holds the first change, the thirteenth from 1.92 s the second
    assert tones.clear[0].logical_not().nonzero()[:, 0].tolist() == [3, 12]


def test_every_melody_can_be_heard() -> None:
    cents = [note.cents for seed in range(300) for note in western_notes(seed, 10.24)]
    room = pitch_probe.MOST_SHIFT_CENTS + 2 * pitch_probe.TARGET_SIGMA_CENTS
    assert min(cents) - room >= pitch_probe.LOWEST_CENTS
    assert max(cents) + room <= pitch_probe.HIGHEST_CENTS


@given(st.floats(-900, 2000))
def test_the_right_answer_is_a_bell_around_the_pitch(cents: float) -> None:
    weights = pitch_bell(torch.tensor(cents)).double()
    bins = pitch_probe.LOWEST_CENTS + pitch_probe.BIN_CENTS * torch.arange(pitch_probe.BINS)
    assert float(weights.sum()) == pytest.approx(1, abs=1e-5)
    assert float((weights * bins).sum()) == pytest.approx(cents, abs=1.0)


def test_a_perfect_answer_has_no_error_and_changing_frames_do_not_count() -> None:
    tones = PitchTargets(
        torch.tensor([[0.0, 100.0], [0.0, 100.0]]), torch.tensor([[True, True], [True, False]])
    )

    class Told(PitchProbe):
        def forward(self, latents: torch.Tensor) -> torch.Tensor:
            return pitch_bell(latents).clamp(min=1e-12).log()

    ear = Told(4)
    assert ear.errors(tones.cents, tones).tolist() == pytest.approx([0, 0], abs=1e-4)
    off = ear.errors(torch.tensor([[0.0, 200.0], [0.0, 200.0]]), tones)
    assert off[0] > 5
    assert float(off[1]) == pytest.approx(0, abs=1e-4)
    assert ear.cents(tones.cents)[0].tolist() == pytest.approx([0, 100], abs=2.0)


def test_the_gradient_pulls_latents_towards_the_right_pitch() -> None:
    torch.manual_seed(0)
    ear, latents = PitchProbe(4 * 8).requires_grad_(False), torch.randn(1, 4, 8, 8, requires_grad=True)
    tones = PitchTargets(torch.full((1, 8), 700.0), torch.ones(1, 8, dtype=torch.bool))
    before = ear.errors(latents, tones)
    (slope,) = torch.autograd.grad(before.sum(), latents)
    after = ear.errors(latents - 0.1 * slope / slope.norm(), tones)
    fall = float((before - after).detach())
    assert fall == pytest.approx(0.1 * float(slope.norm()), rel=0.1)


def test_lessons_are_tuned_off_and_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pitch_probe, "SECONDS", 1.28)
    sound = tiny_nano_mustango.SHAPE.mel_vae().eval()
    shifts = []
    for clip in range(6):
        latents, melody = pitch_probe.pitch_example(sound, clip)
        assert latents.shape[1] == 8
        assert np.isfinite(latents).all()
        off = np.array([cents for _, cents in melody]) % 100
        assert np.ptp((off - off[0] + 50) % 100) < 1e-6  # all notes are shifted alike
        shifts.append(off[0])
    assert len({round(float(each), 3) for each in shifts}) == 6


def test_it_is_trained_logged_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pitch_probe, "SECONDS", 1.28)
    monkeypatch.setattr(pitch_probe, "BATCH", 4)
    monkeypatch.setattr(pitch_probe, "HELD_OUT", 2)
    sound = tiny_nano_mustango.SHAPE.mel_vae().eval()
    made = pitch_probe.train(tmp_path, sound, 1.0, workers=1, clips=8, steps=3)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"loss", "median_cents", "within_25_cents"} <= rows[-1].keys()
    read = pitch_probe.restored(tmp_path)
    latents = torch.randn(1, 4, 8, 8)
    torch.testing.assert_close(read(latents), made(latents))
    assert not any(weight.requires_grad for weight in read.parameters())
