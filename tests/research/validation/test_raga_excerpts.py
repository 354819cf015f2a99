"""Ragas of sound files end to end, on two sung with sines over a drone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile
from fixtures.sung_melodies import HOP_SECONDS, sing

from research.validation import raga_excerpts
from talim.errors import TalimError
from talim.progress import Progress
from talim.traditions.tradition import load

HINDUSTANI = load("hindustani")
RATE_HZ = 16000
LABELS = {"one_1": ("Yaman", 150.0), "two_2": ("Bhairav", 160.0), "not_there": ("Todi", 160.0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("excerpts")
    for seed, (name, (raga, tonic_hz)) in enumerate(list(LABELS.items())[:2]):
        cents = np.repeat(sing(HINDUSTANI.mode(raga), seed, phrases=12), round(HOP_SECONDS * RATE_HZ))
        hz = tonic_hz * 2 ** (np.nan_to_num(cents) / 1200)
        voice = np.where(np.isnan(cents), 0.0, 0.4) * np.sin(2 * np.pi * np.cumsum(hz) / RATE_HZ)
        drone = 0.02 * np.sin(2 * np.pi * tonic_hz * np.arange(voice.size) / RATE_HZ)
        soundfile.write(folder / f"{name}.wav", voice + drone, RATE_HZ)
    (folder / "other.wav").write_bytes(b"not labelled: not read")
    return folder


def test_report_recognises_sung_ragas(folder: Path) -> None:
    excerpts = raga_excerpts.read_excerpts(folder, LABELS, HINDUSTANI, Progress())
    assert [each.name for each in excerpts] == ["one_1", "two_2"]
    page = raga_excerpts.report(excerpts, HINDUSTANI)
    assert "| tonic given, all 100 ragas | 2 of 2" in page
    assert "| nothing given, all 100 ragas | 2 of 2" in page
    assert "first, tonic given, in 0 of 2 pairs" in page


def test_a_folder_without_the_excerpts_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TalimError, match="none of one_1"):
        raga_excerpts.read_excerpts(tmp_path, LABELS, HINDUSTANI, Progress())


@pytest.mark.parametrize(
    ("ranks", "off_cents", "on_scale", "stage"),
    [
        ((1, 1), 0.0, 0.9, ""),
        ((1, 3), -500.0, 0.9, "tonic"),
        ((1, 2), 10.0, 0.9, "the raga, once the tonic is uncertain"),
        ((4, 4), 0.0, 0.99, "facts: another raga explains the notes as well"),
        ((4, 4), 300.0, 0.7, "melody: notes outside the scale; and the tonic"),
    ],
)
def test_failing_stage(ranks: tuple[int, int], off_cents: float, on_scale: float, stage: str) -> None:
    assert raga_excerpts.failing_stage(*ranks, off_cents, on_scale, 1.0) == stage


def test_every_excerpt_has_a_raga_that_talim_knows() -> None:
    assert len({HINDUSTANI.mode(raga).slug for raga, _ in raga_excerpts.EXCERPTS.values()}) == 11
