"""Plants are what they say, and a small benchmark finds them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from talim.metrics import pitch
from talim.stages import originality_report as report
from talim.traditions.performer import perform

RATE_HZ = report.RATE_HZ


def plan(**changes: object) -> report.Plant:
    plain = {
        "source": 0,
        "source_seconds": 1.0,
        "clip_seconds": 2.0,
        "semitones": 0.0,
        "ratio": 1.0,
        "filtering": "none",
        "coding": "none",
    }
    return report.Plant(**(plain | changes))  # type: ignore[arg-type]


def tone(hz: float) -> np.ndarray:
    return (0.3 * np.sin(2 * np.pi * hz * np.arange(10 * RATE_HZ) / RATE_HZ)).astype(np.float32)


def test_a_plant_lies_where_it_should_at_its_pitch_and_length() -> None:
    made = report.plant(tone(300.0), tone(440.0), plan(semitones=3.0, ratio=0.8))
    hz = pitch.track(made, RATE_HZ).hz
    assert made.shape == (10 * RATE_HZ,)
    assert np.nanmedian(hz[:95]) == pytest.approx(300.0, rel=1e-3)
    assert np.nanmedian(hz[110:290]) == pytest.approx(440 * 2 ** (3 / 12), rel=3e-3)
    assert np.nanmedian(hz[310:]) == pytest.approx(300.0, rel=1e-3)
    assert np.sqrt(np.mean(made**2)) == pytest.approx(0.3 / np.sqrt(2), rel=0.05)


@pytest.mark.parametrize("coding", ["mp3", "opus"])
def test_coding_changes_the_samples_and_keeps_the_music(coding: str) -> None:
    samples = perform(1, "demo", 3.0).samples
    coded = report.recoded(samples, coding)
    assert coded.shape == samples.shape
    assert not np.array_equal(coded, samples)
    lags = np.correlate(coded[8000:24000], samples[8000:24000], "full")
    scale = np.linalg.norm(coded[8000:24000]) * np.linalg.norm(samples[8000:24000])
    assert lags.max() / scale > 0.8


def test_filters_cut_what_their_names_say() -> None:
    both = tone(100.0) + tone(5000.0)
    for name, weaker in (("low-pass 2 kHz", 5000), ("high-pass 300 Hz", 100)):
        spectrum = np.abs(np.fft.rfft(report.filtered(both, name)))
        stronger = 5100 - weaker
        assert spectrum[weaker * 10 - 20 : weaker * 10 + 20].max() < 0.25 * spectrum[stronger * 10]


def test_a_small_benchmark(tmp_path: Path) -> None:
    setting = report.performed(6)
    found = report.measure(setting)
    assert found["plants"] == 6
    assert float(str(found["found_and_placed"])) >= 4 / 6
    text = report.page([found], "the command")
    assert "the command" in text
    assert text.count("| performances of one mode and cycle |") == 1


def test_a_folder_of_one_recording_is_no_setting(tmp_path: Path) -> None:
    from talim.audio import Audio, write

    assert report.real(tmp_path) is None
    write(tmp_path / "one.wav", Audio(np.tile(tone(200.0), 2)[None], RATE_HZ))
    assert report.real(tmp_path) is None
    write(tmp_path / "two.wav", Audio(tone(250.0)[None], RATE_HZ))
    setting = report.real(tmp_path)
    assert setting is not None
    assert setting.recordings == ["one", "one", "two"]
