"""Rows in a common range: the compiled functions give the bits of torch's operations."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from talim.backbones.musicgen.decoding import compiled

WIDTHS = [1, 7, 32, 833]


def rows_of(width: int) -> Tensor:
    """Of every size, one of zeros and one of a single sign among them."""
    rows = torch.randn(6, width) * torch.tensor([1e-20, 1e-3, 1.0, 1e6, 0.0, 1.0])[:, None]
    rows[-1] = -rows[-1].abs() - 1.0
    return rows


@pytest.mark.parametrize("width", WIDTHS)
def test_scale_rows_equals_division_by_the_largest_magnitude(width: int) -> None:
    rows = rows_of(width)
    scaled, scales = torch.full((7, width), 5.0), torch.empty(6, 1)
    compiled.kernels("int8_kernels").scale_rows(rows.numpy(), scaled.numpy(), scales.numpy())
    expected = rows.abs().amax(dim=1, keepdim=True).clamp(min=1e-12)
    assert torch.equal(scales, expected)
    assert torch.equal(scaled[:-1], rows / expected)
    assert torch.equal(scaled[-1], torch.full((width,), 5.0))  # the row that holds the range


@pytest.mark.parametrize("width", WIDTHS)
def test_shift_rows_equals_the_place_in_the_range(width: int) -> None:
    rows = rows_of(width)
    scaled, scales, lowest = torch.full((7, width), 5.0), torch.empty(6, 1), torch.empty(6, 1)
    compiled.kernels("int8_kernels").shift_rows(rows.numpy(), scaled.numpy(), scales.numpy(), lowest.numpy())
    low, high = rows.aminmax(dim=1, keepdim=True)
    expected = (high - low).clamp(min=1e-12)
    assert torch.equal(lowest, low)
    assert torch.equal(scales, expected)
    assert torch.equal(scaled[:-1], (rows - low) / expected)
    assert torch.equal(scaled[-1], torch.full((width,), 5.0))
