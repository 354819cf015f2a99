"""The shipped nano-mustango: size, and quality on a few clips."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from research.acceptance import nano_musicgen, nano_mustango
from research.pretraining.western_style import perform
from talim.backbones.load import load
from talim.backbones.resolve import NANO_FOLDER
from talim.beats_chords import BeatGrid, BeatsAndChords
from talim.metrics import rhythm


@pytest.fixture(scope="module")
def nano() -> Any:
    return load("nano-mustango")


def test_shipped_nano_mustango_has_its_facts_and_size(nano: Any) -> None:
    assert nano.miniature
    assert nano.rate_hz == 16000
    assert nano.window_seconds >= 10
    assert "Apache" in nano.licence
    card = (NANO_FOLDER / "nano-mustango" / "README.md").read_text(encoding="utf-8")
    assert "seed" in card
    assert "equal-tempered" in card


def test_vae_and_vocoder_preserve_the_pitch_of_held_out_performances(nano: Any) -> None:
    originals = [perform(seed, "western", 5.0).samples for seed in (900, 901, 902)]
    results = [nano_musicgen.pitch_errors((x, nano_musicgen.round_trip(nano, x))) for x in originals]
    errors = np.concatenate([errors for errors, _ in results])
    assert np.median(errors) < 10
    assert (errors <= 50).mean() > 0.85


@pytest.mark.slow
@pytest.mark.parametrize("count", [3, 8])
def test_text_beats_and_chords_each_lower_the_loss(nano: Any, count: int) -> None:
    saved = nano_mustango.condition_gain(nano, nano_mustango.performances_with_chords(count))
    highest = {name: levels[-1] for name, levels in saved.items()}
    assert highest["all"] < min(highest[name] for name in ("no text", "no beats", "no chords"))
    assert highest["none"] > highest["all"]


@pytest.mark.slow
@pytest.mark.parametrize("steps", [8, 15])
def test_generated_music_is_pitched_and_follows_the_given_beats(nano: Any, steps: int) -> None:
    tempi = (80.0, 112.0, 140.0, 96.0)
    captions = ["solo flute with drums", "guitar with drums", "piano with drums", "violin with drums"]
    music = [BeatsAndChords(BeatGrid.grid(tempo, 4, 10.0)) for tempo in tempi]
    clips = nano.generate(
        captions, 10.0, seed=1, guidance_scale=3.0, sampling_steps=steps, sampler="dpm++", beats_chords=music
    )
    measured = [nano_musicgen.measure_sample(clip.samples[0]) for clip in clips]
    assert np.mean([sample.voiced for sample in measured]) > 0.5
    matches = [rhythm.same_tempo(sample.tempo_bpm, tempo) for sample, tempo in zip(measured, tempi, strict=True)]
    assert sum(matches) >= 2  # by chance, one of four
