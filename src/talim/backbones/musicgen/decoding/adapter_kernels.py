"""Adapters of one frame as compiled functions, each one call for all that a block does between two layers of a base.

Between two layers, which read megabytes of weights, each operation of torch begins with cold caches: a product of two
rows with 256 x 36 numbers takes 4.6 µs in a loop of its own and about 40 µs there. Import this module by
`compiled.kernels`.

States are float32 [R, D] and are changed in place; weights are one array [inputs, outputs] after the other, each
followed by its bias. A row is computed by itself, so it has the same bits in every batch.
"""

# numba knows no keywords or groups of arguments as cheap as plain ones
# ruff: noqa: PLR0913
# and has no types
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false

from __future__ import annotations

import math

import numpy as np
from numba import njit  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

compiled = njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="never")
ROWS, FLAT, CACHE = "float32[:, ::1]", "float32[::1]", "float32[:, :, :, ::1]"


@compiled
def _add_product(x, weight, out):
    """Add x [R, inputs] times weight [inputs, outputs] to `out`, four inputs at once."""
    rows, inputs = x.shape
    outputs = weight.shape[1]
    fours = inputs - inputs % 4
    for i in range(0, fours, 4):
        for r in range(rows):
            a, b, c, d = x[r, i], x[r, i + 1], x[r, i + 2], x[r, i + 3]
            for j in range(outputs):
                out[r, j] += a * weight[i, j] + b * weight[i + 1, j] + c * weight[i + 2, j] + d * weight[i + 3, j]
    for i in range(fours, inputs):
        for r in range(rows):
            a = x[r, i]
            for j in range(outputs):
                out[r, j] += a * weight[i, j]


@compiled
def _affine(x, weights, at, out):
    """Write the product with the weight at a place of the flat array, plus its bias; returns the place behind both."""
    inputs, (rows, outputs) = x.shape[1], out.shape
    end = at + inputs * outputs
    bias = weights[end : end + outputs]
    for r in range(rows):
        for j in range(outputs):
            out[r, j] = bias[j]
    _add_product(x, weights[at:end].reshape(inputs, outputs), out)
    return end + outputs


@compiled
def _add_affine(x, weights, at, out):
    """As `_affine`, added to what is there."""
    inputs, (rows, outputs) = x.shape[1], out.shape
    end = at + inputs * outputs
    bias = weights[end : end + outputs]
    _add_product(x, weights[at:end].reshape(inputs, outputs), out)
    for r in range(rows):
        for j in range(outputs):
            out[r, j] += bias[j]
    return end + outputs


@compiled
def _gelu(x):
    return np.float32(0.5) * x * (np.float32(1.0) + math.erf(x * np.float32(0.7071067811865476)))


@compiled
def _gelu_all(states):
    for r in range(states.shape[0]):
        for j in range(states.shape[1]):
            states[r, j] = _gelu(states[r, j])


@compiled
def _normed(states, weights, at, eps, out):
    """Layer norm with the scale and shift at a place; returns the place behind them."""
    rows, width = states.shape
    for r in range(rows):
        mean = np.float32(0.0)
        for j in range(width):
            mean += states[r, j]
        mean /= np.float32(width)
        variance = np.float32(0.0)
        for j in range(width):
            variance += (states[r, j] - mean) * (states[r, j] - mean)
        factor = np.float32(1.0) / np.float32(math.sqrt(variance / np.float32(width) + eps))
        for j in range(width):
            out[r, j] = (states[r, j] - mean) * factor * weights[at + j] + weights[at + width + j]
    return at + 2 * width


def _signature(*types: str) -> str:
    return f"void({', '.join(types)})"


@njit(_signature(ROWS, FLAT, ROWS), cache=True, error_model="numpy")
def linear_frame(states, weights, hidden):
    """Down, GELU, up. `hidden` [R, W] is room for the bottleneck."""
    at = _affine(states, weights, 0, hidden)
    _gelu_all(hidden)
    _add_affine(hidden, weights, at, states)


@njit(
    _signature(
        ROWS, FLAT, "float32[:, :, ::1]", ROWS, ROWS, "int64[::1]", "int64", "int64", "int64[::1]", "int64", ROWS, ROWS
    ),
    cache=True,
    error_model="numpy",
)
def conv_frame(states, weights, rings, total, gate, frames, now, kernel_size, dilations, every, hidden, inner):
    """Down, convolutions over rings of past frames, excitation, up.

    `rings` [R, places, W] holds one ring after the other, each as long as its convolution reaches; `total` and `gate`
    [R, W] are the excitation's, `frames` [R] how many frames it has seen, `now` the time of this one. `hidden` [R, W]
    and `inner` [R, S] are room.
    """
    rows, width = hidden.shape
    squeezed = inner.shape[1]
    at = _affine(states, weights, 0, hidden)
    first = 0
    for dilation in dilations:
        length = (kernel_size - 1) * dilation + 1
        ring = rings[:, first : first + length]
        for r in range(rows):
            for j in range(width):
                ring[r, now % length, j] = _gelu(hidden[r, j])
        for tap in range(kernel_size):
            past = ring[:, (now - (kernel_size - 1 - tap) * dilation) % length]
            _add_product(past, weights[at : at + width * width].reshape(width, width), hidden)
            at += width * width
        for r in range(rows):
            for j in range(width):
                hidden[r, j] += weights[at + j]
        at += width
        first += length
    behind = at + 2 * width * squeezed + squeezed + width
    for r in range(rows):
        if frames[r] % every == 0:
            mean = total[r : r + 1] / np.float32(max(frames[r], 1))
            then = _affine(mean, weights, at, inner[r : r + 1])
            _gelu_all(inner[r : r + 1])
            _affine(inner[r : r + 1], weights, then, gate[r : r + 1])
            for j in range(width):
                gate[r, j] = np.float32(1.0) / (np.float32(1.0) + math.exp(-gate[r, j]))
        for j in range(width):
            total[r, j] += hidden[r, j]
            hidden[r, j] *= gate[r, j]
    _add_affine(hidden, weights, behind, states)


@njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"}, inline="never")  # sums of several lanes
def _attend(query, keys, values, start, stop, mask, scores, out):
    """Attention of one query [d] to places of `keys` and `values` [size, d], into `out` [d]."""
    width = len(query)
    factor = np.float32(1.0 / math.sqrt(width))
    highest = np.float32(-3.4e38)
    for t in range(start, stop):
        if len(mask) > 0 and not mask[t - start]:
            continue  # what a row does not see may hold anything
        similarity = np.float32(0.0)
        for j in range(width):
            similarity += query[j] * keys[t, j]
        scores[t] = similarity * factor
        highest = max(highest, scores[t])
    total = np.float32(0.0)
    for j in range(width):
        out[j] = 0.0
    for t in range(start, stop):
        if len(mask) > 0 and not mask[t - start]:
            continue
        share = math.exp(scores[t] - highest)
        total += share
        for j in range(width):
            out[j] += share * values[t, j]
    for j in range(width):
        out[j] /= total


@compiled
def _attend_all(packed, keys, values, place, seen, mask, scores, attended):
    """Attention of the queries in `packed` [R, 3 * H * d], whose keys and values are written to a place first."""
    rows, heads, _, width = keys.shape
    for r in range(rows):
        visible = mask[r] if len(mask) > 0 else mask.reshape(-1)
        for head in range(heads):
            at = head * width
            for j in range(width):
                keys[r, head, place, j] = packed[r, heads * width + at + j]
                values[r, head, place, j] = packed[r, 2 * heads * width + at + j]
            query, out = packed[r, at : at + width], attended[r, at : at + width]
            _attend(query, keys[r, head], values[r, head], seen[0], seen[1], visible, scores, out)


@njit(
    _signature(
        *(ROWS, FLAT, "UniTuple(float32, 2)", CACHE, CACHE, "int64", "UniTuple(int64, 2)", "boolean[:, ::1]"),
        *(FLAT, ROWS, ROWS, ROWS, ROWS, ROWS),
    ),
    cache=True,
    error_model="numpy",
)
def transformer_frame(
    states, weights, eps, keys, values, place, seen, mask, scores, hidden, normed, packed, attended, inner
):
    """Down, attention over `keys` and `values` [R, H, size, d], feed-forward, up.

    The frame's own are written to `place`; places `seen[0]` to `seen[1]` are attended to, of those only where `mask`
    [R, places] is true if that has rows. `eps` are those of the two norms. Room: `scores` [size], `hidden` and
    `normed` [R, W], `packed` [R, 3 * H * d], `attended` [R, H * d], `inner` [R, F].
    """
    at = _affine(states, weights, 0, hidden)
    at = _normed(hidden, weights, at, eps[0], normed)
    at = _affine(normed, weights, at, packed)
    _attend_all(packed, keys, values, place, seen, mask, scores, attended)
    at = _add_affine(attended, weights, at, hidden)
    at = _normed(hidden, weights, at, eps[1], normed)
    at = _affine(normed, weights, at, inner)
    _gelu_all(inner)
    at = _add_affine(inner, weights, at, hidden)
    _add_affine(hidden, weights, at, states)
