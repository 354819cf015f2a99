"""Prompt adherence of synthetic performances whose modes and tempi are known from the ground truth."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np

from talim.audio import Audio
from talim.evaluation import adherence_scores
from talim.evaluation.clip_measures import ClipMeasures
from talim.evaluation.score_table import ClipSet
from talim.metrics.cache import MetricCache
from talim.metrics.embeddings import EmbeddingExtractor
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performer import perform, performance_ground_truth
from talim.traditions.tradition import load

MODES = ("bhairav", "malkauns", "yaman")


RATE_HZ = 16000


def clip(mode: str = "unknown", instruments: str = "unknown", **extra: Any) -> Any:
    tradition = "hindustani" if mode != "unknown" else "unknown"
    said = {"cycle": "unknown", "tonic_hz": None, "caption": f"a piece in {mode}"}
    return SimpleNamespace(mode=mode, tradition=tradition, instruments=instruments, extra=extra, **said)


def performed(modes: tuple[str, ...] = MODES) -> ClipSet:
    heard = []
    for seed, mode in enumerate(modes):
        truth = performance_ground_truth(seed, "hindustani", 30.0, PerformanceRequest(mode=mode))
        heard.append(ClipMeasures({}, truth.voices[0].cents.astype(float), Counter()))
    return ClipSet([None] * len(modes), heard, list(modes))  # type: ignore[list-item]


def test_adherence_mode_of_performances_prefers_their_own_mode() -> None:
    own, clips = performed(), [clip(mode) for mode in MODES]
    rows = adherence_scores.prompt_adherence_scores(
        clips, own, performed(MODES[1:] + MODES[:1]), clips, own, MetricCache(None)
    )
    assert [row.name for row in rows if row.value is not None] == ["adherence_mode"]
    assert rows[0].value is not None and rows[0].value > 0.8  # noqa: PT018
    assert rows[0].baseline is not None and rows[0].baseline < 0.5  # noqa: PT018
    assert rows[0].n == 3


def test_a_row_that_so_few_prompts_cannot_decide_says_how_many_would_do() -> None:
    own, clips = performed(), [clip(mode) for mode in MODES]
    row = adherence_scores.prompt_adherence_scores(clips, own, performed(), clips, own, MetricCache(None))[0]
    assert row.value is not None
    assert row.gain is row.gain_error is None
    assert re.search(
        r"not decided: real music prefers its own label in [01]\.\d\d .* 3 prompts .*; \d+ prompts would do",
        row.sentence,
    )
    assert row.sentence.endswith(row.undecided)
    many = replace(own, measures=[*own.measures] * 14, recordings=[f"{n}" for n in range(42)], clips=[None] * 42)  # type: ignore[list-item]
    row = adherence_scores.prompt_adherence_scores(clips * 14, many, many, clips, own, MetricCache(None))[0]
    assert row.undecided == ""
    assert row.gain == 0.0
    assert len(row.per_prompt) == len(row.baseline_per_prompt) == 42


def test_adherence_of_equal_prompts_has_no_value_and_gives_the_reason() -> None:
    alike = [clip("yaman")] * 3
    rows = adherence_scores.prompt_adherence_scores(
        alike, performed(), performed(), alike, performed(), MetricCache(None)
    )
    assert [row.value for row in rows] == [None] * 5
    assert [row.n for row in rows] == [0] * 5
    assert all("not measured" in row.sentence for row in rows)
    assert rows[-1].sentence.endswith("it was not requested")
    assert adherence_scores.prompt_label(clip(), "mode") is None
    assert adherence_scores.prompt_label(clip("no such raga"), "mode") is None
    assert adherence_scores.prompt_label(clip(tempo_bpm="fast"), "tempo") is None
    assert adherence_scores.prompt_label(clip(tempo_bpm="90"), "tempo") == "90"


def test_mode_fit_of_silent_melody_is_nan() -> None:
    silent = ClipSet([None] * 2, [ClipMeasures({}, np.full(500, np.nan), Counter())] * 2, ["a", "b"])  # type: ignore[list-item]
    assert np.isnan(adherence_scores.mode_fit(silent, ["hindustani/yaman", "hindustani/bhairav"])).all()


def sounding(clips: list[Audio]) -> ClipSet:
    heard = [ClipMeasures({}, np.full(500, np.nan), Counter())] * len(clips)
    return ClipSet(clips, heard, [f"recording {n}" for n in range(len(clips))])


def test_adherence_cycle_of_performances_prefers_their_own_cycle() -> None:
    names, tradition = ("rupak", "keherwa", "jhaptal", "dadra"), load("hindustani")
    made = [
        perform(9300 + n, "hindustani", 12.0, PerformanceRequest(cycle=tradition.cycle(name).slug, ensemble=3))
        for n, name in enumerate(names)
    ]
    clips = [Audio(one.samples[None], RATE_HZ) for one in made]
    asked = [clip("yaman") for _ in clips]
    for one, name in zip(asked, names, strict=True):
        one.cycle = name
    bpm = [
        60 * tradition.cycle(name).beats / float(np.diff(one.truth.first_beats_seconds).mean())
        for one, name in zip(made, names, strict=True)
    ]
    own = replace(sounding(clips), prompt_bpm=bpm)
    other = replace(sounding(clips[1:] + clips[:1]), prompt_bpm=bpm)
    rows = {
        row.name: row
        for row in adherence_scores.prompt_adherence_scores(asked, own, other, asked, own, MetricCache(None))
    }
    row = rows["adherence_cycle"]
    assert row.n == 4
    assert row.value is not None and row.value >= 0.8  # noqa: PT018
    assert row.baseline is not None and row.baseline < row.value - 0.2  # noqa: PT018


class FakeClap:
    """CLAP whose words and sounds are the same three axes: pitch low, middle, high."""

    identity = "clap/fake"

    def __init__(self) -> None:
        self.audio_embedding: Any = EmbeddingExtractor("clap", "clap/fake", RATE_HZ, None, 3, self.embed_window)

    def embed_window(self, samples: np.ndarray) -> np.ndarray:
        spectrum = np.abs(np.fft.rfft(samples))
        edges = [0, samples.size // 60, samples.size // 20, samples.size // 2]
        return np.array([spectrum[low:high].sum() for low, high in itertools.pairwise(edges)])

    def embed_text(self, text: str) -> np.ndarray:
        return np.eye(3, dtype=np.float32)[("low", "middle", "high").index(text)]


def test_adherence_clap_prefers_own_captions_to_shuffled_ones() -> None:
    at = np.arange(RATE_HZ) / RATE_HZ
    tones = [Audio(np.sin(2 * np.pi * hz * at, dtype=np.float32)[None], RATE_HZ) for hz in (100, 500, 2000)]
    asked = [clip() for _ in tones]
    for one, caption in zip(asked, ("low", "middle", "high"), strict=True):
        one.caption = caption
    own, turned = sounding(tones), sounding(tones[1:] + tones[:1])
    fake_clap: Any = FakeClap()
    row = adherence_scores.prompt_adherence_scores(asked, own, turned, asked, own, MetricCache(None), fake_clap)[-1]
    assert (row.name, row.value, row.reference, row.n) == ("adherence_clap", 1.0, 1.0, 3)
    assert row.baseline is not None and row.baseline < 0.5  # noqa: PT018
