"""The acceptance measures on inputs with known results."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from research.acceptance import nano_musicgen
from research.acceptance.nano_musicgen import GeneratedClipMeasures
from research.pretraining.western_style import perform
from talim.audio import Audio
from talim.metrics import signal_embeddings

RATE_HZ = nano_musicgen.RATE_HZ


def sine(hz: float, seconds: float = 2.0) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(int(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def measures(**changes: Any) -> GeneratedClipMeasures:
    facts: dict[str, Any] = {"voiced": 1.0, "on_grid": 1.0, "entropy_bits": 2.0, "notes_per_second": 2.0}
    facts |= {"key": (0, "major"), "profile": np.eye(12)[0], "tempo_bpm": 120.0, "timbre": np.zeros(4)}
    return GeneratedClipMeasures(**(facts | changes))


@pytest.mark.parametrize("cents", [5.0, 60.0])
def test_pitch_errors_of_a_detuned_tone_are_its_offset(cents: float) -> None:
    errors, voiced = nano_musicgen.pitch_errors((sine(300), sine(300 * 2 ** (cents / 1200))))
    assert np.median(errors) == pytest.approx(cents, abs=0.3)
    assert voiced > 80
    assert ((errors <= 50).mean() > 0.9) == (cents < 50)


def test_log_mel_distance_is_zero_for_equal_clips_and_grows() -> None:
    tone, louder, other = sine(300), 2 * sine(300), sine(900)
    assert nano_musicgen.log_mel_distance([(tone, tone)]) == 0
    assert 0 < nano_musicgen.log_mel_distance([(tone, louder)]) < nano_musicgen.log_mel_distance([(tone, other)])


def test_instrument_classifier_recognises_unseen_examples() -> None:
    rng = np.random.default_rng(0)
    centres = {"bowed": rng.normal(0, 3, 10), "blown": rng.normal(0, 3, 10), "struck": rng.normal(0, 3, 10)}
    names = [name for name in centres for _ in range(30)]
    recognise = nano_musicgen.InstrumentClassifier(np.stack([centres[n] + rng.normal(0, 1, 10) for n in names]), names)
    hits = [recognise(centres[n] + rng.normal(0, 1, 10)) == n for n in names]
    assert np.mean(hits) > 0.95


def test_prompt_accuracy_counts_matches_and_shuffled_keys() -> None:
    facts = [
        {"tempo_bpm": 120, "family": "bowed", "tonic_class": 0, "scale": "major"},
        {"tempo_bpm": 60, "family": "blown", "tonic_class": 7, "scale": "minor"},
    ]
    clips = [measures(), measures(key=(0, "major"), tempo_bpm=118.0)]
    met = nano_musicgen.prompt_accuracy(clips, facts, lambda _: "bowed")  # type: ignore[arg-type]
    assert met["tempo"] == 1.0  # 118 is 60 doubled, within 8 %
    assert met["instrument"] == 0.5
    assert met["key"] == 0.5
    assert met["key_shuffled"] == 0.5  # the second clip is in the first one's key
    assert met["key_above_shuffled"] == 0.0


def test_pairwise_distances_of_equal_clips_are_zero() -> None:
    clips = [measures() for _ in range(3)]
    apart = [*clips, measures(timbre=np.full(4, 5.0), profile=np.eye(12)[6])]
    assert nano_musicgen.pairwise_distances(clips, np.zeros(4), np.ones(4)).max() == 0
    assert nano_musicgen.pairwise_distances(apart, np.zeros(4), np.ones(4)).argmax() == 3


def test_recognizer_example_is_a_performance_after_the_codec() -> None:
    class Halving:
        def encode(self, sound: Any) -> np.ndarray:
            return sound.samples

        def decode(self, codes: np.ndarray) -> Any:
            return Audio(0.5 * codes, RATE_HZ)

    vector, family = nano_musicgen.recognizer_example(Halving(), 3)
    piece = perform(3, "western", nano_musicgen.CLIP_SECONDS)
    np.testing.assert_allclose(vector, signal_embeddings.timbre_features(0.5 * piece.samples, RATE_HZ), atol=1e-4)
    assert family == piece.facts["family"]
