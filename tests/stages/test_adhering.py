"""Adherence of sets whose modes and tempi are known from the performer's truth."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

import numpy as np

from talim.metrics.cache import Cache
from talim.stages import adhering
from talim.stages.score_table import Set
from talim.stages.scoring import Heard
from talim.traditions.arranging import Wishes
from talim.traditions.performer import truth_of

MODES = ("bhairav", "malkauns", "yaman")


def clip(mode: str = "unknown", instruments: str = "unknown", **extra: Any) -> Any:
    tradition = "hindustani" if mode != "unknown" else "unknown"
    return SimpleNamespace(mode=mode, tradition=tradition, instruments=instruments, extra=extra)


def performed(modes: tuple[str, ...] = MODES) -> Set:
    heard = []
    for seed, mode in enumerate(modes):
        truth = truth_of(seed, "hindustani", 30.0, Wishes(mode=mode))
        heard.append(Heard({}, truth.voices[0].cents.astype(float), Counter()))
    return Set([None] * len(modes), heard, list(modes))  # type: ignore[list-item]


def test_performances_follow_their_own_mode_and_not_another() -> None:
    own, clips = performed(), [clip(mode) for mode in MODES]
    rows = adhering.adhering(clips, own, performed(MODES[1:] + MODES[:1]), clips, own, Cache(None))
    assert [row.name for row in rows] == ["adherence_mode"]
    assert rows[0].value is not None and rows[0].value > 0.8  # noqa: PT018
    assert rows[0].ceiling is not None and rows[0].ceiling < 0.5  # noqa: PT018
    assert rows[0].n == 3


def test_prompts_that_ask_alike_or_for_nothing_are_no_contrast() -> None:
    alike = [clip("yaman")] * 3
    assert adhering.adhering(alike, performed(), performed(), alike, performed(), Cache(None)) == []
    assert adhering.label(clip(), "mode") is None
    assert adhering.label(clip("no such raga"), "mode") is None
    assert adhering.label(clip(tempo_bpm="fast"), "tempo") is None
    assert adhering.label(clip(tempo_bpm="90"), "tempo") == "90"


def test_too_little_melody_cannot_be_told() -> None:
    silent = Set([None] * 2, [Heard({}, np.full(500, np.nan), Counter())] * 2, ["a", "b"])  # type: ignore[list-item]
    assert np.isnan(adhering.mode_fit(silent, ["hindustani/yaman", "hindustani/bhairav"])).all()
