"""Layouts of hidden states: conversion to frames and back."""

from __future__ import annotations

import pytest
import torch

from talim.design import layouts
from talim.errors import UsageError


def test_to_frames_of_bands_makes_each_band_a_sequence() -> None:
    hidden = torch.arange(2 * 3 * 4 * 5).view(2, 3, 4, 5)  # [B, D, T, F]
    frames = layouts.to_frames(hidden, layouts.BANDS)
    assert frames.shape == (2 * 5, 4, 3)
    assert torch.equal(frames[5 + 2], hidden[1, :, :, 2].T)
    assert torch.equal(layouts.from_frames(frames, hidden, layouts.BANDS), hidden)


def test_frames_layout_is_unchanged() -> None:
    hidden = torch.randn(2, 4, 3)
    assert layouts.to_frames(hidden, layouts.FRAMES) is hidden
    assert layouts.from_frames(hidden, hidden, layouts.FRAMES) is hidden


def test_check_layout_unknown_name_raises_usage_error() -> None:
    assert layouts.check_layout("bands") == "bands"
    with pytest.raises(UsageError, match="use one of frames, bands"):
        layouts.check_layout("rows")
