"""Scores of continuations: what the recording itself gets, what another recording gets, what silence gets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.sung_melodies import HOP_SECONDS, sing

from talim.audio import Audio
from talim.corpus.manifest import Clip
from talim.evaluation.continuation_scores import Continued, nearer_share, score_continuations
from talim.metrics.cache import MetricCache
from talim.traditions.tradition import load

RATE_HZ = 16_000
TONIC_HZ = 220.0


def melody(mode: str, tonic_hz: float, seed: int) -> np.ndarray:
    """The last four and a half seconds of a melody that is sung in a raga, in a voice of three partials."""
    cents = sing(load("hindustani").mode(mode), seed, phrases=1)[-450:]
    hz = np.repeat(np.nan_to_num(tonic_hz * 2 ** (cents / 1200)), round(RATE_HZ * HOP_SECONDS))
    phase = 2 * np.pi * np.cumsum(hz) / RATE_HZ
    voice = sum(np.sin(partial * phase) / partial for partial in (1, 2, 3))
    return np.where(hz > 0, 0.2 * voice, 0.0).astype(np.float32)


def clip(recording: str, **changes: Any) -> Clip:
    values = {
        "id": recording,
        "file": f"{recording}.flac",
        "recording": recording,
        "performer": "unknown",
        "start_seconds": 0.0,
        "seconds": 6.0,
        "caption": "",
        "split": "held_out",
        "audio_hash": "0",
        "source_file": recording,
        "source_hash": "0",
        "tradition": "hindustani",
        "mode": "Malkauns",
        "tonic_hz": TONIC_HZ,
    }
    return Clip(**{**values, **changes})


def audio(samples: np.ndarray) -> Audio:
    return Audio(samples[None], RATE_HZ)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The adapter keeps to Malkauns on its tonic; the base falls into another raga on another tonic, or silence."""
    continued, controls = [], []
    for number in range(2):
        parts = {
            "after": melody("Malkauns", TONIC_HZ, seed=10 + number),
            "before": melody("Bhairav", TONIC_HZ * 1.3, seed=20 + number) if number else np.zeros(72_000),
            "real": melody("Malkauns", TONIC_HZ, seed=30 + number),
        }
        phrase = audio(melody("Malkauns", TONIC_HZ, seed=40 + number))
        sounds = {role: audio(samples) for role, samples in parts.items()}
        continued.append(Continued(clip(f"r{number}"), phrase, sounds))
        controls.append((f"r{number}", sounds["real"]))
    controls += [(f"x{n}", audio(melody("Bhairav", TONIC_HZ * 1.4, seed=50 + n))) for n in range(2)]
    found, warnings = score_continuations(continued, controls, MetricCache(tmp_path_factory.mktemp("cache")))
    assert warnings == []
    return {row["name"]: row for row in found}


def test_mode_is_kept_by_the_recording_and_the_adapter_only(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["continuation_mode_probability"]
    assert row["value"] > 0.5
    assert row["reference"] > 0.5
    assert row["baseline"] < 0.1  # silence counts as 0, it is not left out
    assert row["control"] < row["value"]
    assert row["gain"] > 0.4


def test_intonation_is_measured_from_the_given_tonic(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["continuation_intonation_cents"]
    assert row["value"] < 10
    assert row["baseline"] > 2 * row["value"]


def test_scale_of_the_phrase_is_kept_by_the_adapter_only(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["continuation_scale_distance"]
    assert row["value"] < 0.4
    assert row["reference"] < 0.4
    assert row["baseline"] > 0.7  # 1 for the silent one
    assert row["control"] > row["value"]


def test_score_is_testable_where_the_recordings_are_better_than_their_controls(rows: dict[str, dict[str, Any]]) -> None:
    assert rows["continuation_scale_distance"]["testable"]
    assert rows["continuation_mode_probability"]["testable"]


def test_nearness_is_above_chance_for_what_is_like_the_recording(rows: dict[str, dict[str, Any]]) -> None:
    row = rows["continuation_nearness_pitch"]
    assert row["value"] > 0.6
    assert row["control"] == 0.5
    assert row["reference"] > 0.6


def test_scores_without_mode_or_other_recordings_say_why(tmp_path: Path) -> None:
    sound = audio(melody("Malkauns", TONIC_HZ, 0))
    continued = [
        Continued(
            clip("r", mode="unknown", tradition="unknown"), sound, dict.fromkeys(("after", "before", "real"), sound)
        )
    ]
    found, warnings = score_continuations(continued, [("r", sound)], MetricCache(tmp_path))
    by_name = {row["name"]: row for row in found}
    assert by_name["continuation_mode_probability"]["value"] is None
    assert "no mode that talim knows" in by_name["continuation_mode_probability"]["sentence"]
    assert by_name["continuation_nearness_timbre"]["value"] is None
    assert "two held-out recordings" in by_name["continuation_nearness_timbre"]["sentence"]
    assert by_name["continuation_scale_distance"]["value"] == pytest.approx(0.0, abs=1e-6)
    assert by_name["continuation_scale_distance"]["control"] is None
    assert "one recording" in warnings[0]


def test_nearer_share_counts_ties_half_and_no_distance_as_none() -> None:
    assert nearer_share(1.0, np.array([2.0, 3.0, 0.5, 1.0])) == pytest.approx(2.5 / 4)
    assert nearer_share(float("nan"), np.array([1.0])) == 0.0
    assert np.isnan(nearer_share(1.0, np.array([])))
