"""Beat and chord tokens and their embeddings, to which the U-Net attends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talim.backbones.mustango.beat_chord_vocabulary import encode_beats, encode_chords
from talim.beats_chords import BeatGrid, ChordTrack

TIME_BASE = 10001.0
BEAT_CLASSES, CHORD_KINDS, INVERSIONS = 7, 12, 4


class ConditionTokens(NamedTuple):
    """A batch of beats or chords. A clip without beats is padding at 0 s only; one without chords has one valid N."""

    ids: Tensor  # int64, of beats [B, 50], of chords [B, 20, 3]: root, kind, inversion
    times_seconds: Tensor  # float32 [B, 50 or 20]
    mask: Tensor  # bool [B, 50 or 20]

    @classmethod
    def of_beats(cls, clips: Sequence[BeatGrid]) -> ConditionTokens:
        return cls.of_rows(encode_beats(clip.times_seconds, clip.positions) for clip in clips)

    @classmethod
    def of_chords(cls, clips: Sequence[ChordTrack]) -> ConditionTokens:
        return cls.of_rows(encode_chords(clip.times_seconds, clip.names) for clip in clips)

    @classmethod
    def of_rows(cls, rows: Iterable[tuple[list[Any], list[float], list[bool]]]) -> ConditionTokens:
        """From ids, times and mask of each clip."""
        ids, times, mask = zip(*rows, strict=True)
        return cls(torch.tensor(ids), torch.tensor(times, dtype=torch.float32), torch.tensor(mask))

    def attended(self) -> ConditionTokens:
        """The same condition without the padding after its longest row: what attends to it hears no difference.

        Where no token of a row is valid, all are alike and one stands for them.
        """
        mask = self.mask.clone()
        mask[:, 0] |= ~mask.any(dim=1)
        length = int(mask.any(dim=0).sum())  # valid tokens come first
        return ConditionTokens(self.ids[:, :length], self.times_seconds[:, :length], mask[:, :length])

    def to(self, device: torch.device | str) -> ConditionTokens:
        return ConditionTokens(*(tensor.to(device) for tensor in self))


class BeatEmbedding(nn.Module):
    """Position in the bar and time -> one token per beat."""

    def __init__(self, width: int, time_width: int) -> None:
        super().__init__()
        self.time_width = time_width
        self.beat_ffn = nn.Linear(BEAT_CLASSES + time_width, width)

    def forward(self, ids: Tensor, times_seconds: Tensor) -> Tensor:  # [B, L] each -> [B, L, width]
        dtype = self.beat_ffn.weight.dtype
        time = time_embedding(times_seconds, self.time_width)
        return self.beat_ffn(torch.cat([F.one_hot(ids, BEAT_CLASSES).to(dtype), time.to(dtype)], dim=-1))


class RootEmbedding(nn.Module):
    """Root of a chord: sinusoids at rates base^(-2 floor(i/2) / width), plus a learned bias.

    The released model was trained with base 1, so all its rates are equal; with a base below 1 they grow.
    """

    def __init__(self, width: int, base: float = 1.0) -> None:
        super().__init__()
        self.base = base
        self.translation_bias = nn.Parameter(torch.rand(1, width))

    def forward(self, roots: Tensor) -> Tensor:  # [B, L] -> [B, L, width]
        width = self.translation_bias.shape[-1]
        angles = roots.to(torch.float32)[..., None] * _rates(width, self.base, roots.device)
        return _interleaved(angles).to(self.translation_bias.dtype) + self.translation_bias


class ChordEmbedding(nn.Module):
    """Root, kind, inversion and time -> one token per chord."""

    def __init__(self, width: int, root_width: int, time_width: int, root_base: float = 1.0) -> None:
        super().__init__()
        self.time_width = time_width
        self.FME = RootEmbedding(root_width, root_base)
        self.chord_ffn = nn.Linear(CHORD_KINDS + INVERSIONS + root_width + time_width, width)

    def forward(self, ids: Tensor, times_seconds: Tensor) -> Tensor:  # [B, L, 3], [B, L] -> [B, L, width]
        dtype = self.chord_ffn.weight.dtype
        roots, kinds, inversions = ids.unbind(dim=-1)
        parts = [
            self.FME(roots),
            F.one_hot(kinds, CHORD_KINDS),
            F.one_hot(inversions, INVERSIONS),
            time_embedding(times_seconds, self.time_width),
        ]
        return self.chord_ffn(torch.cat([part.to(dtype) for part in parts], dim=-1))


def time_embedding(seconds: Tensor, width: int) -> Tensor:  # [..] -> float32 [.., width]
    """Sinusoids of a time in seconds: rate i is 10001^(-2 floor(i/2) / width), sine where i is even."""
    return _interleaved(seconds.to(torch.float32)[..., None] * _rates(width, TIME_BASE, seconds.device))


def _rates(width: int, base: float, device: torch.device) -> Tensor:
    pairs = torch.arange(width, device=device) // 2
    return 1 / base ** (2 * pairs.to(torch.float32) / width)


def _interleaved(angles: Tensor) -> Tensor:
    """Sine at even indices, cosine at odd ones."""
    even = torch.arange(angles.shape[-1], device=angles.device) % 2 == 0
    return torch.where(even, angles.sin(), angles.cos())
