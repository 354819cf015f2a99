"""Waves in the contour of a held note: vibrato and slow swings, found by fitting sines to it.

Conventions: a piece is float [n] in cents, unbroken; `hop` is its frame in seconds. In a window of some periods a sine
and a straight line are fitted by least squares, at each of some rates; a wave is where the sine tells nearly all that
the line leaves, and the line is nearly level.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Band:
    """What counts as a wave: rates, periods in a window, extent peak to peak, least share told, steepest line.

    `tilt` is how far the line under the wave may rise or fall within a window, in shares of the extent.
    """

    rates_hz: tuple[float, float]
    periods: float
    extent_cents: tuple[float, float]
    told: float
    tilt: float


VIBRATO = Band((4.0, 8.0), 2.0, (27.0, 80.0), 0.87, 1.0)
SWING = Band((1.0, 3.6), 1.5, (40.0, 130.0), 0.95, 0.3)


@dataclass(frozen=True)
class Wave:
    """A stretch of one wave: first and one-past-last frame, extent peak to peak in cents, rate in Hz."""

    start: int
    stop: int
    extent_cents: float
    rate_hz: float


def waves(piece: np.ndarray, hop: float, band: Band) -> list[Wave]:
    """The waves of a band in a piece, the clearest first taken, none over another."""
    low, high = band.rates_hz
    rates = low * (high / low) ** (np.arange(12) / 11)
    found: list[tuple[float, Wave]] = []
    for rate in rates:
        size = round(band.periods / rate / hop)
        if size > piece.size or size < 8:
            continue
        extent, told, rise = _fit(piece, hop, rate, size)
        good = (told >= band.told) & (extent >= band.extent_cents[0]) & (extent < band.extent_cents[1])
        good &= rise <= band.tilt * extent
        found += [
            (told[n], Wave(int(n), int(n) + size, float(extent[n]), rate)) for n in np.flatnonzero(good)
        ]
    return _joined([wave for _, wave in sorted(found, key=lambda one: -one[0])])


def _fit(piece: np.ndarray, hop: float, rate: float, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """In every window of `size` frames: the extent of the sine, the share of what the line leaves that it tells, and
    how far the line rises or falls: [n - size + 1] each."""
    at = (np.arange(size) - (size - 1) / 2) * hop
    angle = 2 * np.pi * rate * at
    # Orthonormal columns: the sum of squares that each one tells is the square of what it is correlated with.
    axes, mixing = np.linalg.qr(np.stack([np.ones(size), at, np.cos(angle), np.sin(angle)], axis=1))
    level = piece - piece.mean()
    told = np.stack([np.correlate(level, axis, "valid") for axis in axes.T])
    squares = np.correlate(level**2, np.ones(size), "valid")
    before = np.maximum(squares - (told[:2] ** 2).sum(0), 1e-9)
    _, slope, cosine, sine = np.linalg.solve(mixing, told)
    return 2 * np.hypot(cosine, sine), (told[2:] ** 2).sum(0) / before, np.abs(slope) * size * hop


def _joined(ranked: list[Wave]) -> list[Wave]:
    """Overlapping windows as one wave, of the extent and rate of the clearest."""
    found: list[Wave] = []
    for wave in ranked:
        shared = [one for one in found if wave.start < one.stop and wave.stop > one.start]
        found = [one for one in found if one not in shared]
        clearest = (shared or [wave])[0]
        start, stop = min(one.start for one in [wave, *shared]), max(one.stop for one in [wave, *shared])
        found.append(Wave(start, stop, clearest.extent_cents, clearest.rate_hz))
    return sorted(found, key=lambda one: one.start)
