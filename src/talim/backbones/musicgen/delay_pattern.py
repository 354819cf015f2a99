"""MusicGen's delay pattern: codebook k is delayed by k steps, so that one step predicts one code of each."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional as F

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor


class CodebookLoss(NamedTuple):
    """Masked cross-entropies in nats, float32."""

    parts: Tensor  # [K], mean over all valid positions of the batch
    per_item: Tensor  # [B, K], mean over the valid positions of each clip, without gradient
    per_frame: Tensor  # [B, K, T], 0 where a frame is not valid, without gradient
    num_valid: Tensor  # [], number of valid positions


def delays(codebooks: int, channels: int = 1) -> tuple[int, ...]:
    """Delay of each codebook in steps: 0, 1, 2, 3 in mono; in stereo the same for left and right."""
    return tuple(index // channels for index in range(codebooks))


def apply_delay_pattern(
    codes: Tensor,  # int64 [B, K, T]
    special: int,
    shifts: tuple[int, ...],
    mask: Tensor | None = None,  # bool [B, T], False beyond a clip's end
) -> Tensor:  # int64 [B, K, S], S = T + max(shifts) + 1
    """Decoder input: step s holds code t = s - 1 - shift, and `special` where there is none."""
    batch, codebooks, frames = codes.shape
    if mask is not None:
        codes = torch.where(mask[:, None, :], codes, special)
    sequence = codes.new_full((batch, codebooks, frames + max(shifts) + 1), special)
    for index, shift in enumerate(shifts):
        sequence[:, index, shift + 1 : shift + 1 + frames] = codes[:, index]
    return sequence


def cross_entropy(
    logits: Tensor | Iterable[Tensor],  # [B, K, S or S - 1, V], or an iterable over codebooks
    codes: Tensor,  # int64 [B, K, T]
    mask: Tensor,  # bool [B, T]
    shifts: tuple[int, ...],
) -> CodebookLoss:
    """Cross-entropy per codebook over valid positions, in float32 for logits of any dtype."""
    frames, valid = codes.shape[-1], mask.float()
    sums, per_frame = [], []
    rows = logits.unbind(1) if isinstance(logits, torch.Tensor) else logits
    for index, (shift, row) in enumerate(zip(shifts, rows, strict=True)):  # one float32 copy at a time
        # classes last: five times as fast on a CPU
        picked = row[:, shift : shift + frames].float().flatten(0, 1)
        losses = F.cross_entropy(picked, codes[:, index].flatten(), reduction="none").view_as(valid) * valid
        per_frame.append(losses.detach())
        sums.append(losses.sum(dim=1))
    per_clip = torch.stack(sums, dim=1)  # [B, K]
    counts = valid.sum(dim=1, keepdim=True)
    parts = per_clip.sum(dim=0) / counts.sum().clamp(min=1)
    per_item = (per_clip / counts.clamp(min=1)).detach()
    return CodebookLoss(parts, per_item, torch.stack(per_frame, dim=1), counts.sum())
