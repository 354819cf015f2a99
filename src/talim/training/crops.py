"""Encoded clips and the crops of them that a training step uses, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from talim.beats_chords import BeatsAndChords

if TYPE_CHECKING:
    from talim.corpus.manifest import Clip


@dataclass(frozen=True)
class EncodedClip:
    """One clip as the model's inputs and targets; the arrays are read-only."""

    clip: Clip
    targets: np.ndarray  # int16 [K, T] tokens or float32 [C, T, F] latents
    states: np.ndarray  # text encoder states, float32 [L, D]
    beats_chords: BeatsAndChords = field(default_factory=BeatsAndChords)  # empty for bases not conditioned on them

    @property
    def full_length(self) -> Crop:
        return Crop(self, 0, self.targets.shape[1])


class Crop(NamedTuple):
    """A part of a clip, in frames of its targets."""

    item: EncodedClip
    start: int
    frames: int

    def content(self, frame_rate_hz: float) -> Any:
        """The item for `Backbone.collate`: targets, states and, where there are any, beats and chords."""
        item, start, frames = self
        excerpt = item.beats_chords.cut(start / frame_rate_hz, frames / frame_rate_hz)
        return (item.targets[:, start : start + frames], item.states, *([excerpt] if excerpt else []))
