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
SMALLEST = np.float32(1e-12)  # of a scale, so that rows of zeros stay zeros

# the largest of numbers is the same in any order; several lanes need to know that none is NaN
in_any_order = njit(cache=True, fastmath={"nnan", "nsz", "reassoc"}, inline="never")


@in_any_order
def _largest(row):
    largest = np.float32(0.0)
    for value in row:
        largest = max(largest, abs(value))
    return largest


@in_any_order
def _range(row):
    lowest = highest = row[0]
    for value in row:
        lowest, highest = min(lowest, value), max(highest, value)
    return lowest, highest


@njit(cache=True, fastmath={"reassoc"}, inline="never")
def _nan_if_any(row):
    """0, or NaN where a number is not finite: what the functions above say of such a row means nothing."""
    total = np.float32(0.0)
    for value in row:
        total += value * np.float32(0.0)
    return total


@njit(f"void({ROWS}, {ROWS}, {ROWS})", cache=True, error_model="numpy")
def scale_rows(rows, scaled, scales):
    """Write rows divided by their largest magnitude into the first of `scaled`, that magnitude into `scales` [M, 1]."""
    for r in range(rows.shape[0]):
        scale = max(_largest(rows[r]), SMALLEST) + _nan_if_any(rows[r])
        scales[r, 0] = scale
        for j in range(rows.shape[1]):
            scaled[r, j] = rows[r, j] / scale


@njit(f"void({ROWS}, {ROWS}, {ROWS}, {ROWS})", cache=True, error_model="numpy")
def shift_rows(rows, scaled, scales, lowest):
    """Write rows moved and divided to lie in 0 to 1, with their ranges [M, 1] and lowest numbers [M, 1]."""
    for r in range(rows.shape[0]):
        low, high = _range(rows[r])
        scale = max(high - low, SMALLEST) + _nan_if_any(rows[r])
        scales[r, 0], lowest[r, 0] = scale, low
        for j in range(rows.shape[1]):
            scaled[r, j] = (rows[r, j] - low) / scale
