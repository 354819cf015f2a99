"""Spectrograms: position of tones, pitch of voiced frames, blank silence."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from talim.html.spectrogram import (
    COLUMNS,
    HEIGHT,
    HIGHEST_HZ,
    LEFT,
    LOWEST_HZ,
    ROWS,
    WIDTH,
    log_energy,
    pitch_path,
    spectrogram,
    time_ticks,
)


def tone(hz: float, rate_hz: int = 16000, seconds: float = 1.0) -> np.ndarray:
    return np.sin(2 * np.pi * hz * np.arange(int(rate_hz * seconds)) / rate_hz).astype(np.float32)


@pytest.mark.parametrize("rate_hz", [16000, 32000, 44100])
@pytest.mark.parametrize("hz", [110.0, 440.0, 3000.0])
def test_log_energy_of_a_tone_is_in_its_row(hz: float, rate_hz: int) -> None:
    energy = log_energy(tone(hz, rate_hz), rate_hz)
    assert energy.shape == (ROWS, COLUMNS)
    row_hz = np.geomspace(LOWEST_HZ, HIGHEST_HZ, ROWS)[energy[:, COLUMNS // 2].argmax()]
    assert abs(12 * np.log2(row_hz / hz)) < 1


def test_log_energy_of_silence_is_blank() -> None:
    assert log_energy(np.zeros(16000, np.float32), 16000).max() == 0
    assert log_energy(tone(440), 16000).max() == 1


def test_log_energy_above_nyquist_is_blank() -> None:
    noise = np.random.default_rng(0).normal(size=8000).astype(np.float32)
    energy = log_energy(noise, 8000)
    assert energy[np.geomspace(LOWEST_HZ, HIGHEST_HZ, ROWS) > 4100].max() == 0


def test_pitch_path_is_interrupted_where_unvoiced() -> None:
    hz = np.array([220.0, 220.0, np.nan, 440.0, 20.0, 440.0])
    path = pitch_path(hz, 0.1, 0.6, 300, 100)
    assert path.count("M") == 3
    assert path.count("L") == 1
    octave = 100 / np.log2(HIGHEST_HZ / LOWEST_HZ)
    heights = [float(y) for y in re.findall(r" ([\d.]+)", path)]
    assert heights[0] - heights[2] == pytest.approx(octave, abs=0.2)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True), max_size=40), st.floats(0.01, 0.1))
def test_pitch_path_of_any_pitch_stays_in_the_plot(hz: list[float], hop_seconds: float) -> None:
    points = re.findall(r"[ML]([\d.-]+) ([\d.-]+)", pitch_path(np.array(hz), hop_seconds, 2.0, 330, 132))
    assert all(LEFT <= float(x) <= LEFT + 330 and 0 <= float(y) <= 132 for x, y in points)


@given(st.floats(0.05, 4000))
def test_time_ticks_start_at_zero_and_are_few(seconds: float) -> None:
    ticks = time_ticks(seconds)
    assert ticks[0] == 0
    assert len(ticks) <= 7
    assert ticks[-1] <= seconds


def test_spectrogram_has_image_pitch_ticks_and_alt() -> None:
    svg = spectrogram(tone(440), 16000, alt='a "tone"', pitch_hz=np.full(10, 440.0), hop_seconds=0.1)
    assert f'viewBox="0 0 {WIDTH:g} {HEIGHT:g}"' in svg
    assert 'aria-label="a &#34;tone&#34;"' in svg
    assert 'class="pitch"' in svg
    assert ">1k</text>" in svg
    data = re.search(r'href="data:image/png;base64,([^"]+)"', svg)
    assert data
    image = Image.open(io.BytesIO(base64.b64decode(data.group(1)))).convert("RGBA")
    assert image.size == (COLUMNS, ROWS)
    opacity = np.asarray(image)[:, COLUMNS // 2, 3]
    row = ROWS - 1 - opacity.argmax()
    assert np.geomspace(LOWEST_HZ, HIGHEST_HZ, ROWS)[row] == pytest.approx(440, rel=0.06)


@pytest.mark.parametrize(("at", "share"), [(0.5, 0.25), (2.0, 1.0), (9.0, 1.0)])
def test_spectrogram_marks_the_seam_at_its_second(at: float, share: float) -> None:
    drawing = spectrogram(tone(440, seconds=2.0), 16000, alt="a tone", seam_seconds=at)
    (x,) = re.findall(r'<line class="seam" x1="([\d.]+)"', drawing)
    assert float(x) == pytest.approx(LEFT + share * (WIDTH - LEFT), abs=0.06)
    assert "seam" not in spectrogram(tone(440), 16000, alt="a tone")


def test_spectrogram_without_pitch_or_of_one_sample_is_drawn() -> None:
    assert 'class="pitch"' not in spectrogram(np.zeros(1, np.float32), 16000, alt="x")
