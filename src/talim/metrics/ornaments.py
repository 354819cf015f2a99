"""Ornaments in a melody's pitch: glides, shakes, vibrato, swings, touches and turns; how many, how far, how fast.

Conventions: `cents` is float [n] above any fixed pitch, NaN where unvoiced, one value every `hop_seconds` (10 ms is
meant: at 20 ms the quickest touches are lost). Kinds are shapes of the contour, as the traditions' tables have them:

- glide: a slow direct way from one held note to another (meend, sut, glissando), 0.1 s or more between 10 and 90 %;
- shake: three or more quick swings of 80 cents or more, round ones (gamak, zamzama, tril); vibrato: two or more quick
  periods of a sine, narrower;
- swing: slow turns round a held note at 1 to 3.6 Hz, 40 to 130 cents wide (andolan, perde kaymasi);
- touch: one quick visit to another pitch beside the way (kan, carpma, mordent); turn: several in a row that come back
  to one note (murki, khatka, krintan, gruppetto). What lies on the way from note to note is the same curve as a passing
  note, and is neither; so is what lasts longer than 0.15 s at half its height.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from talim.metrics import movement
from talim.metrics.shapes import Ornament, of_breath

KINDS = ("glide", "shake", "vibrato", "swing", "touch", "turn")
ROUGH_CENTS = 6.0
STAND_OUT = 50.0
GRAIN_CENTS, MOST_TREMBLE_CENTS = 2.5, 8.0


def find(cents: np.ndarray, hop_seconds: float = 0.01) -> list[Ornament]:
    """All ornaments of a pitch track, in order of their onsets."""
    track = movement.clean(cents, hop_seconds)
    found: list[Ornament] = []
    for start, stop in movement.runs(np.isfinite(track)):
        if (stop - start) * hop_seconds >= 0.15:
            for one in of_breath(track[start:stop], hop_seconds):
                onset = one.onset_seconds + start * hop_seconds
                found.append(Ornament(one.kind, onset, one.seconds, one.extent_cents, one.rate_hz))
    return sorted(found, key=lambda one: one.onset_seconds)


def ornament_score(cents: np.ndarray, hop_seconds: float = 0.01) -> float:
    """Ornaments other than glides a voiced second, each counted by how smoothly it is drawn and how far it stands out.

    Range 0 up, higher is richer, 0 for a melody without any; NaN for less than a voiced second. An ornament of extent E
    counts 1 / (1 + (r / 6 cents)^2) / (1 + (50 t / E)^4): r is how far its contour lies off its own running mean over
    50 ms (root mean square), t how much the pitch trembles where it is calmest (`tremble_cents`). Random movement makes
    new shapes, but raises t for all of them, so that it earns nothing. Glides are left out: whatever smooths a contour
    makes more of them. Source: own definition; constants chosen on real tracks, flattened and jittered
    (docs/metrics-sensitivity.md).
    """
    noise = STAND_OUT * tremble_cents(cents, hop_seconds)
    counts = (
        _smoothness(cents, one, hop_seconds) / (1 + (noise / max(one.extent_cents, 1.0)) ** 4)
        for one in find(cents, hop_seconds)
        if one.kind != "glide"
    )
    return sum(counts) / _voiced_seconds(cents, hop_seconds)


def tremble_cents(cents: np.ndarray, hop_seconds: float) -> float:
    """How much the pitch trembles where it is calmest: the lower tenth of its distances from its running mean of 0.3 s.

    In cents, 8 at most, and softly held above 2.5, the grain of a tracker. The track is taken as it is, not cleaned,
    so that even five cents of jitter are seen.
    """
    track, width = np.asarray(cents, float), round(0.3 / hop_seconds) | 1
    apart = [
        np.abs(track[a:b] - ndimage.uniform_filter1d(track[a:b], width, mode="nearest"))
        for a, b in movement.runs(np.isfinite(track))
        if b - a >= width
    ]
    calm = float(np.quantile(np.concatenate(apart), 0.1)) if apart else 0.0
    return min((calm**4 + GRAIN_CENTS**4) ** 0.25, MOST_TREMBLE_CENTS)


def profile(cents: np.ndarray, hop_seconds: float = 0.01) -> dict[str, dict[str, float]]:
    """By kind: `per_second` (a voiced second), and the medians of `seconds`, `extent_cents`, `rate_hz`, `speed`.

    `speed` is in cents a second: of a glide its way over its time, of an oscillation twice its extent times its rate,
    of a touch or turn its extent over half its time. NaN where nothing was found.
    """
    found, voiced = find(cents, hop_seconds), _voiced_seconds(cents, hop_seconds)
    told = {}
    for kind in KINDS:
        mine = [one for one in found if one.kind == kind]
        told[kind] = {
            "per_second": len(mine) / voiced,
            "seconds": _median([one.seconds for one in mine]),
            "extent_cents": _median([one.extent_cents for one in mine]),
            "rate_hz": _median([one.rate_hz for one in mine if one.rate_hz]),
            "speed": _median([_speed(one) for one in mine]),
        }
    return told


def _speed(one: Ornament) -> float:
    if one.rate_hz:
        return 2 * one.extent_cents * one.rate_hz
    return one.extent_cents / (one.seconds * (1.0 if one.kind == "glide" else 0.5))


def _smoothness(cents: np.ndarray, one: Ornament, hop: float) -> float:
    """How much an ornament counts, 0 to 1."""
    start = round(one.onset_seconds / hop)
    piece = np.asarray(cents, float)[start : start + max(5, round(one.seconds / hop))]
    piece = piece[np.isfinite(piece)]
    if piece.size < 5:
        return 1.0
    off = np.clip(
        piece - ndimage.uniform_filter1d(piece, max(3, round(0.05 / hop) | 1), mode="nearest"), -60, 60
    )
    # A jump inside is no tremor: the quieter three quarters of the frames say how smooth the rest is.
    calm = np.sort(off**2)[: max(3, 3 * off.size // 4)]
    return float(1 / (1 + calm.mean() / ROUGH_CENTS**2))


def _voiced_seconds(cents: np.ndarray, hop: float) -> float:
    seconds = float(np.isfinite(cents).sum() * hop)
    return seconds if seconds >= 1 else float("nan")


def _median(values: Sequence[float]) -> float:
    return float(np.median(values)) if len(values) else float("nan")
