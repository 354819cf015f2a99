"""The shipped nano-musicgen: size, and quality on a few clips."""

from __future__ import annotations

import numpy as np
import pytest

from research.acceptance import nano_musicgen
from research.pretraining.western_style import perform
from talim.backbones.load import load
from talim.backbones.protocol import Backbone
from talim.backbones.resolve import NANO_FOLDER


@pytest.fixture(scope="module")
def nano() -> Backbone:
    return load("nano-musicgen")


def test_shipped_nano_musicgen_has_its_facts_and_size(nano: Backbone) -> None:
    files = [path for path in NANO_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 60e6
    assert nano.miniature
    assert nano.window_seconds >= 20
    assert nano.rate_hz == 16000
    assert "Apache" in nano.licence
    card = (NANO_FOLDER / "nano-musicgen" / "README.md").read_text(encoding="utf-8")
    assert "seed" in card
    assert "equal-tempered" in card


def test_codec_preserves_the_pitch_of_held_out_performances(nano: Backbone) -> None:
    originals = [perform(seed, "western", 5.0).samples for seed in (900, 901, 902)]
    results = [nano_musicgen.pitch_errors((x, nano_musicgen.round_trip(nano, x))) for x in originals]
    errors = np.concatenate([errors for errors, _ in results])
    assert np.median(errors) < 8
    assert (errors <= 50).mean() > 0.9


def test_held_out_loss_is_far_below_the_unigram_loss(nano: Backbone) -> None:
    losses = nano_musicgen.held_out_loss(nano, [perform(seed, "western", 8.0) for seed in range(910, 914)])
    assert all(m < u for m, u in zip(losses["model"], losses["unigram"], strict=True))
    assert losses["model"][0] < 0.5 * losses["unigram"][0]


def test_generated_music_is_pitched(nano: Backbone) -> None:
    [clip] = nano.generate(["solo flute, C major, 96 bpm"], 4.0, seed=1)
    assert nano_musicgen.measure_sample(clip.samples[0]).voiced > 0.5
