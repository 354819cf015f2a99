"""Tests of talim.backbones.mustango.batch: padding, dropped conditions, rows."""

from __future__ import annotations

import numpy as np
import torch

from talim.backbones.mustango.batch import beat_chord_tokens, collate, pad_states
from talim.beats_chords import BeatsAndChords

NULL = np.full((1, 3), 9.0, dtype=np.float32)


def example(frames: int, words: int, value: float) -> tuple[np.ndarray, np.ndarray]:
    return np.full((2, frames, 4), value, np.float32), np.full((words, 3), value, np.float32)


def test_collate_pads_and_masks_unequal_clips() -> None:
    batch = collate([example(5, 2, 1.0), example(3, 4, 2.0)], [False, False], NULL)
    assert batch.targets.shape == (2, 2, 5, 4)
    assert batch.states.shape == (2, 4, 3)
    assert batch.frames == (5, 3)
    assert batch.target_mask.sum(dim=1).tolist() == [5, 3]
    assert batch.states_mask.sum(dim=1).tolist() == [2, 4]
    assert float(batch.targets[1, :, 3:].abs().sum()) == 0.0
    assert float(batch.states[0, 2:].abs().sum()) == 0.0


def test_collate_dropped_clip_has_the_unconditional_conditions() -> None:
    music = BeatsAndChords.parse("60 bpm", "C@0", 2.0)
    batch = collate([(*example(5, 2, 1.0), music), (*example(5, 2, 1.0), music)], [False, True], NULL)
    assert batch.states[1, 0].tolist() == [9.0] * 3
    assert batch.states_mask[1].tolist() == [True, False]
    for tokens, given, none in zip(
        (batch.beats, batch.chords), beat_chord_tokens([music]), beat_chord_tokens([BeatsAndChords()]), strict=True
    ):
        assert torch.equal(tokens.ids[0], given.ids[0])
        assert torch.equal(tokens.ids[1], none.ids[0])
        assert torch.equal(tokens.mask[1], none.mask[0])
        assert not torch.equal(given.ids, none.ids)


def test_rows_cuts_clips_and_keeps_their_order() -> None:
    batch = collate([example(5, 2, float(value)) for value in range(3)], [False] * 3, NULL)
    rows = batch.rows([2, 0], 4)
    assert rows.targets.shape == (2, 2, 4, 4)
    assert rows.targets[:, 0, 0, 0].tolist() == [2.0, 0.0]
    assert rows.states[:, 0, 0].tolist() == [2.0, 0.0]
    assert rows.frames == (4, 4)


def test_to_keeps_beats_chords_and_lengths() -> None:
    batch = collate([example(5, 2, 1.0)], [False], NULL)
    moved = batch.to("cpu")
    assert moved.frames == batch.frames
    assert torch.equal(moved.targets, batch.targets)


def test_pad_states_of_equal_rows_masks_nothing() -> None:
    states, mask = pad_states([NULL, NULL])
    assert states.shape == (2, 1, 3)
    assert bool(mask.all())
