"""Ornaments: what they say they did is what the contour shows."""

from __future__ import annotations

import numpy as np
import pytest

from talim.synthesis.instruments import CONTROL_SECONDS
from talim.synthesis.melodic_motion import MelodicMotion
from talim.synthesis.ornaments import SHAPES, OrnamentPosition, PitchContour, can_play
from talim.traditions.schema import Mode, OrnamentDefinition

MODE = Mode("m", "M", (), (0, 200, 400, 500, 700, 900, 1100), (0, 200, 400, 500, 700, 900, 1100))


def place(
    seconds: float = 1.5, *, before: float | None = 200.0, slides: bool = True, seed: int = 0
) -> OrnamentPosition:
    frames = round(seconds / CONTROL_SECONDS)
    contour = PitchContour(frames + 40, before if before is not None else 500.0)
    if before is None:
        contour.cents[:] = 500.0
    return OrnamentPosition(
        contour, MelodicMotion(MODE, -500, 1700), 500.0, before, 20, frames, 10, slides, np.random.default_rng(seed)
    )


def ornament(shape: str, **bounds: tuple[float, float]) -> OrnamentDefinition:
    given = {"seconds": (0.2, 0.8), "extent_cents": (100.0, 300.0), "rate_hz": (0.0, 0.0)} | bounds
    return OrnamentDefinition("o", "O", (), shape, given["seconds"], given["extent_cents"], given["rate_hz"])


def test_glide_moves_slowly_between_notes() -> None:
    where = place()
    done = SHAPES["glide"](where, ornament("glide"))
    assert done is not None
    assert done.extent_cents == 300
    assert 0.2 <= done.frames * CONTROL_SECONDS <= 0.8
    way = where.contour.cents[done.at - 1 : done.at + done.frames]
    assert way[0] == 200
    assert way[-1] == pytest.approx(500)
    assert (np.diff(way) > -1e-9).all()


def test_touch_reaches_neighbour_and_returns() -> None:
    for seed in range(8):
        where = place(seed=seed)
        done = SHAPES["touch"](where, ornament("touch", seconds=(0.05, 0.1)))
        assert done is not None
        inside = where.contour.cents[done.at : done.at + done.frames]
        away = np.abs(inside - 500).max()
        assert away >= done.extent_cents - 1e-6
        assert 100 <= done.extent_cents <= 300
        assert done.extent_cents in {100.0, 200.0, 300.0}  # degrees of the mode
        assert where.contour.cents[done.at + done.frames] == pytest.approx(500)


def test_turn_runs_through_neighbours_and_ends_on_note() -> None:
    where = place()
    done = SHAPES["turn"](where, ornament("turn"))
    assert done is not None
    inside = where.contour.cents[where.at : done.at + done.frames + 1]
    assert inside.max() == pytest.approx(700, abs=25)
    assert inside[-1] == pytest.approx(500)


@pytest.mark.parametrize(("shape", "rates"), [("shake", (5.0, 7.0)), ("swing", (1.5, 3.0))])
def test_oscillate_has_recorded_rate_and_extent(shape: str, rates: tuple[float, float]) -> None:
    for seed in range(6):
        where = place(3.0, seed=seed)
        done = SHAPES[shape](where, ornament(shape, seconds=(1.0, 2.0), extent_cents=(60.0, 90.0), rate_hz=rates))
        assert done is not None
        assert rates[0] <= done.rate_hz <= rates[1]
        bend = where.contour.bend[done.at : done.at + done.frames]
        crossings = np.count_nonzero(np.diff(np.signbit(bend[2:-2])))
        assert (crossings + 1) / 2 / (done.frames * CONTROL_SECONDS) == pytest.approx(done.rate_hz, rel=0.1)
        assert bend.max() - bend.min() == pytest.approx(done.extent_cents, rel=0.12)
        assert not where.contour.bend[: done.at].any()
        assert not where.contour.bend[done.at + done.frames :].any()


def test_can_play_is_false_for_what_does_not_fit() -> None:
    glide, touch, shake = ornament("glide"), ornament("touch"), ornament("shake", rate_hz=(4.0, 8.0))
    assert can_play(glide, place())
    assert not can_play(glide, place(before=None))
    assert not can_play(glide, place(0.2))
    assert not can_play(ornament("glide", extent_cents=(400.0, 900.0)), place())
    assert not can_play(shake, place(slides=False))
    assert can_play(touch, place(slides=False))
    assert not can_play(touch, place(0.1))
    assert not can_play(shake, place(0.2))
