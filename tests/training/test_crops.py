"""Tests of talim.training.crops: parts of encoded clips as the model takes them."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.beats_chords import BeatsAndChords
from talim.training.crops import Crop, EncodedClip

RATE_HZ = 10.0
CLIP: Any = SimpleNamespace(seconds=4.0)


def encoded(beats_chords: BeatsAndChords | None = None) -> EncodedClip:
    targets = np.arange(80, dtype=np.int16).reshape(2, 40)
    return EncodedClip(CLIP, targets, np.ones((3, 5), np.float32), beats_chords or BeatsAndChords())


def test_full_length_is_the_whole_clip() -> None:
    item = encoded()
    assert item.full_length == Crop(item, 0, 40)
    targets, states = item.full_length.content(RATE_HZ)
    assert np.array_equal(targets, item.targets)
    assert states is item.states


@pytest.mark.parametrize(("start", "frames"), [(0, 10), (7, 1), (30, 10)])
def test_content_holds_the_frames_of_the_crop(start: int, frames: int) -> None:
    targets, _ = Crop(encoded(), start, frames).content(RATE_HZ)
    assert targets[0].tolist() == list(range(start, start + frames))
    assert targets[1].tolist() == list(range(40 + start, 40 + start + frames))


def test_content_moves_beats_and_chords_to_the_start_of_the_crop() -> None:
    known = BeatsAndChords.parse("1@0.5 2@1.5 1@2.5", "C@0 G@2", 4.0)
    _, _, part = Crop(encoded(known), 10, 20).content(RATE_HZ)
    assert str(part.beats) == "2@0.5 1@1.5"
    assert str(part.chords) == "C@0 G@1"
    assert len(Crop(encoded(), 10, 20).content(RATE_HZ)) == 2
