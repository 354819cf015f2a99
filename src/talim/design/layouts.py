"""Conversion between a base model's hidden states and the [B, T, D] that adapter kinds work on.

A U-Net's states are [B, D, T, F] with F spectrogram bands. Each band becomes a sequence of its own with shared weights:
the adapter works along time, the U-Net itself across bands, and a kind has the same parameters in both layouts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from talim.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

FRAMES, BANDS = "frames", "bands"
LAYOUTS = (FRAMES, BANDS)


def to_frames(hidden: Tensor, layout: str) -> Tensor:
    """[B, T, D] unchanged; [B, D, T, F] -> [B * F, T, D]."""
    if layout == FRAMES:
        return hidden
    batch, width, frames, bands = hidden.shape
    return hidden.permute(0, 3, 2, 1).reshape(batch * bands, frames, width)


def from_frames(frames: Tensor, like: Tensor, layout: str) -> Tensor:
    """Inverse of `to_frames`, to the shape of `like`."""
    if layout == FRAMES:
        return frames
    batch, width, length, bands = like.shape
    return frames.view(batch, bands, length, width).permute(0, 3, 2, 1)


def check_layout(layout: str) -> str:
    """The layout itself; UsageError for an unknown one."""
    if layout not in LAYOUTS:
        raise UsageError(f"layout {layout!r} is unknown; use one of {', '.join(LAYOUTS)}")
    return layout
