"""Search for a passage of one melody in another, transposed by up to 350 cents and at 0.8 to 1.25 of its tempo.

Conventions: melodies are `PitchTrack`s (20 ms hop); the length of a passage is its length in the source; a ratio is the
length in the clip over the length in the source. Octaves are equivalent, so octave errors of the tracker do not matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from talim.metrics.audio_matching import PassageMatch
from talim.metrics.copy_detection import CopyMatch, match_with_p_value, null_similarities, p_value
from talim.metrics.pitch import PitchTrack

PASSAGE_SECONDS = 4.5
COARSE_SECONDS = 0.08
START_SECONDS = 0.4
RATIOS = tuple(np.exp(np.linspace(np.log(0.8), np.log(1.25), 10)))
CIRCLE_HARMONICS = (2, 6, 12)  # turns of the circle per octave: coarse and fine intervals
FLAT = 0.1  # spread of a circle vector below which a passage is one held note
SHORTLIST = 24
MIN_CANDIDATE_GAP_SECONDS = 0.6  # between two candidates in one source
SIMILARITY_SIGMA_CENTS = 20.0
MAX_TRANSPOSITION_CENTS = 350.0  # every allowed interval raises the similarity of unrelated melodies
FINE_SECONDS = 0.02
INTERVAL_LAGS_SECONDS = (0.1, 0.2, 0.4)
WHOLE_TONE_CENTS = 200.0
HELD_NOTE_WEIGHT = 0.1  # of a frame in a held note; 1.1 next to a step of a whole tone
MIN_MEAN_WEIGHT = 0.6  # mean weight below which a passage moves too little to reach similarity 1


@dataclass(frozen=True)
class ReferenceMelodies:
    """Index of the source melodies: circle vectors of all P passages, their norms, sources and start times."""

    tracks: tuple[PitchTrack, ...]
    passages: tuple[np.ndarray, ...]  # per turn, complex64 [frames, P]
    norms: tuple[np.ndarray, ...]  # per turn, [P]
    owner: np.ndarray  # [P]
    start_seconds: np.ndarray  # [P]


def build_reference_melodies(tracks: Sequence[PitchTrack]) -> ReferenceMelodies:
    """Index source melodies; those shorter than a passage have none."""
    frames = round(PASSAGE_SECONDS / COARSE_SECONDS)
    curves = [sample_track(t, np.arange(0, t.hz.size * t.hop_seconds, COARSE_SECONDS)) for t in tracks]
    windows = [
        np.lib.stride_tricks.sliding_window_view(c, frames) if c.size >= frames else np.zeros((0, frames))
        for c in curves
    ]
    stacked = np.concatenate([*windows, np.zeros((0, frames))])
    circles = [_pitch_class_circle(stacked, turn) for turn in CIRCLE_HARMONICS]
    return ReferenceMelodies(
        tuple(tracks),
        tuple(np.ascontiguousarray(circle.T) for circle in circles),
        tuple(np.linalg.norm(circle, axis=1) for circle in circles),
        np.repeat(np.arange(len(tracks)), [len(w) for w in windows]),
        np.concatenate([np.arange(len(w)) * COARSE_SECONDS for w in windows] + [np.zeros(0)]),
    )


def sample_track(track: PitchTrack, seconds: np.ndarray) -> np.ndarray:
    """Cents of a track at `seconds`, NaN where unvoiced or outside."""
    index = np.round(seconds / track.hop_seconds).astype(int)
    inside = (index >= 0) & (index < track.hz.size)
    return np.where(inside, track.cents[np.clip(index, 0, track.hz.size - 1)], np.nan)


def _pitch_class_circle(cents: np.ndarray, turn: int) -> np.ndarray:
    """Pitch classes as points on a circle, centred per passage [n, frames]; 0 where unvoiced.

    Transposition rotates all points by one angle, so the magnitude of the product of two passages is invariant to it;
    centring removes held notes. Passages that are mostly unvoiced are set to 0.
    """
    voiced = np.isfinite(cents)
    points = np.exp(2j * np.pi * turn / 1200 * np.where(voiced, cents, 0.0)) * voiced
    count = voiced.sum(1, keepdims=True)
    centred = (points - points.sum(1, keepdims=True) / np.maximum(count, 1)) * voiced
    return np.where(count >= 0.5 * cents.shape[1], centred, 0).astype(np.complex64)


def find_melody_match(
    track: PitchTrack, sources: ReferenceMelodies, without: Sequence[int] = ()
) -> PassageMatch | None:
    """The passage of `track` most similar to a source, and where; None if there is no passage to compare.

    Sources `without` are excluded: those of the clip's own recording.

    The similarity is in [0, 1] (`alignment_similarity`); judge it by the null distribution (`melody_null`).
    """
    seconds = track.hz.size * track.hop_seconds
    steps = np.arange(round(PASSAGE_SECONDS / COARSE_SECONDS)) * COARSE_SECONDS
    starts = [(s, r) for r in RATIOS for s in np.arange(0, seconds - PASSAGE_SECONDS * r + 0.01, START_SECONDS)]
    if not starts or not sources.owner.size:
        return None
    passages = np.stack([sample_track(track, start + steps * ratio) for start, ratio in starts])
    total = np.zeros((len(starts), sources.owner.size), np.float32)
    least = FLAT * np.sqrt(steps.size)
    for turn, source_points, norms in zip(CIRCLE_HARMONICS, sources.passages, sources.norms, strict=True):
        points = _pitch_class_circle(passages, turn)
        scale = np.maximum(np.linalg.norm(points, axis=1), least)[:, None] * np.maximum(norms, least)
        total += np.abs(points.conj() @ source_points) / scale
    total[:, np.isin(sources.owner, np.asarray(without, int))] = -2
    matches = [_refined(track, sources, starts[row], column) for row, column in _peaks(total, sources)]
    return max(matches, key=lambda match: match.similarity, default=None)


def _peaks(total: np.ndarray, sources: ReferenceMelodies) -> list[tuple[int, int]]:
    """Rows and columns of the highest values, at least 0.6 s apart within a source."""
    rows = total.argmax(0)
    value = total[rows, np.arange(total.shape[1])]
    peaks: list[tuple[int, int]] = []
    while len(peaks) < SHORTLIST and value.max() > 0:
        column = int(value.argmax())
        peaks.append((int(rows[column]), column))
        same = sources.owner == sources.owner[column]
        value[same & (np.abs(sources.start_seconds - sources.start_seconds[column]) < MIN_CANDIDATE_GAP_SECONDS)] = -2
    return peaks


def _refined(track: PitchTrack, sources: ReferenceMelodies, begin: tuple[float, float], column: int) -> PassageMatch:
    """The best alignment near a coarse one: ratio to 0.5 %, offset to a frame, interval to a cent."""
    source, start_there = int(sources.owner[column]), float(sources.start_seconds[column])
    steps = np.arange(0, PASSAGE_SECONDS, FINE_SECONDS)
    there = sample_track(sources.tracks[source], start_there + steps)
    middle = float(steps[steps.size // 2])  # pivot of the ratios, so that they hardly depend on shifts
    centre, ratio, similarity, cents = begin[0] + middle * begin[1], begin[1], 0.0, 0.0
    for bends, shifts in (((0.976, 0.988, 1, 1.012, 1.024), (-2, -1, 0, 1, 2)), ((0.994, 1, 1.006), (-1, 0, 1))):
        tries = [(centre + shift * 0.02, ratio * bend) for bend in bends for shift in shifts]
        lines = sample_track(track, np.stack([c + (steps - middle) * r for c, r in tries]))
        similarities, intervals = alignment_similarity(lines, there)
        best = int(similarities.argmax())
        (centre, ratio), similarity, cents = tries[best], float(similarities[best]), float(intervals[best])
    start_here = centre - middle * ratio
    return PassageMatch(
        similarity,
        source,
        (max(0.0, start_here), start_here + PASSAGE_SECONDS * ratio),
        (start_there, start_there + PASSAGE_SECONDS),
        cents,
        ratio,
    )


def alignment_similarity(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Framewise similarity [b] of pitch contours `here` [b, n] to `there` [n], in cents, and their intervals [b].

    After transposition by the best interval within 350 cents (modulo octaves) a frame scores
    exp(-(gap / 20 cents)^2 / 2), or 0 where only one contour is voiced. Frames are weighted by the motion of either
    contour, and a passage that hardly moves cannot reach 1: unrelated melodies in one mode hold the same notes but do
    not move at the same moments. Range [0, 1]; NaN is unvoiced.
    """
    rows, n = here.shape
    both = np.isfinite(here) & np.isfinite(there)
    either = np.isfinite(here) | np.isfinite(there)
    gaps = np.mod(np.where(both, here - there, 0.0), 1200)
    bins = (gaps / 20).astype(int) % 60 + 60 * np.arange(rows)[:, None]
    counts = np.bincount(bins[both], minlength=60 * rows).reshape(rows, 60)
    near = counts + np.roll(counts, 1, axis=1) + np.roll(counts, -1, axis=1)
    middles = (np.arange(60) + 0.5) * 20
    far = np.abs((middles + 600) % 1200 - 600) > MAX_TRANSPOSITION_CENTS
    interval = middles[np.where(far, -1, near).argmax(1)]
    for _ in range(2):
        offs = np.mod(gaps - interval[:, None] + 600, 1200) - 600
        close = both & (np.abs(offs) <= 2 * SIMILARITY_SIGMA_CENTS)
        interval = interval + np.where(close, offs, 0).sum(1) / np.maximum(close.sum(1), 1)
    offs = np.mod(gaps - interval[:, None] + 600, 1200) - 600
    weight = HELD_NOTE_WEIGHT + np.maximum(_motion(here), _motion(there[None])) / WHOLE_TONE_CENTS
    alike = np.where(both, weight * np.exp(-0.5 * (offs / SIMILARITY_SIGMA_CENTS) ** 2), 0).sum(1)
    full = np.maximum(np.where(either, weight, 0).sum(1), MIN_MEAN_WEIGHT * n)
    return alike / full, (interval + 600) % 1200 - 600


def _motion(cents: np.ndarray) -> np.ndarray:
    """Distance of each frame's pitch from that 0.1 to 0.4 s before and after, in cents, at most a whole tone [b, n]."""
    motion = np.zeros(cents.shape)
    for seconds in INTERVAL_LAGS_SECONDS:
        lag = round(seconds / FINE_SECONDS)
        step = np.minimum(np.nan_to_num(np.abs(cents[:, lag:] - cents[:, :-lag])), WHOLE_TONE_CENTS)
        motion[:, lag:] = np.maximum(motion[:, lag:], step)
        motion[:, :-lag] = np.maximum(motion[:, :-lag], step)
    return motion


def melody_null(sources: ReferenceMelodies, recordings: Sequence[str]) -> np.ndarray:
    """Similarity of each source's melody to the sources of all other recordings [n], where there is one."""
    return null_similarities(
        sources.tracks, recordings, lambda track, excluded: find_melody_match(track, sources, excluded)
    )


def find_melody_copy(
    track: PitchTrack, sources: ReferenceMelodies, null: np.ndarray, without: Sequence[int] = ()
) -> CopyMatch | None:
    """The 4.5 s passage whose melody is most similar to a source; None if there is none to compare.

    Transpositions up to 350 cents and tempi of 0.8 to 1.25 are searched; accuracy: docs/reports/copy-detection.md.
    The similarity is that of `alignment_similarity`; a p-value of 0.01 or less indicates a copy. Not detected: a
    copied rhythm or accompaniment, a held note, a passage without pitch.
    """
    match = find_melody_match(track, sources, without)
    return None if match is None else match_with_p_value("melody", match, p_value(match.similarity, null))
