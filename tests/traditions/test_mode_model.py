"""The Markov chain of a mode: weights, transitions, densities."""

from __future__ import annotations

import numpy as np
import pytest

from talim.traditions import mode_model
from talim.traditions.mode_model import DEFAULT_HISTOGRAM_SHAPE
from talim.traditions.note_transcription import INTERVALS_CENTS, STEP_CENTS
from talim.traditions.schema import Mode
from talim.traditions.tradition import list_builtin, load

PLAIN = Mode("plain", "Plain", (), (0.0, 200.0, 500.0, 700.0), (0.0, 200.0, 500.0, 700.0))
MODES = [mode for slug in list_builtin() for mode in load(slug).modes]


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.slug)
def test_transition_matrix_of_every_builtin_mode_is_stochastic(mode: Mode) -> None:
    degrees = mode_model.all_degrees(mode, {})
    weights = mode_model.degree_weights(mode, degrees, {}, DEFAULT_HISTOGRAM_SHAPE)
    chain = mode_model.transition_matrix(mode, degrees, weights, DEFAULT_HISTOGRAM_SHAPE)
    assert weights.sum() == pytest.approx(1)
    assert (weights > 0).all()
    assert chain.sum(1) == pytest.approx(1)
    assert (chain > 0).all()


def test_transition_density_integrates_to_one() -> None:
    density = mode_model.transition_density(PLAIN).sum(1) * STEP_CENTS
    assert density == pytest.approx(np.ones(120), abs=0.01)


def test_transition_density_favours_notated_intervals() -> None:
    rising = Mode("r", "R", (), PLAIN.degrees_cents, PLAIN.theory_cents, ascent_cents=(0.0, 500.0, 700.0))
    here, up_fourth = 0, int(np.searchsorted(INTERVALS_CENTS, 500.0))
    assert (
        mode_model.transition_density(rising)[here, up_fourth]
        > 1.35 * mode_model.transition_density(PLAIN)[here, up_fourth]
    )


def test_degree_weights_use_counts_and_a_constant_tonic_weight() -> None:
    degrees = mode_model.all_degrees(PLAIN, {})
    written = mode_model.degree_weights(PLAIN, degrees, {}, DEFAULT_HISTOGRAM_SHAPE)
    counted = mode_model.degree_weights(PLAIN, degrees, {0.0: 90.0, 200.0: 2.0, 700.0: 8.0}, DEFAULT_HISTOGRAM_SHAPE)
    assert written[0] == counted[0] == DEFAULT_HISTOGRAM_SHAPE.tonic_fraction
    assert counted[3] > 3 * counted[1]
    assert written[3] == pytest.approx(written[1])


@pytest.mark.parametrize("mode", [mode for mode in MODES if len(mode.degrees_cents) > 4], ids=lambda mode: mode.slug)
def test_no_degree_outweighs_the_tonic_unless_it_was_counted(mode: Mode) -> None:
    degrees = mode_model.all_degrees(mode, {})
    weights = mode_model.degree_weights(mode, degrees, {}, DEFAULT_HISTOGRAM_SHAPE)
    tonic = weights[mode_model.nearest_degree(mode.final_cents, degrees)]
    assert tonic == DEFAULT_HISTOGRAM_SHAPE.tonic_fraction
    assert weights.max() <= 1.15 * tonic  # five notes can only be nearly equal


def test_counted_weights_stay_as_they_were_counted() -> None:
    counted = mode_model.degree_weights(
        PLAIN, mode_model.all_degrees(PLAIN, {}), {0.0: 1.0, 500.0: 97.0, 700.0: 2.0}, DEFAULT_HISTOGRAM_SHAPE
    )
    assert counted[2] > 0.7


def test_all_degrees_include_touched_notated_and_counted_notes() -> None:
    touching = Mode("t", "T", (), (0.0, 200.0), (0.0, 200.0), phrases_cents=((-100.0, 0.0),), touched_cents=(504.0,))
    assert mode_model.all_degrees(touching, {709.0: 1.0}).tolist() == [0.0, 200.0, 504.0, 709.0, 1100.0]
