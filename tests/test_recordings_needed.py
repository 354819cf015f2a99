"""The numbers of recordings that are told as needed: one statement everywhere, and what a split of so many gives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from talim.corpus.split import add_validation, default_fraction, make_split
from talim.corpus.split_groups import SplitItem
from talim.recordings_needed import (
    FOR_INTERVAL,
    HELD_OUT_FOR_INTERVAL,
    HELD_OUT_TO_COMPARE,
    STATEMENT,
    TO_COMPARE,
    held_out_note,
)

ROOT = Path(__file__).parents[1]


def test_held_out_note_is_empty_where_a_comparison_may_decide() -> None:
    assert "only one held-out recording" in held_out_note(1)
    assert "too few for an interval that says anything" in held_out_note(2)
    assert held_out_note(3) == held_out_note(2).replace("2", "3")
    assert "rough" in held_out_note(HELD_OUT_TO_COMPARE - 1)
    assert held_out_note(HELD_OUT_TO_COMPARE) == ""


@pytest.mark.parametrize(
    ("recordings", "held_out"), [(2, 1), (FOR_INTERVAL, HELD_OUT_FOR_INTERVAL), (TO_COMPARE, HELD_OUT_TO_COMPARE)]
)
def test_so_many_recordings_of_one_length_hold_out_what_is_said(recordings: int, held_out: int) -> None:
    names = [f"r{number}" for number in range(recordings)]
    items = [SplitItem(name, name, "unknown", f"{name}.wav", 0.0, 60.0) for name in names]
    split = add_validation(make_split(items, held_out_fraction=default_fraction(items)), items, 0)
    assert list(split.sides.values()).count("held_out") == held_out
    assert (split.validation_from == "recordings") == (recordings >= FOR_INTERVAL)


def test_statement_is_the_one_of_the_guide_and_of_the_app() -> None:
    guide = " ".join((ROOT / "docs" / "guides" / "prepare.md").read_text("utf-8").split())
    assert STATEMENT in guide.replace("`", "")
    for language in ("en", "ja"):
        words = json.loads((ROOT / f"src/talim/words/{language}/app.json").read_text("utf-8"))
        assert str(TO_COMPARE) in words["recordings_intro"]
