"""The shipped nano-musicgen: size, and quality on a few clips."""

from __future__ import annotations

import numpy as np
import pytest

from research.acceptance import nano_musicgen
from research.pretraining.western_style import perform
from talim.audio import Audio
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


def test_continuation_of_generated_music_equals_the_uninterrupted_piece(nano: Backbone) -> None:
    whole = nano.generate_tokens(["slow flute"], 0.8, seed=0, temperature=0)
    rest = nano.generate_tokens(["slow flute"], 0.3, seed=1, temperature=0, start=whole[:, :, :25])
    assert np.array_equal(rest, whole[:, :, 25:])


@pytest.mark.parametrize("hz", [220.0, 262.0])
def test_phrase_goes_on_without_a_click(nano: Backbone, hz: float) -> None:
    """A steady voice, stereo, at another rate, with a broken frame; spliced without a cross-fade it clicks."""
    time = np.arange(22_338) / 22_050
    voice = 0.15 * sum(np.sin(2 * np.pi * partial * hz * time) / partial for partial in (1, 2, 3))
    phrase = Audio(np.tile(voice, (2, 1)), 22_050)
    own = phrase.resample(nano.rate_hz).to_channels(1).samples[0]
    piece = nano.generate_from(phrase, "slow flute", 0.1, 3).read().samples[0]
    fade = round(0.04 * nano.rate_hz)
    assert np.array_equal(piece[: own.size - fade], own[:-fade])
    largest = np.abs(np.diff(own[-8000:])).max()
    assert np.abs(np.diff(piece[own.size - fade - 1 : own.size + 2])).max() < 1.1 * largest
    assert abs(piece[own.size] - own[-1]) > 1.5 * largest
