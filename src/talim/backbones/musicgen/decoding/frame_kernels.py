"""One frame of an adapter, or of attention, as a compiled function.

Of an adapter it is one call for all that a block does between two layers of a base. There, after megabytes of weights
were read, each operation of torch begins with cold caches: a product of two rows with 256 x 36 numbers takes 4.6 µs in
a loop of its own and about 40 µs there. Import this module by `compiled.kernels`.

An adapter's states are float32 [R, D] and are changed in place; its weights are one array [inputs, outputs] after the
other, each followed by its bias. A row is computed by itself, so it has the same bits in every batch.
"""

# numba knows no keywords or groups of arguments as cheap as plain ones
# ruff: noqa: PLR0913
# and has no types
# pyright: reportUnknownParameterType=false, reportMissingParameterType=false

from __future__ import annotations

import math

import numpy as np
from numba import njit, types  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]
from numba.extending import overload  # pyright: ignore[reportMissingTypeStubs, reportUnknownVariableType]

compiled = njit(cache=True, error_model="numpy", fastmath={"contract"}, inline="never")
# sums in as many lanes as there are in a register; a row's are the same in every batch
compiled_sums = njit(cache=True, error_model="numpy", fastmath={"contract", "reassoc"}, inline="never")
FLOAT = np.float32
PLACES_AT_ONCE = 16  # as many numbers as the largest registers hold
LINE_BYTES = 64  # of a processor's cache
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
def _exp(x):
    """e^x of a number that is not above 0, with an error below 2e-7; 0 below -87. 2^r by a polynomial, times 2^n.

    The library's function is called for one number at a time; this is computed for as many as a register holds.
    """
    y = x * FLOAT(1.4426950408889634)
    whole = np.floor(y + FLOAT(0.5))  # that of `math` is an integer of 64 bits
    r = y - whole
    power = FLOAT(1.5337577e-4)  # least squares of the relative error on [-1/2, 1/2], which is 2e-9
    power = power * r + FLOAT(1.3399861e-3)
    power = power * r + FLOAT(9.6185195e-3)
    power = power * r + FLOAT(5.5503290e-2)
    power = power * r + FLOAT(2.4022647e-1)
    power = power * r + FLOAT(6.9314721e-1)
    power = power * r + FLOAT(1.0)
    exponent = np.int32((whole + FLOAT(127.0)) * FLOAT(8388608.0))  # 23 bits are below it
    power *= exponent.view(np.float32)
    return FLOAT(0.0) if x < FLOAT(-87.0) else power  # NaN stays NaN


@compiled
def _gelu(x):
    """Abramowitz and Stegun, Handbook of Mathematical Functions (1964), 7.1.26, for the normal distribution's tail."""
    z = abs(x) * FLOAT(0.7071067811865476)
    t = FLOAT(1.0) / (FLOAT(1.0) + FLOAT(0.3275911) * z)
    series = ((FLOAT(1.061405429) * t - FLOAT(1.453152027)) * t + FLOAT(1.421413741)) * t - FLOAT(0.284496736)
    tail = FLOAT(0.5) * (series * t + FLOAT(0.254829592)) * t * _exp(-z * z)
    return x * (FLOAT(1.0) - tail) if x > FLOAT(0.0) else x * tail


@compiled
def _gelu_all(states):
    for r in range(states.shape[0]):
        for j in range(states.shape[1]):
            states[r, j] = _gelu(states[r, j])


@compiled_sums
def _mean_and_factor(states, row, eps):
    """The mean of a row, and one by its standard deviation."""
    width = states.shape[1]
    mean, variance = FLOAT(0.0), FLOAT(0.0)
    for j in range(width):
        mean += states[row, j]
    mean /= FLOAT(width)
    for j in range(width):
        variance += (states[row, j] - mean) * (states[row, j] - mean)
    return mean, FLOAT(1.0) / np.sqrt(variance / FLOAT(width) + eps)


@compiled
def _normed(states, weights, at, eps, out):
    """Layer norm with the scale and shift at a place; returns the place behind them."""
    rows, width = states.shape
    for r in range(rows):
        mean, factor = _mean_and_factor(states, r, eps)
        for j in range(width):
            out[r, j] = (states[r, j] - mean) * factor * weights[at + j] + weights[at + width + j]
    return at + 2 * width


def _signature(*arguments: str) -> str:
    return f"void({', '.join(arguments)})"


@njit(_signature(ROWS, FLAT, ROWS), cache=True, error_model="numpy")
def linear_frame(states, weights, hidden):
    """Down, GELU, up. `hidden` [R, W] is room for the bottleneck."""
    at = _affine(states, weights, 0, hidden)
    _gelu_all(hidden)
    _add_affine(hidden, weights, at, states)


@compiled
def _conv(hidden, weights, at, rings, total, gate, frames, now, kernel_size, dilations, every, inner):
    """Convolutions and excitation of `hidden`, in place; returns the place behind their weights."""
    rows, width = hidden.shape
    squeezed = inner.shape[1]
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
    for r in range(rows):
        if frames[r] % every == 0:
            mean = total[r : r + 1] / FLOAT(max(frames[r], 1))
            then = _affine(mean, weights, at, inner[r : r + 1])
            _gelu_all(inner[r : r + 1])
            _affine(inner[r : r + 1], weights, then, gate[r : r + 1])
            for j in range(width):
                gate[r, j] = FLOAT(1.0) / (FLOAT(1.0) + math.exp(-gate[r, j]))
        for j in range(width):
            total[r, j] += hidden[r, j]
            hidden[r, j] *= gate[r, j]
    return at + 2 * width * squeezed + squeezed + width


CONV = "float32[:, :, ::1]", ROWS, ROWS, "int64[::1]", "int64", "int64", "int64[::1]", "int64", ROWS


@njit(_signature(ROWS, FLAT, ROWS, *CONV), cache=True, error_model="numpy")
def conv_frame(states, weights, hidden, rings, total, gate, frames, now, kernel_size, dilations, every, inner):
    """Down, convolutions over rings of past frames, excitation, up.

    `rings` [R, places, W] holds one ring after the other, each as long as its convolution reaches; `total` and `gate`
    [R, W] are the excitation's, `frames` [R] how many frames it has seen, `now` the time of this one. `hidden` [R, W]
    and `inner` [R, S] are room.
    """
    at = _affine(states, weights, 0, hidden)
    at = _conv(hidden, weights, at, rings, total, gate, frames, now, kernel_size, dilations, every, inner)
    _add_affine(hidden, weights, at, states)


@njit(_signature(ROWS, FLAT, *CONV), cache=True, error_model="numpy")
def conv_bottleneck(hidden, weights, rings, total, gate, frames, now, kernel_size, dilations, every, inner):
    """As `conv_frame` between down and up, in place; the weights are those between them."""
    _conv(hidden, weights, 0, rings, total, gate, frames, now, kernel_size, dilations, every, inner)


# Below, many places are computed at once: they are unsigned, as numba asks of each signed one whether it is negative,
# and their number is a multiple of `PLACES_AT_ONCE`, as what is left over is computed one at a time. No part of an
# array is passed on, as each would be counted. Keys and values [R, H, d, places] are float32 or the bits of bf16.


def places_for(size, item_bytes):
    """The places of a ring of `size` frames: so many that all are computed at once.

    They are an odd number of lines of the processor's cache, or the numbers of one place would all be in the same few
    sets of it.
    """
    line = LINE_BYTES // item_bytes
    return (-(-size // line) // 2 * 2 + 1) * line


def _number(kept):
    raise NotImplementedError("in compiled functions only")


@overload(_number, inline="always")
def _number_of_type(kept):
    """The float32 of a kept number: bf16 is the upper half of its bits."""
    if isinstance(kept, types.Float):
        return lambda kept: kept
    return lambda kept: np.uint32(np.uint32(kept) << np.uint32(16)).view(np.float32)


@compiled
def _similarities(packed, keys, row, head, places, scores):
    """Write the scaled products of a query with keys, four dimensions at once."""
    width = keys.shape[2]
    factor, at = FLOAT(1.0 / math.sqrt(width)), head * width
    fours = width - width % 4
    for t in range(places):
        scores[t] = FLOAT(0.0)
    for j in range(0, fours, 4):
        a, b = factor * packed[row, at + j], factor * packed[row, at + j + 1]
        c, d = factor * packed[row, at + j + 2], factor * packed[row, at + j + 3]
        for t in range(places):
            ab = a * _number(keys[row, head, j, t]) + b * _number(keys[row, head, j + 1, t])
            scores[t] += ab + c * _number(keys[row, head, j + 2, t]) + d * _number(keys[row, head, j + 3, t])
    for j in range(fours, width):
        a = factor * packed[row, at + j]
        for t in range(places):
            scores[t] += a * _number(keys[row, head, j, t])


@compiled
def _ordered(bits):
    """The bits of a float32, or those that this function made of them: integers in the order of their numbers."""
    return np.int32(bits ^ np.int32(np.int32(bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))


@compiled
def _highest(scores, places):
    """By their bits, as comparisons of numbers are made one at a time."""
    bits, highest = scores.view(np.int32), np.int32(-(2**31))
    for t in range(places):
        highest = max(highest, _ordered(bits[t]))
    return np.int32(_ordered(highest)).view(np.float32)


@compiled
def _exps(scores, places):
    highest = _highest(scores, places)
    for t in range(places):
        scores[t] = _exp(scores[t] - highest)


@compiled_sums
def _means(scores, values, row, head, places, out):
    """Write the means of values, weighted by `scores`, into `out` [R, H * d]."""
    width, at = values.shape[2], head * values.shape[2]
    fours = width - width % 4
    total = FLOAT(0.0)
    for t in range(places):
        total += scores[t]
    for j in range(0, fours, 4):
        a, b, c, d = FLOAT(0.0), FLOAT(0.0), FLOAT(0.0), FLOAT(0.0)
        for t in range(places):
            a += scores[t] * _number(values[row, head, j, t])
            b += scores[t] * _number(values[row, head, j + 1, t])
            c += scores[t] * _number(values[row, head, j + 2, t])
            d += scores[t] * _number(values[row, head, j + 3, t])
        out[row, at + j], out[row, at + j + 1] = a / total, b / total
        out[row, at + j + 2], out[row, at + j + 3] = c / total, d / total
    for j in range(fours, width):
        a = FLOAT(0.0)
        for t in range(places):
            a += scores[t] * _number(values[row, head, j, t])
        out[row, at + j] = a / total


@compiled
def _attend(packed, rounded, keys, values, size, frames, attended, scores, first, stop):
    """As `attend`; `rounded` has the type of the caches."""
    _, heads, width, _ = keys.shape
    for pair in range(first, stop):  # all first: what was just written must reach the cache before it is read
        r, head = pair // heads, pair % heads
        for j in range(width):
            keys[r, head, j, frames[r] % size] = rounded[r, (heads + head) * width + j]
            values[r, head, j, frames[r] % size] = rounded[r, (2 * heads + head) * width + j]
    for pair in range(first, stop):
        r, head = pair // heads, pair % heads
        seen = min(frames[r] + 1, size)
        places = np.uint64((seen + PLACES_AT_ONCE - 1) // PLACES_AT_ONCE * PLACES_AT_ONCE)
        _similarities(packed, keys, r, head, places, scores)
        for t in range(np.uint64(seen), places):
            scores[t] = FLOAT(-np.inf)
        _exps(scores, places)
        _means(scores, values, r, head, places, attended)


BF16_ROWS, BF16_CACHE = "uint16[:, ::1]", "uint16[:, :, :, ::1]"
ATTEND = ROWS, BF16_ROWS, BF16_CACHE, BF16_CACHE, "int64", "int64[::1]", ROWS, FLAT, "int64", "int64"


@njit(_signature(*ATTEND), cache=True, error_model="numpy", nogil=True)
def attend(packed, rounded, keys, values, size, frames, attended, scores, first, stop):
    """Attention of one frame over the last `size` ones of each row, for the pairs `first` to before `stop`.

    Pair p is head p % H of row p // H. `packed` [R, 3 * H * d] holds queries, keys and values, `rounded` the same in
    bf16, of which keys and values are written to their places first. A row's frames, of which there are `frames` [R]
    before this one, begin in the first place; the other places must hold numbers. What is attended to is written to
    `attended` [R, H * d]; `scores` [places] is room.
    """
    _attend(packed, rounded, keys, values, size, frames, attended, scores, first, stop)


@compiled
def _transformer(hidden, weights, at, eps, keys, values, size, frames, scores, normed, packed, attended, inner):
    """Attention and feed-forward of `hidden`, in place; returns the place behind their weights."""
    at = _normed(hidden, weights, at, eps[0], normed)
    at = _affine(normed, weights, at, packed)
    pairs = keys.shape[0] * keys.shape[1]
    _attend(packed, packed, keys, values, size, frames, attended, scores, 0, pairs)
    at = _add_affine(attended, weights, at, hidden)
    at = _normed(hidden, weights, at, eps[1], normed)
    at = _affine(normed, weights, at, inner)
    _gelu_all(inner)
    return _add_affine(inner, weights, at, hidden)


TRANSFORMER = "UniTuple(float32, 2)", CACHE, CACHE, "int64", "int64[::1]", FLAT, *[ROWS] * 4


@njit(_signature(ROWS, FLAT, ROWS, *TRANSFORMER), cache=True, error_model="numpy")
def transformer_frame(
    states, weights, hidden, eps, keys, values, size, frames, scores, normed, packed, attended, inner
):
    """Down, attention over the last `size` frames of each row, feed-forward, up.

    `keys` and `values` [R, H, d, places] are rings of the first `size` places, rounded up to a multiple of
    `PLACES_AT_ONCE`. A row's own, of which there are `frames` [R] before this one, begin in the first; the others must
    hold numbers. `eps` are those of the two norms. Room: `hidden` and `normed` [R, W], `scores` [places], `packed`
    [R, 3 * H * d], `attended` [R, H * d], `inner` [R, F].
    """
    at = _affine(states, weights, 0, hidden)
    past = keys, values, size, frames, scores
    at = _transformer(hidden, weights, at, eps, *past, normed, packed, attended, inner)
    _add_affine(hidden, weights, at, states)


@njit(_signature(ROWS, FLAT, *TRANSFORMER), cache=True, error_model="numpy")
def transformer_bottleneck(hidden, weights, eps, keys, values, size, frames, scores, normed, packed, attended, inner):
    """As `transformer_frame` between down and up, in place; the weights are those between them."""
    _transformer(hidden, weights, 0, eps, keys, values, size, frames, scores, normed, packed, attended, inner)
