"""Training batches of Mustango: latents with text states, beats and chords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from talim.backbones.mustango.beat_chord_vocabulary import snap_to_vocabulary
from talim.backbones.mustango.conditioning import ConditionTokens
from talim.backbones.protocol import Batch
from talim.beats_chords import BeatsAndChords

# latents float32 [C, T, F], text states float32 [L, D], optionally beats and chords
EncodedExample = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, BeatsAndChords]


@dataclass
class LatentBatch(Batch):
    """Latents float32 [B, C, T, F] in `targets`; beats and chords; `frames`, the clips' lengths as Python integers."""

    beats: ConditionTokens
    chords: ConditionTokens
    frames: tuple[int, ...]

    def rows(self, indices: list[int], frames: int) -> LatentBatch:
        """The clips at `indices`, cut to their first `frames` frames."""
        return LatentBatch(
            self.targets[indices, :, :frames],
            self.target_mask[indices, :frames],
            self.states[indices],
            self.states_mask[indices],
            *(ConditionTokens(*(part[indices] for part in tokens)) for tokens in (self.beats, self.chords)),
            frames=(frames,) * len(indices),
        )


def collate(items: Sequence[EncodedExample], drop: Sequence[bool], null_states: np.ndarray) -> LatentBatch:
    """Pad clips to one batch; where `drop` is true, all conditions are the unconditional ones of guidance.

    Beats and chords are mapped to the model's vocabulary by `snap_to_vocabulary`.
    """
    channels, _, bands = items[0][0].shape
    frames = max(item[0].shape[1] for item in items)
    targets = torch.zeros(len(items), channels, frames, bands)
    target_mask = torch.zeros(len(items), frames, dtype=torch.bool)
    text, beats_chords = [], []
    for row, (item, dropped) in enumerate(zip(items, drop, strict=True)):
        length = item[0].shape[1]
        targets[row, :, :length] = torch.from_numpy(np.array(item[0], dtype=np.float32))
        target_mask[row, :length] = True
        text.append(null_states if dropped else item[1])
        beats_chords.append(snap_to_vocabulary(item[2]) if len(item) == 3 and not dropped else BeatsAndChords())
    lengths = tuple(item[0].shape[1] for item in items)
    return LatentBatch(targets, target_mask, *pad_states(text), *beat_chord_tokens(beats_chords), lengths)


def pad_states(rows: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Text states of unequal length as one batch [B, L, D], with their mask [B, L]."""
    longest = max(map(len, rows))
    states = torch.zeros(len(rows), longest, rows[0].shape[1])
    mask = torch.zeros(len(rows), longest, dtype=torch.bool)
    for index, row in enumerate(rows):
        states[index, : len(row)] = torch.from_numpy(np.array(row, dtype=np.float32))
        mask[index, : len(row)] = True
    return states, mask


def beat_chord_tokens(clips: Sequence[BeatsAndChords]) -> tuple[ConditionTokens, ConditionTokens]:
    """Beat and chord tokens of all clips."""
    beats, chords = [clip.beats for clip in clips], [clip.chords for clip in clips]
    return ConditionTokens.of_beats(beats), ConditionTokens.of_chords(chords)
