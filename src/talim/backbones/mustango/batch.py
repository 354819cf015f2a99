"""Clips as Mustango trains on them: latents with what is said of them, in words, beats and chords."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from talim.backbones.mustango.beat_chord_vocabulary import snap_to_vocabulary
from talim.backbones.mustango.conditioning import BeatTokens, ChordTokens
from talim.backbones.protocol import Batch
from talim.beats_chords import BeatsAndChords

# latents float32 [C, T, F], text states float32 [L, D], and beats and chords where they are known
EncodedExample = tuple[np.ndarray, np.ndarray] | tuple[np.ndarray, np.ndarray, BeatsAndChords]


@dataclass
class LatentBatch(Batch):
    """Latents float32 [B, C, T, F] in `targets`, with beats and chords beside the text.

    `frames` are the clips' lengths as plain numbers, so that no tensor has to be looked into to know them.
    """

    beats: BeatTokens
    chords: ChordTokens
    frames: tuple[int, ...]

    def to(self, device: torch.device | str) -> LatentBatch:
        """The same batch on another device."""
        plain = (self.targets, self.target_mask, self.states, self.states_mask)
        moved = Batch(*(part.to(device) for part in plain))
        music = {"beats": self.beats.to(device), "chords": self.chords.to(device)}
        return LatentBatch(**vars(moved), **music, frames=self.frames)

    def rows(self, picked: list[int], frames: int) -> LatentBatch:
        """Some clips of the batch, the first `frames` frames of them."""
        return LatentBatch(
            self.targets[picked, :, :frames],
            self.target_mask[picked, :frames],
            self.states[picked],
            self.states_mask[picked],
            BeatTokens(*(part[picked] for part in self.beats)),
            ChordTokens(*(part[picked] for part in self.chords)),
            (frames,) * len(picked),
        )


def collate(items: Sequence[EncodedExample], drop: Sequence[bool], null_states: np.ndarray) -> LatentBatch:
    """Pad clips to one batch; where `drop` is true, words, beats and chords are those of guidance's null.

    Of a recording's beats and chords the model hears the `nearest` that it knows.
    """
    channels, _, bands = items[0][0].shape
    frames = max(item[0].shape[1] for item in items)
    targets = torch.zeros(len(items), channels, frames, bands)
    target_mask = torch.zeros(len(items), frames, dtype=torch.bool)
    said, music = [], []
    for row, (item, dropped) in enumerate(zip(items, drop, strict=True)):
        length = item[0].shape[1]
        targets[row, :, :length] = torch.from_numpy(np.array(item[0], dtype=np.float32))
        target_mask[row, :length] = True
        said.append(null_states if dropped else item[1])
        music.append(snap_to_vocabulary(item[2]) if len(item) == 3 and not dropped else BeatsAndChords())
    lengths = tuple(item[0].shape[1] for item in items)
    return LatentBatch(targets, target_mask, *pad_states(said), *beat_chord_tokens(music), lengths)


def pad_states(said: Sequence[np.ndarray]) -> tuple[Tensor, Tensor]:
    """Text states of unequal length as one batch [B, L, D], with their mask."""
    longest = max(len(states) for states in said)
    states = torch.zeros(len(said), longest, said[0].shape[1])
    mask = torch.zeros(len(said), longest, dtype=torch.bool)
    for row, words in enumerate(said):
        states[row, : len(words)] = torch.from_numpy(np.array(words, dtype=np.float32))
        mask[row, : len(words)] = True
    return states, mask


def beat_chord_tokens(music: Sequence[BeatsAndChords]) -> tuple[BeatTokens, ChordTokens]:
    """The beats and the chords of all clips."""
    return BeatTokens.of([m.beats for m in music]), ChordTokens.of([m.chords for m in music])
