"""How hidden states of a base model become the frames that an adapter knows, and back.

A kind works on frames, [B, T, D]. A U-Net's states are [B, D, T, F], with F bands of a spectrogram; there each band
is a sequence of its own, with the same weights for all bands: an adapter looks along time, the U-Net itself across
bands. So a kind is written once, and has the same parameters everywhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from talim.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

FRAMES, BANDS = "frames", "bands"
LAYOUTS = (FRAMES, BANDS)


def to_frames(hidden: Tensor, layout: str) -> Tensor:
    """[B, T, D] as it is; [B, D, T, F] -> [B * F, T, D]."""
    if layout == FRAMES:
        return hidden
    batch, width, frames, bands = hidden.shape
    return hidden.permute(0, 3, 2, 1).reshape(batch * bands, frames, width)


def from_frames(frames: Tensor, like: Tensor, layout: str) -> Tensor:
    """The way back, to the shape of `like`."""
    if layout == FRAMES:
        return frames
    batch, width, length, bands = like.shape
    return frames.view(batch, bands, length, width).permute(0, 3, 2, 1)


def check_layout(layout: str) -> str:
    """The layout; UsageError for an unknown one."""
    if layout not in LAYOUTS:
        raise UsageError(f"layout {layout!r} is unknown; known: {', '.join(LAYOUTS)}")
    return layout
