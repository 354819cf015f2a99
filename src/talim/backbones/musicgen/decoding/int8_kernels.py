"""Rows of hidden states brought to a common range for products in int8, as compiled functions.

In torch the same takes three or four operations a product, which with few rows last as long as half of the product
itself and run in one thread. Import this module by `compiled.kernels`.

Rows are float32 [M, inputs]; a row is computed by itself and by the operations of torch (`tests` compare the bits).
"""

# numba has no types
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false

from __future__ import annotations

import numpy as np
from numba import njit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

ROWS = "float32[:, ::1]"
# Magnitudes are compared as bits, in which their order is the same, NaN is the largest, and several lanes are used.
MAGNITUDE, INFINITE = np.int32(0x7FFFFFFF), np.int32(0x7F800000)
SMALLEST = np.float32(1e-12)  # of a scale, so that rows of zeros stay zeros
SMALLEST_BITS = SMALLEST.view(np.int32)


@njit(cache=True, inline="never")
def _largest_bits(row):
    """The largest magnitude of int32 views of numbers, at least `SMALLEST_BITS`; beyond `INFINITE` for NaN."""
    largest = SMALLEST_BITS
    for bits in row:
        largest = max(largest, np.int32(bits & MAGNITUDE))
    return largest


@njit(cache=True, fastmath={"nnan", "nsz", "reassoc"}, inline="never")
def _range(row):
    """The lowest and the highest of finite numbers."""
    lowest = highest = row[0]
    for value in row:
        lowest, highest = min(lowest, value), max(highest, value)
    return lowest, highest


@njit(f"void({ROWS}, {ROWS}, {ROWS})", cache=True, error_model="numpy")
def scale_rows(rows, scaled, scales):
    """Write rows divided by their largest magnitude into the first of `scaled`, that magnitude into `scales` [M, 1]."""
    bits, scale_bits = rows.view(np.int32), scales.view(np.int32)
    for r in range(rows.shape[0]):
        scale_bits[r, 0] = _largest_bits(bits[r])
        scale = scales[r, 0]
        for j in range(rows.shape[1]):
            scaled[r, j] = rows[r, j] / scale


@njit(f"void({ROWS}, {ROWS}, {ROWS}, {ROWS})", cache=True, error_model="numpy")
def shift_rows(rows, scaled, scales, lowest):
    """Write rows moved and divided to lie in 0 to 1, with their ranges [M, 1] and lowest numbers [M, 1]."""
    bits = rows.view(np.int32)
    for r in range(rows.shape[0]):
        low, high = _range(rows[r])
        scale = max(high - low, SMALLEST)
        if _largest_bits(bits[r]) >= INFINITE:
            scale = np.float32(np.nan)
        scales[r, 0], lowest[r, 0] = scale, low
        for j in range(rows.shape[1]):
            scaled[r, j] = (rows[r, j] - low) / scale
