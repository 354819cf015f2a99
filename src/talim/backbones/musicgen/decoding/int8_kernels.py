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


# It stands in `frame_kernels` too: numba, which stores what it compiles, sees no change of another file.
@njit(cache=True, inline="never")
def _ordered(bits):
    """The bits of a number, or those that this function made of them: integers in the order of their numbers."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & MAGNITUDE))


@njit(cache=True, inline="never")
def _range(row):
    """The lowest and the highest bits of int32 views of numbers; beyond `INFINITE` in magnitude for NaN."""
    lowest = highest = _ordered(row[0])
    for bits in row:
        value = _ordered(bits)
        lowest, highest = min(lowest, value), max(highest, value)
    return np.int32(_ordered(lowest)), np.int32(_ordered(highest))


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
    bits, scale_bits, lowest_bits = rows.view(np.int32), scales.view(np.int32), lowest.view(np.int32)
    for r in range(rows.shape[0]):
        low_bits, high_bits = _range(bits[r])
        lowest_bits[r, 0], scale_bits[r, 0] = low_bits, high_bits
        low = lowest[r, 0]
        scale = max(scales[r, 0] - low, SMALLEST)
        if max(low_bits & MAGNITUDE, high_bits & MAGNITUDE) >= INFINITE:
            scale = np.float32(np.nan)
        scales[r, 0] = scale
        for j in range(rows.shape[1]):
            scaled[r, j] = (rows[r, j] - low) / scale
