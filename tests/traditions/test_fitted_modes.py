"""What labelled recordings add to the facts: counts, densities, files, and modes that only recordings tell apart."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fixtures.sung_melodies import HOP_SECONDS, sing

from talim.errors import TalimError
from talim.traditions import mode_model
from talim.traditions.fitted_modes import FitShape, FittedModes, fit_modes, load_fitted, save_fitted
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.note_transcription import (
    CLASSES,
    INTERVALS_CENTS,
    STEP_CENTS,
    NoteSequence,
    degree_histograms,
    interval_histogram,
    transcribe_notes,
)
from talim.traditions.schema import Mode
from talim.traditions.tradition import load

HINDUSTANI = load("hindustani")
# Two modes whose facts are the same; one is sung downwards from its octave, the other upwards.
SCALE = (0.0, 200.0, 400.0, 500.0, 700.0, 900.0, 1100.0)
RISING = Mode("rising", "Rising", (), SCALE, SCALE)
FALLING = Mode("falling", "Falling", (), SCALE, SCALE)
TWINS = replace(HINDUSTANI, slug="twins", modes=(RISING, FALLING), usage={})


def melody(mode: Mode, seed: int) -> NoteSequence:
    """A melody of one of the twins, which differ in direction alone."""
    line = (*SCALE, 1200.0)
    sung = replace(mode, ascent_cents=line if mode is RISING else line[::-1], descent_cents=())
    return transcribe_notes(sing(sung, seed, phrases=12), HOP_SECONDS)


def test_counts_are_sums_of_the_histograms_of_each_recording() -> None:
    notes = [melody(RISING, seed) for seed in range(3)]
    fitted = fit_modes("twins", [("rising", notes[0]), ("falling", notes[1]), ("rising", notes[2])])
    assert {slug: counts.recordings for slug, counts in fitted.modes.items()} == {"rising": 2, "falling": 1}
    assert fitted.recordings == 3
    expected = interval_histogram(notes[0]) + interval_histogram(notes[2])
    np.testing.assert_allclose(fitted.modes["rising"].intervals, expected)
    np.testing.assert_allclose(fitted.modes["falling"].degrees, degree_histograms(notes[1], 3))


def test_modes_of_equal_facts_are_told_apart_by_recordings_and_not_without() -> None:
    fitted = fit_modes("twins", [(mode.slug, melody(mode, seed)) for mode in TWINS.modes for seed in range(3)])
    without, with_counts = ModeRecognizer([TWINS]), ModeRecognizer([TWINS], fitted=[fitted])
    for mode in TWINS.modes:
        for seed in (10, 11):
            notes = melody(mode, seed)
            assert without.recognize(notes, tonic_known=True).scores == pytest.approx([0.5, 0.5])
            best = with_counts.recognize(notes, tonic_known=True).ranked_modes()[0]
            assert best[1] is mode
            assert best[2] > 0.9


def test_parts_tell_modes_apart_that_differ_in_their_order_only() -> None:
    def ordered(first: float, last: float) -> NoteSequence:
        rng = np.random.default_rng(3)
        cents = np.concatenate([first + rng.choice([0.0, 200.0], 30), last + rng.choice([0.0, 200.0], 30)])
        return NoteSequence(cents, np.ones(60), np.arange(60.0), np.full(60, 5.0))  # rests: no interval counts

    fitted = fit_modes("twins", [("rising", ordered(0, 700)), ("falling", ordered(700, 0))])
    recognizer = ModeRecognizer([TWINS], fitted=[fitted])
    steps = degree_histograms(ordered(0, 700), 3).reshape(-1)
    logs = recognizer.degree_log_density.reshape(2, -1) @ steps
    assert logs[0] > logs[1] + 1


def test_densities_sum_to_one_and_are_the_facts_without_recordings() -> None:
    fitted = fit_modes("twins", [("rising", melody(RISING, 0))]).modes["rising"]
    facts, degrees = mode_model.transition_density(RISING), mode_model.degree_density(RISING)
    density = fitted.transition_density(facts)
    np.testing.assert_allclose(density.sum(1) * STEP_CENTS, 1, rtol=1e-2)
    np.testing.assert_allclose(fitted.degree_density(degrees).sum(1), 1)
    heavy = FitShape(facts_recordings=1e9, off_scale_fraction=0.0, off_scale_time_fraction=0.0)
    np.testing.assert_allclose(fitted.transition_density(facts, heavy), facts, rtol=1e-5)
    np.testing.assert_allclose(fitted.degree_density(degrees, heavy)[1], degrees, rtol=1e-5)


def test_modes_without_recordings_keep_their_facts() -> None:
    yaman = fit_modes("hindustani", [("yaman", transcribe_notes(sing(HINDUSTANI.mode("Yaman"), 1), HOP_SECONDS))])
    plain, fitted = ModeRecognizer([HINDUSTANI]), ModeRecognizer([HINDUSTANI], fitted=[yaman])
    slugs = [mode.slug for mode in HINDUSTANI.modes]
    changed = [not np.array_equal(*pair) for pair in zip(plain.step_log_density, fitted.step_log_density, strict=True)]
    assert [slug for slug, each in zip(slugs, changed, strict=True) if each] == ["yaman"]


def test_counts_of_another_tradition_change_nothing() -> None:
    other = fit_modes("makam", [("yaman", melody(RISING, 0))])
    plain, fitted = ModeRecognizer([HINDUSTANI]), ModeRecognizer([HINDUSTANI], fitted=[other])
    np.testing.assert_array_equal(plain.step_log_density, fitted.step_log_density)


def test_saved_counts_are_read_back(tmp_path: Path) -> None:
    fitted = fit_modes("twins", [("rising", melody(RISING, 0)), ("falling", melody(FALLING, 1))])
    save_fitted(fitted, tmp_path / "twins.npz")
    read = load_fitted(tmp_path / "twins.npz")
    assert (read.tradition, set(read.modes), read.recordings) == ("twins", {"rising", "falling"}, 2)
    for slug, counts in fitted.modes.items():
        np.testing.assert_allclose(read.modes[slug].intervals, counts.intervals, atol=1e-7)
        np.testing.assert_allclose(read.modes[slug].degrees, counts.degrees, atol=1e-7)


def arrays(**changed: object) -> dict[str, Any]:
    values: dict[str, object] = {
        "format": 1,
        "tradition": "twins",
        "slugs": np.array(["rising"]),
        "recordings": np.array([1]),
        "intervals": np.zeros((1, CLASSES, INTERVALS_CENTS.size)),
        "degrees": np.zeros((1, 3, CLASSES)),
    } | changed
    return {key: np.asarray(value) for key, value in values.items() if value is not None}


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"degrees": None}, "no 'degrees' in it"),
        ({"format": 7}, "another version"),
        ({"intervals": np.zeros((1, 3, 4))}, "'intervals' must be numbers"),
        ({"degrees": np.full((1, 3, CLASSES), np.nan)}, "'degrees' must be numbers"),
        ({"recordings": np.array([-1])}, "'recordings' must be numbers"),
        ({"slugs": np.array(["rising", "falling"])}, "'recordings' must be numbers"),
    ],
)
def test_damaged_files_are_refused_in_one_line(tmp_path: Path, changed: dict[str, object], words: str) -> None:
    path = tmp_path / "fitted.npz"
    np.savez(path, **arrays(**changed))
    with pytest.raises(TalimError, match=words) as refused:
        load_fitted(path)
    assert "\n" not in str(refused.value)


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    (tmp_path / "no.npz").write_text("text")
    with pytest.raises(TalimError, match="cannot be read as fitted modes"):
        load_fitted(tmp_path / "no.npz")
    with pytest.raises(TalimError, match="no such file"):
        load_fitted(tmp_path / "none.npz")


def test_empty_counts_hold_nothing() -> None:
    assert FittedModes("twins").recordings == 0
