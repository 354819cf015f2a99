"""Ways through a mode: up by its ascent, down by its descent, always on its notes, always arriving."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.synthesis.melodic_motion import MelodicMotion
from talim.traditions.schema import Mode
from talim.traditions.tradition import load

# Up without the second and sixth, down with all seven: the classical case of a raga that differs by direction.
MODE = Mode(
    "m", "M", (), (0, 200, 300, 500, 700, 900, 1000), (0, 200, 300, 500, 700, 900, 1000),
    ascent_cents=(0, 300, 500, 700, 1000, 1200), descent_cents=(1200, 1000, 900, 700, 500, 300, 200, 0),
    strong_cents=(500, 0),
)  # fmt: skip


def test_path_between_up_is_ascent_and_down_is_descent() -> None:
    motion = MelodicMotion(MODE, -500, 1700)
    assert motion.path_between(0, 700) == [300, 500, 700]
    assert motion.path_between(700, 0) == [500, 300, 200, 0]
    assert motion.path_between(900, 1500) == [1000, 1200, 1500]
    assert motion.path_between(300, -300) == [200, 0, -200, -300]
    assert motion.path_between(500, 500) == [500]


def test_path_between_zigzag_ascent_is_followed() -> None:
    crooked = Mode(
        "k", "K", (), (0, 200, 400, 500, 700), (0, 200, 400, 500, 700), ascent_cents=(0, 500, 400, 700, 1200)
    )
    assert MelodicMotion(crooked, -500, 1700).path_between(0, 700) == [500, 400, 700]


def test_path_between_mode_without_ascent_uses_degrees() -> None:
    plain = Mode("p", "P", (), (0, 150, 500), (0, 150, 500))
    motion = MelodicMotion(plain, 0, 1200)
    assert motion.path_between(0, 500) == [150, 500]
    assert motion.path_between(1200, 150) == [500, 150]
    assert set(motion.strong) == {0, 1200}


def test_neighbour_is_limited_to_register() -> None:
    motion = MelodicMotion(MODE, -500, 1700)
    assert motion.neighbour(300, 1) == 500
    assert motion.neighbour(310, -1) == 200
    assert motion.neighbour(1700, 1) == max(motion.degrees)
    assert motion.leading_to(300) == 0  # the second is no step of the ascent


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 40), st.sampled_from(["hindustani", "makam"]))
def test_line_has_count_ends_on_rest_and_stays_in_mode(seed: int, count: int, name: str) -> None:
    rng = np.random.default_rng(seed)
    modes = load(name).modes
    motion = MelodicMotion(modes[seed % len(modes)], -500, 1500)
    start, rest = motion.draw_rest_note(0, 500, rng), motion.draw_rest_note(700, 500, rng)
    notes = motion.line(count, start, rest, rng, 600, 0.2)
    assert len(notes) == count
    assert notes[-1] == pytest.approx(rest)
    assert set(notes) <= set(motion.notes)


def test_draw_rest_note_prefers_strongest_note() -> None:
    motion = MelodicMotion(MODE, 0, 1200)
    rng = np.random.default_rng(0)
    rests = [motion.draw_rest_note(250, 2000, rng) for _ in range(600)]
    assert rests.count(500) > 1.15 * rests.count(0) > 0
