"""Intonation and cycle marking of synthetic performances with ground truth."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.audio import Audio
from talim.evaluation import tradition_scores
from talim.evaluation.clip_measures import ClipMeasures
from talim.evaluation.score_table import ClipSet
from talim.metrics import rhythm
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performer import performance_ground_truth

RATE_HZ = 16000
MODE = "hindustani/yaman"


def clip(mode: str = "unknown", cycle: str = "unknown", **extra: Any) -> Any:
    said = {"tradition": "hindustani", "tonic_hz": None, "caption": ""}
    return SimpleNamespace(mode=mode, cycle=cycle, extra=extra, **said)


def lines(count: int = 3) -> list[np.ndarray]:
    """Melodies in Yaman, above A4, of other tonics each."""
    return [
        performance_ground_truth(seed, "hindustani", 30.0, PerformanceRequest(mode="yaman"))
        .voices[0]
        .cents.astype(float)
        + 37.0 * seed
        for seed in range(count)
    ]


def melodies(found: list[np.ndarray]) -> ClipSet:
    silence = Audio(np.zeros((1, RATE_HZ), np.float32), RATE_HZ)
    names = [f"recording {n}" for n in range(len(found))]
    return ClipSet([silence] * len(found), [ClipMeasures({}, line, Counter()) for line in found], names)


def beaten(pattern: list[float], seconds: float = 12.0, beat_seconds: float = 0.4) -> Audio:
    """Clicks, one a beat, as loud as the pattern says; quieter ones are duller too."""
    samples = np.random.default_rng(0).standard_normal(round(seconds * RATE_HZ)) * 1e-4
    decay = np.exp(-np.arange(1600) / 200)
    for n in range(int((seconds - 0.2) / beat_seconds)):
        start = round((0.05 + n * beat_seconds) * RATE_HZ)
        noise = np.random.default_rng(n % len(pattern)).standard_normal(1600)
        samples[start : start + 1600] += pattern[n % len(pattern)] * decay * noise * 0.3
    return Audio(samples.astype(np.float32)[None], RATE_HZ)


def played(clips: list[Audio]) -> ClipSet:
    heard = [ClipMeasures({}, np.full(1200, np.nan), Counter())] * len(clips)
    return ClipSet(clips, heard, [f"recording {n}" for n in range(len(clips))])


def rows(asked: list[Any], own: ClipSet, base: ClipSet, real: ClipSet) -> dict[str, Any]:
    return {row.name: row for row in tradition_scores.tradition_scores(asked, own, base, asked, real)}


def test_tradition_scores_of_detuned_notes_are_worse_and_of_transposed_ones_equal() -> None:
    real, rng = lines(), np.random.default_rng(0)
    warped = [line + 45 * np.sin(line / 97.0) for line in real]  # each pitch is off by another amount
    moved = [line + float(rng.uniform(0, 1200)) for line in real]
    asked = [clip("Yaman")] * 3
    found = rows(asked, melodies(warped), melodies(moved), melodies(real))
    for name in tradition_scores.INTONATION:
        row = found[name]
        assert row.n == 3
        assert row.direction == "lower_is_better"
        assert row.value > row.reference, name
        assert row.low is not None, name
        assert row.low <= row.value <= row.high
        assert row.baseline == pytest.approx(row.reference, rel=0.15), name  # the same music in other keys
    assert found["intonation_deviation_cents"].value > found["intonation_deviation_cents"].reference + 5


def test_relative_to_tonic_of_performance_finds_its_tonic() -> None:
    truth = performance_ground_truth(4, "hindustani", 30.0, PerformanceRequest(mode="yaman"))
    line = truth.voices[0].cents.astype(float)  # above the tonic already
    found = tradition_scores.relative_to_tonic(line + 300.0, MODE)
    assert found is not None
    slip = float(np.nanmedian(found - line))
    assert abs((slip + 600) % 1200 - 600) < 15


def test_tradition_scores_with_one_recording_have_no_histogram_distance() -> None:
    alone = melodies(lines(1))
    found = rows([clip("Yaman")], alone, alone, alone)
    assert found["intonation_deviation_cents"].n == 1  # theory serves where no other recording does
    assert found["mode_histogram_distance"].value is None
    assert "no other recording" in found["mode_histogram_distance"].sentence


def test_cycle_strength_of_marked_cycle_exceeds_that_of_random_accents() -> None:
    strong = beaten([1, 0.01, 0.01, 0.3, 0.01, 0.1, 0.01])
    loose = beaten(list(np.random.default_rng(1).uniform(0.05, 1, 31)))
    asked = [clip(cycle="Rupak", tempo_bpm="150")] * 2
    found = rows(asked, played([strong] * 2), played([loose] * 2), played([strong] * 2))
    row = found["cycle_strength"]
    assert row.n == 2
    assert row.value > row.baseline + 0.1
    assert row.value == row.reference
    assert found["cycle_recurrence"].value is None  # no melody
    assert "not measured" in found["cycle_recurrence"].sentence


def test_candidate_tempi_without_prompt_tempo_are_estimated() -> None:
    sound = beaten([1, 0.1, 0.1, 0.5, 0.1, 0.3, 0.1]).samples[0]
    assert tradition_scores.candidate_tempi(sound, 150.0) == (150.0,)
    heard = tradition_scores.candidate_tempi(sound)
    assert len(heard) == 4
    assert any(rhythm.same_tempo(one, 150.0) for one in heard)
    assert tradition_scores.candidate_tempi(np.zeros(RATE_HZ * 3, np.float32)) == ()


@pytest.mark.parametrize("said", ["unknown", "", "none", "no such name"])
def test_tradition_scores_of_prompts_without_mode_or_cycle_give_the_reason(said: str) -> None:
    asked = [clip(said, said)] * 2
    some = played([beaten([1.0, 0.2])] * 2)
    found = rows(asked, some, some, some)
    assert set(found) == {*tradition_scores.INTONATION, *tradition_scores.CYCLE}
    for row in found.values():
        assert (row.value, row.n) == (None, 0)
        assert "not measured, because the prompts name no" in row.sentence


def test_tradition_scores_of_silent_or_short_clips_give_the_reason() -> None:
    silent = Audio(np.zeros((1, 3 * RATE_HZ), np.float32), RATE_HZ)
    short = played([silent, beaten([1.0, 0.2], seconds=2.0)])
    found = rows([clip("yaman", "teental", tempo_bpm="60")] * 2, short, short, short)
    assert "too little melody" in found["intonation_z_rms"].sentence
    assert "one and a half cycles" in found["cycle_strength"].sentence
    assert all(row.value is None for row in found.values())


@pytest.mark.parametrize("said", ["fast", "", "nan", "-3", "0", "inf", None])
def test_prompt_tempo_of_invalid_label_is_none(said: str | None) -> None:
    assert tradition_scores.prompt_tempo(clip(tempo_bpm=said)) is None


def test_labels_that_are_missing_are_read_from_the_caption() -> None:
    said = SimpleNamespace(**vars(clip()) | {"caption": "sarod, raga Yaman, tala Teentaal, 80 bpm"})
    for tradition in ("hindustani", "unknown", ""):
        said.tradition = tradition
        assert tradition_scores.mode_label(said) == MODE
        assert tradition_scores.cycle_label(said) == "hindustani/teentaal"
    assert tradition_scores.prompt_tempo(said) == 80
    said.tradition = "makam"
    assert tradition_scores.mode_label(said) is None
    said.tradition, said.mode, said.cycle, said.extra = "hindustani", "Bhairav", "none", {"tempo_bpm": "60"}
    assert tradition_scores.mode_label(said) == "hindustani/bhairav"
    assert tradition_scores.cycle_label(said) is None  # it is said to have none
    assert tradition_scores.prompt_tempo(said) == 60
