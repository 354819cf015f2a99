"""Rooms: the direct sound stays, the tail follows, the dry room adds nothing."""

from __future__ import annotations

import numpy as np
import pytest

from talim.synthesis.reverb import REVERBS, convolve_reverb
from talim.synthesis.western_instruments import RATE_HZ


@pytest.mark.parametrize("room", REVERBS, ids=lambda room: room.name)
def test_convolve_reverb_click_is_not_delayed_and_decays(room) -> None:
    click = np.zeros(2 * RATE_HZ, np.float32)
    click[100] = 1.0
    measured = convolve_reverb(room, click, np.random.default_rng(0))
    assert measured.dtype == np.float32
    assert measured.size == click.size
    assert measured[100] == pytest.approx(1.0, abs=1e-5)
    assert np.abs(measured[:100]).max() < 1e-5
    if not room.wet:
        np.testing.assert_array_equal(measured, click)
        return
    tail = measured[101:]
    assert np.sqrt(np.sum(tail**2)) == pytest.approx(room.wet, rel=0.05)
    near, far = (tail[: int(0.3 * room.decay_seconds * RATE_HZ)], tail[int(0.6 * room.decay_seconds * RATE_HZ) :])
    assert np.sum(far**2) < 0.05 * np.sum(near**2)
