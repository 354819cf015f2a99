"""The automatic checks: each passes on what it should and fails on what it should not, or says why it cannot tell."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.brief_folder import RATE_HZ, brief_of

from talim import audio
from talim.audio import Audio
from talim.listening.brief import checks
from talim.traditions.performer import Wishes, perform


def steady(seconds: float = 2.0, hz: float = 220.0, level: float = 0.2) -> np.ndarray:
    return (level * np.sin(2 * np.pi * hz * np.arange(round(seconds * RATE_HZ)) / RATE_HZ)).astype(np.float32)


def sound(samples: np.ndarray) -> Audio:
    return Audio(samples[None], RATE_HZ)


def test_length() -> None:
    assert checks.length(sound(steady(2.05)), brief_of()).passed
    assert checks.length(sound(steady(2.2)), brief_of()).passed is False


def test_loudness() -> None:
    loud = audio.loudness_lufs(sound(steady()))
    assert checks.loudness(sound(steady()), brief_of(loudness_lufs=loud + 0.9)).passed
    assert checks.loudness(sound(steady()), brief_of(loudness_lufs=loud + 1.1)).passed is False
    assert checks.loudness(sound(np.zeros(RATE_HZ, np.float32)), brief_of()).found == "silent"


def test_clipping_sees_flat_tops_and_no_others() -> None:
    assert checks.clipping(sound(steady())).passed
    assert checks.clipping(sound(np.clip(steady(), -0.15, 0.15))).passed is False
    assert checks.clipping(sound(np.zeros(100, np.float32))).passed  # silence is another check's


def test_silence() -> None:
    gap = steady(4.0)
    gap[RATE_HZ : 2 * RATE_HZ + 2000] = 0
    assert checks.silence(sound(gap)).passed is False
    assert checks.silence(sound(steady())).passed
    assert checks.silence(sound(np.zeros(RATE_HZ, np.float32))).passed is False


def test_tempo() -> None:
    clicks = np.zeros(10 * RATE_HZ, np.float32)
    for start in range(0, clicks.size, RATE_HZ // 2):  # 120 a minute
        clicks[start : start + 200] = steady(200 / RATE_HZ, 880.0, 0.8)
    assert checks.tempo(sound(clicks), 120.0).passed
    assert checks.tempo(sound(clicks), 60.0).passed  # half is forgiven
    assert checks.tempo(sound(clicks), 95.0).passed is False
    assert checks.tempo(sound(np.zeros(RATE_HZ * 4, np.float32)), 95.0).passed is None


def test_mode_is_heard_in_what_was_performed_in_it(tmp_path: Path) -> None:
    """The performer plays Malkauns: its own mode is found, another is not; a steady tone tells none."""
    piece = perform(1, "hindustani", 30.0, Wishes(mode="Malkauns"))
    path = tmp_path / "malkauns.flac"
    audio.write(path, Audio(np.atleast_2d(piece.samples), piece.rate_hz))
    wanted: dict[str, Any] = {"tradition": "hindustani", "seconds": 30}
    assert checks.mode(path, brief_of(mode="Malkauns", **wanted)).passed
    assert checks.mode(path, brief_of(mode="Bhairav", **wanted)).passed is False
    short = checks.mode(path, brief_of(mode="Bhairav", **wanted | {"seconds": 10}))
    assert short.passed is None
    assert "not judged in 10 s: place" in short.found
    audio.write(tmp_path / "tone.flac", sound(steady()))
    told = checks.mode(tmp_path / "tone.flac", brief_of(mode="Yaman", **wanted))
    assert told.passed is None
    assert "too little melody" in told.found


def test_a_short_piece_holds_no_two_cycles() -> None:
    told = checks.cycle(sound(steady()), brief_of(tradition="hindustani", cycle="teental"))
    assert told.passed is None
    assert "two cycles have 32" in told.found


def test_all_at_once_and_what_is_not_installed(tmp_path: Path) -> None:
    audio.write(tmp_path / "x.flac", sound(steady()))
    found = checks.run(tmp_path / "x.flac", brief_of(loop=True, tempo_bpm=90))
    assert [one["name"] for one in found] == [
        *("length", "loudness", "clipping", "silence", "seam", "tempo", "originality"),
    ]
    assert found[-1]["passed"] is None
    assert "not checked" in found[-1]["found"]
    given = checks.Check("originality", False, "0.9 like piece-01", "at most 0.8")
    assert checks.run(tmp_path / "x.flac", brief_of(), lambda _: given)[-1]["passed"] is False


@pytest.mark.parametrize("seconds", [0.05, 0.5])
def test_tiny_sounds_break_nothing(tmp_path: Path, seconds: float) -> None:
    audio.write(tmp_path / "x.flac", sound(steady(seconds)))
    brief = brief_of(loop=True, tempo_bpm=90, tradition="makam", mode="Hicaz", cycle="düyek")
    assert all(one["passed"] in (True, False, None) for one in checks.run(tmp_path / "x.flac", brief))
