"""Encoded clips and the crops of them that a training step uses, as plain values."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from talim.beats_chords import BeatsAndChords

if TYPE_CHECKING:
    from talim.corpus.manifest import Clip
    from talim.corpus.melody import Melody


@dataclass(frozen=True)
class EncodedClip:
    """One clip as the model's inputs and targets; the arrays are read-only."""

    clip: Clip
    targets: np.ndarray  # int16 [K, T] tokens or float32 [C, T, F] latents
    states: np.ndarray  # text encoder states, float32 [L, D]
    beats_chords: BeatsAndChords = field(default_factory=BeatsAndChords)  # empty for bases not conditioned on them
    melody: Melody | None = None  # for bases conditioned on one

    @property
    def without_melody(self) -> EncodedClip:
        return replace(self, melody=None)

    @property
    def full_length(self) -> Crop:
        return Crop(self, 0, self.targets.shape[1])


class Crop(NamedTuple):
    """A part of a clip, in frames of its targets."""

    item: EncodedClip
    start: int
    frames: int

    def content(self, frame_rate_hz: float) -> Any:
        """The item for `Backbone.collate`: targets, states and, where there are any, beats and chords or a melody."""
        item, start, frames = self
        span = start / frame_rate_hz, frames / frame_rate_hz
        excerpt = item.beats_chords.cut(*span)
        conditions: list[Any] = [excerpt] if excerpt else []
        if item.melody is not None:
            conditions.append(item.melody.cut(*span).classes)
        return (item.targets[:, start : start + frames], item.states, *conditions)

    @property
    def without_melody(self) -> Crop:
        return self._replace(item=self.item.without_melody)
