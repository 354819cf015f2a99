"""The weights in the package: present, small, and as good as the gates say, on a few clips."""

from __future__ import annotations

import numpy as np
import pytest

from research.acceptance import nano_musicgen
from talim.backbones.load import load
from talim.backbones.protocol import Backbone
from talim.backbones.resolve import NANO_FOLDER
from talim.synthesis.performer import perform


@pytest.fixture(scope="module")
def nano() -> Backbone:
    return load("nano-musicgen")


def test_what_is_shipped(nano: Backbone) -> None:
    files = [path for path in NANO_FOLDER.rglob("*") if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 60e6
    assert nano.miniature
    assert nano.window_seconds >= 20
    assert nano.rate_hz == 16000
    assert "Apache" in nano.licence
    card = (NANO_FOLDER / "nano-musicgen" / "README.md").read_text(encoding="utf-8")
    assert "seed" in card
    assert "equal-tempered" in card


def test_codec_keeps_the_pitch_of_held_out_performances(nano: Backbone) -> None:
    originals = [perform(seed, "western", 5.0).samples for seed in (900, 901, 902)]
    kept = [nano_musicgen.pitch_errors((x, nano_musicgen.round_trip(nano, x))) for x in originals]
    errors = np.concatenate([errors for errors, _ in kept])
    assert np.median(errors) < 8
    assert (errors <= 50).mean() > 0.9


def test_music_is_far_less_surprising_than_the_mere_frequencies_of_codes(nano: Backbone) -> None:
    found = nano_musicgen.held_out_loss(nano, [perform(seed, "western", 8.0) for seed in range(910, 914)])
    assert all(m < u for m, u in zip(found["model"], found["unigram"], strict=True))
    assert found["model"][0] < 0.5 * found["unigram"][0]


def test_generated_music_is_pitched(nano: Backbone) -> None:
    [clip] = nano.generate(["solo flute, C major, 96 bpm"], 4.0, seed=1)
    assert nano_musicgen.measure_sample(clip.samples[0]).voiced > 0.5
