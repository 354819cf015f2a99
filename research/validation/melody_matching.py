"""Where one melody repeats a passage of another, up to 350 cents higher or lower and at 0.8 to 1.25 of its tempo.

Conventions: melodies are `PitchTrack`s (20 ms hop); a passage is as long as it lasts in the source; a ratio is the
length in the clip over the length in the source. Octaves count as equal, so that a tracker's octave errors do no harm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from research.validation import melody_matching
from talim.metrics.audio_matching import PassageMatch
from talim.metrics.copy_detection import CopyMatch, _finding, _null_similarities, p_value
from talim.metrics.pitch import PitchTrack

PASSAGE_SECONDS = 4.5

COARSE_SECONDS = 0.08

START_SECONDS = 0.4

RATIOS = tuple(np.exp(np.linspace(np.log(0.8), np.log(1.25), 10)))

CIRCLE_HARMONICS = (2, 6, 12)  # times the octave goes round the circle: coarse intervals, fine intervals

FLAT = 0.1  # spread of a circle vector under which a passage is one held note and no melody

SHORTLIST = 24

MIN_CANDIDATE_GAP_SECONDS = 0.6  # between two places of one source on the shortlist

SIMILARITY_SIGMA_CENTS = 20.0

MAX_TRANSPOSITION_CENTS = (
    350.0  # farther copies are not looked for: every interval allowed is one more chance for strangers
)

FINE_SECONDS = 0.02

INTERVAL_LAGS_SECONDS = (0.1, 0.2, 0.4)

WHOLE_TONE_CENTS = 200.0

HELD_NOTE_WEIGHT = 0.1  # of a frame in a held note, against 1.1 beside a step of a whole tone

MIN_MEAN_WEIGHT = 0.6  # mean weight under which a passage is too still to be sure of


@dataclass(frozen=True)
class ReferenceMelodies:
    """Source melodies prepared for search: circle vectors of all passages, their norms, where each one begins."""

    tracks: tuple[PitchTrack, ...]
    passages: tuple[np.ndarray, ...]  # one a turn, complex64 [frames, P]
    norms: tuple[np.ndarray, ...]  # one a turn, [P]
    owner: np.ndarray  # [P]
    start_seconds: np.ndarray  # [P]


def build_reference_melodies(tracks: Sequence[PitchTrack]) -> ReferenceMelodies:
    """Prepare source melodies; those shorter than a passage can hold none and are passed over."""
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

    Transposing turns all points by one angle, so that the magnitude of a product of two passages ignores it; a held
    note is centred away. Passages mostly unvoiced are emptied.
    """
    voiced = np.isfinite(cents)
    points = np.exp(2j * np.pi * turn / 1200 * np.where(voiced, cents, 0.0)) * voiced
    count = voiced.sum(1, keepdims=True)
    centred = (points - points.sum(1, keepdims=True) / np.maximum(count, 1)) * voiced
    return np.where(count >= 0.5 * cents.shape[1], centred, 0).astype(np.complex64)


def find_melody_match(
    track: PitchTrack, sources: ReferenceMelodies, without: Sequence[int] = ()
) -> PassageMatch | None:
    """The passage of `track` most like one of the sources, and where; None where there is none to compare.

    Sources `without` are passed over: those of the recording that the clip itself was cut from.

    Likeness is in [0, 1], see `agreement`: judge it by its percentile among pairs known to be strangers.
    """
    seconds = track.hz.size * track.hop_seconds
    steps = np.arange(round(PASSAGE_SECONDS / COARSE_SECONDS)) * COARSE_SECONDS
    starts = [
        (s, r) for r in RATIOS for s in np.arange(0, seconds - PASSAGE_SECONDS * r + 0.01, START_SECONDS)
    ]
    if not starts or not sources.owner.size:
        return None
    passages = np.stack([sample_track(track, start + steps * ratio) for start, ratio in starts])
    total = np.zeros((len(starts), sources.owner.size), np.float32)
    least = FLAT * np.sqrt(steps.size)
    for turn, theirs, norms in zip(CIRCLE_HARMONICS, sources.passages, sources.norms, strict=True):
        mine = _pitch_class_circle(passages, turn)
        scale = np.maximum(np.linalg.norm(mine, axis=1), least)[:, None] * np.maximum(norms, least)
        total += np.abs(mine.conj() @ theirs) / scale
    total[:, np.isin(sources.owner, np.asarray(without, int))] = -2
    found = [_refined(track, sources, starts[row], column) for row, column in _peaks(total, sources)]
    return max(found, key=lambda match: match.likeness, default=None)


def _peaks(total: np.ndarray, sources: ReferenceMelodies) -> list[tuple[int, int]]:
    """The rows and columns of the highest values, those of one source at least 0.6 s apart."""
    rows = total.argmax(0)
    value = total[rows, np.arange(total.shape[1])]
    taken: list[tuple[int, int]] = []
    while len(taken) < SHORTLIST and value.max() > 0:
        column = int(value.argmax())
        taken.append((int(rows[column]), column))
        same = sources.owner == sources.owner[column]
        value[
            same & (np.abs(sources.start_seconds - sources.start_seconds[column]) < MIN_CANDIDATE_GAP_SECONDS)
        ] = -2
    return taken


def _refined(
    track: PitchTrack, sources: ReferenceMelodies, begin: tuple[float, float], column: int
) -> PassageMatch:
    """The best alignment near a coarse one: ratio to half a percent, offset to a frame, interval to a cent."""
    source, start_there = int(sources.owner[column]), float(sources.start_seconds[column])
    steps = np.arange(0, PASSAGE_SECONDS, FINE_SECONDS)
    there = sample_track(sources.tracks[source], start_there + steps)
    middle = float(steps[steps.size // 2])  # ratios turn about it, nearly independent of shifts
    centre, ratio, likeness, cents = begin[0] + middle * begin[1], begin[1], 0.0, 0.0
    for bends, shifts in (
        ((0.976, 0.988, 1, 1.012, 1.024), (-2, -1, 0, 1, 2)),
        ((0.994, 1, 1.006), (-1, 0, 1)),
    ):
        tries = [(centre + shift * 0.02, ratio * bend) for bend in bends for shift in shifts]
        lines = sample_track(track, np.stack([c + (steps - middle) * r for c, r in tries]))
        found, intervals = alignment_similarity(lines, there)
        best = int(found.argmax())
        (centre, ratio), likeness, cents = tries[best], float(found[best]), float(intervals[best])
    start_here = centre - middle * ratio
    return PassageMatch(
        likeness,
        source,
        (max(0.0, start_here), start_here + PASSAGE_SECONDS * ratio),
        (start_there, start_there + PASSAGE_SECONDS),
        cents,
        ratio,
    )


def alignment_similarity(here: np.ndarray, there: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How alike lines of cents `here` [b, n] are to `there` [n], frame by frame, and the interval between them [b].

    After the one interval within 350 cents that fits best, octaves forgiven, a frame counts
    exp(-(gap / 20 cents)^2 / 2), 0 where only one is voiced; frames weigh more where either line moves, and a passage
    that hardly moves cannot reach 1, for strangers in one mode hold the same notes but do not step at the same
    moments. In [0, 1]; NaN is unvoiced.
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
    """How far each frame's pitch is from that 0.1 to 0.4 s before and after, in cents up to a whole tone [b, n]."""
    found = np.zeros(cents.shape)
    for seconds in INTERVAL_LAGS_SECONDS:
        lag = round(seconds / FINE_SECONDS)
        step = np.minimum(np.nan_to_num(np.abs(cents[:, lag:] - cents[:, :-lag])), WHOLE_TONE_CENTS)
        found[:, lag:] = np.maximum(found[:, lag:], step)
        found[:, :-lag] = np.maximum(found[:, :-lag], step)
    return found


def melody_null(sources: ReferenceMelodies, recordings: Sequence[str]) -> np.ndarray:
    """Likeness of each source's melody to the sources of all other recordings [n]; those without one left out."""
    return _null_similarities(
        sources.tracks, recordings, lambda own, track: melody_matching.find_melody_match(track, sources, own)
    )


def find_melody_copy(
    track: PitchTrack, sources: ReferenceMelodies, strangers: np.ndarray, without: Sequence[int] = ()
) -> CopyMatch | None:
    """The passage of 4.5 s whose melody is most like one of the sources'; None where there is none to compare.

    Found up to 350 cents away and at 0.8 to 1.25 of the tempo; how surely: docs/metrics-originality.md. likeness:
    `melody_match.agreement`, [0, 1], lower is more original. Compare `p_value` with 0.01 for a gate. What it cannot
    hear: a copied rhythm or accompaniment, a held note, a passage without pitch.
    """
    match = melody_matching.find_melody_match(track, sources, without)
    return None if match is None else _finding("melody", match, p_value(match.likeness, strangers))
