"""Joins a recording and what a codec decodes from its last tokens and the tokens that go on from them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import numpy as np

FADE_SECONDS = 0.04  # two frames of the released codec


def join(
    phrase: np.ndarray, decoded: Iterable[np.ndarray], shared: int, new: int, rate_hz: int
) -> Iterator[np.ndarray]:
    """The phrase [C, N], then `new` samples of what is decoded after its first `shared` ones; in blocks [C, n].

    `decoded`, in blocks, begins with the codec's version of the phrase's last `shared` samples. Within the last 40 ms
    of the phrase the one fades into the other, at constant power for however much alike they are; before that every
    sample is the phrase's own. Without a phrase (N = 0) only the new samples are given.
    """
    blocks = iter(decoded)
    head = np.zeros((phrase.shape[0], 0), np.float32)
    while head.shape[1] < shared:
        head = np.concatenate([head, next(blocks)], axis=1)
    length = min(round(FADE_SECONDS * rate_hz), shared, phrase.shape[1])
    at = phrase.shape[1] - length
    yield np.concatenate([phrase[:, :at], _cross_fade(phrase[:, at:], head[:, shared - length : shared])], axis=1)
    for block in itertools.chain([head[:, shared:]], blocks):
        yield block[:, :new]
        new -= block.shape[1]
        if new <= 0:
            return


def _cross_fade(own: np.ndarray, other: np.ndarray) -> np.ndarray:
    """From one sound [C, n] to another of the same length."""
    rising = (np.arange(own.shape[1], dtype=np.float32) + 0.5) / own.shape[1]
    # two unlike sounds, faded linearly, would be 3 dB quieter in the middle
    power = rising**2 + (1 - rising) ** 2 + 2 * rising * (1 - rising) * _similarity(own, other)
    return ((1 - rising) * own + rising * other) / np.sqrt(power)


def _similarity(one: np.ndarray, other: np.ndarray) -> float:
    """Correlation of two sounds of the same length, 0 to 1; 1 where either is silent."""
    norm = float(np.sqrt(np.square(one, dtype=np.float64).sum() * np.square(other, dtype=np.float64).sum()))
    return 1.0 if norm < 1e-12 else min(max(float((one.astype(np.float64) * other).sum()) / norm, 0.0), 1.0)
