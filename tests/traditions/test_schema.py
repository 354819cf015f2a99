"""The entries of a tradition: values that cannot be changed, with what is not known left empty."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from talim.traditions.schema import Cycle, Mode, OrnamentDefinition, Stroke


def test_entries_compare_by_value_and_cannot_be_changed() -> None:
    mode = Mode("rast", "Rast", (), (0.0, 204.0), (0.0, 204.0))
    assert mode == Mode("rast", "Rast", (), (0.0, 204.0), (0.0, 204.0))
    with pytest.raises(FrozenInstanceError):
        mode.slug = "other"  # pyright: ignore[reportAttributeAccessIssue]


def test_entries_do_not_share_their_facts() -> None:
    cycles = Cycle("tintal", "Tintal", (), 16.0), Cycle("ektal", "Ektal", (), 12.0)
    cycles[0].facts["mood"] = "bright"
    assert cycles[1].facts == {}


def test_what_is_not_known_is_empty() -> None:
    mode, cycle = Mode("a", "A", (), (0.0,), (0.0,)), Cycle("c", "C", (), 7.0)
    assert (mode.ascent_cents, mode.phrases_cents, mode.final_cents, mode.contour) == ((), (), 0.0, "")
    assert (cycle.sections, cycle.strokes, cycle.claps, cycle.waves) == ((), (), (), ())
    assert OrnamentDefinition("o", "O", (), "glide", (0.1, 0.2), (50, 100)).rate_hz == (0.0, 0.0)
    assert Stroke(0.0, 1.0, "dha", 1.0).weight == 1.0
