"""Where one recording holds a copy of a passage of another: its sound shifted, stretched, filtered, re-encoded.

Conventions: a print is what a sound looks like here, the log power [BINS, n] of bands a quarter tone wide, one
column every 20 ms; a shift in pitch moves it along the bands, a stretch along time, a filter adds a constant to each
band. A passage is as long as it lasts in the source; a ratio is the length in the clip over the length in the source.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

VERSION = 1  # goes up with every change of `sound_print`, so that no old cache answers

RATE_HZ = 16000

HOP_SECONDS = 0.02

FRAME = 2048  # samples, 128 ms

LOWEST_HZ = 180.0

BINS_PER_OCTAVE = 24

BINS = 111  # up to 4.3 kHz, under what low bit rates cut away

FLOOR = 1e-3  # of the mean power: quieter than that is no music but the coder's noise

PASSAGE_SECONDS = 4.0

MAX_SHIFT_BINS = 7  # shifts looked for, 350 cents up and down

COARSE_FRAMES = 5  # fine frames in a column of the coarse search

START_COLUMNS = 4  # coarse columns between two passages of the clip that are looked for

RATIOS = tuple(np.exp(np.linspace(np.log(0.8), np.log(1.25), 12)))

PCA_COMPONENTS = 192  # of the space in which passages are compared first

PCA_FIT_PASSAGES = 800  # passages that the axes are learnt from

SHORTLIST = 12

MIN_CANDIDATE_GAP_SECONDS = 0.6  # between two places of one source on the shortlist

STEP_FRAMES = 2  # every second frame is enough to align by

SMOOTHING_BANDS, SMOOTHING_FRAMES = (
    13,
    25,
)  # half an octave, half a second: slower than that is timbre and phrasing

NUM_SEGMENTS, NUM_LOWEST_SEGMENTS = 8, 3

BATCH_PASSAGES = 1000  # passages copied at a time

CENTS_PER_BIN = 1200 / BINS_PER_OCTAVE


@dataclass(frozen=True)
class ReferenceAudio:
    """Source prints prepared for search: all their passages on a few axes, and where each one begins."""

    prints: tuple[np.ndarray, ...]  # one a source, float16 [BINS, frames]
    axes: np.ndarray  # float32 [bands * columns, AXES]
    passages: np.ndarray  # float32 [AXES, P], each of norm 1
    owner: np.ndarray  # [P]
    start_frames: np.ndarray  # [P]


def audio_fingerprint(samples: np.ndarray) -> np.ndarray:
    """The print of `samples` [T] at 16 kHz: float16 [BINS, frames], natural log of power over its mean.

    ValueError for samples that are not one finite, non-empty channel.
    """
    import librosa

    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(
            f"a print needs one non-empty channel of finite samples, not an array of shape {samples.shape}"
        )
    padded = np.pad(samples, (0, max(0, FRAME - samples.size)))
    spectrum = librosa.stft(padded, n_fft=FRAME, hop_length=round(HOP_SECONDS * RATE_HZ))
    power = _bands() @ (np.abs(spectrum) ** 2)
    return np.log(FLOOR + power / max(float(power.mean()), 1e-12)).astype(np.float16)


@cache
def _bands() -> np.ndarray:
    """Triangular bands a quarter tone wide, or as wide as a line of the spectrum, [BINS, lines]; each sums to 1."""
    middles = (LOWEST_HZ * 2 ** (np.arange(BINS) / BINS_PER_OCTAVE))[:, None]
    lines = np.arange(FRAME // 2 + 1) * RATE_HZ / FRAME
    widths = np.maximum(middles * (2 ** (1 / BINS_PER_OCTAVE) - 1), RATE_HZ / FRAME)
    found = np.maximum(0.0, 1 - np.abs(lines - middles) / widths)
    return (found / found.sum(1, keepdims=True)).astype(np.float32)


def build_reference_audio(prints: Sequence[np.ndarray], seed: int = 0) -> ReferenceAudio:
    """Prepare source prints; those shorter than a passage can hold none and are passed over.

    The axes are the first principal ones of some of the passages, drawn by `seed`.
    """
    columns = round(PASSAGE_SECONDS / HOP_SECONDS) // COARSE_FRAMES
    coarse = [_coarse(p, 1.0)[MAX_SHIFT_BINS : BINS - MAX_SHIFT_BINS] for p in prints]
    counts = [max(0, c.shape[1] - columns + 1) for c in coarse]
    total = sum(counts)
    size = (BINS - 2 * MAX_SHIFT_BINS) * columns
    if not total:
        nothing = np.zeros(0, int)
        empty = np.zeros((size, 1), np.float32), np.zeros((1, 0), np.float32)
        return ReferenceAudio(tuple(prints), *empty, nothing, nothing)
    chosen = np.random.default_rng(seed).choice(total, min(total, PCA_FIT_PASSAGES), replace=False)
    firsts = np.concatenate([[0], np.cumsum(counts)])
    learnt = np.concatenate(
        [
            _unit(_passages(c, columns, 1)[chosen[(chosen >= first) & (chosen < first + n)] - first])
            for c, first, n in zip(coarse, firsts, counts, strict=False)
        ]
    )
    power, turns = np.linalg.eigh(learnt @ learnt.T)
    kept = np.argsort(power)[::-1][:PCA_COMPONENTS]
    axes = (learnt.T @ (turns[:, kept] / np.sqrt(np.maximum(power[kept], 1e-6)))).astype(np.float32)
    projected = [_projected(_passages(c, columns, 1), axes) for c in coarse]
    return ReferenceAudio(
        tuple(prints),
        axes,
        np.ascontiguousarray(np.concatenate(projected).T),
        np.repeat(np.arange(len(counts)), counts),
        np.concatenate([np.arange(n) * COARSE_FRAMES for n in counts]),
    )


def _coarse(print_: np.ndarray, ratio: float) -> np.ndarray:
    """Means over columns of `ratio` times 0.1 s, float32 [BINS, columns]."""
    sums = np.cumsum(print_, axis=1, dtype=np.float64)
    sums = np.concatenate([np.zeros((len(print_), 1)), sums], axis=1)
    edges = np.arange(0, print_.shape[1] + 1e-6, COARSE_FRAMES * ratio)
    return (np.diff(_interpolate_at(sums, edges), axis=1) / (COARSE_FRAMES * ratio)).astype(np.float32)


def _interpolate_at(rows: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Values of `rows` [b, n] at fractional `times` [...] in frames, between their neighbours: [b, ...]."""
    times = np.clip(times, 0, rows.shape[1] - 1)
    before = np.minimum(times.astype(int), max(0, rows.shape[1] - 2))
    part = (times - before).astype(rows.dtype)
    return rows[:, before] * (1 - part) + rows[:, np.minimum(before + 1, rows.shape[1] - 1)] * part


def _passages(coarse: np.ndarray, columns: int, step: int) -> np.ndarray:
    """All passages of a coarse print, every `step` columns, a view [p, bands, columns]."""
    if coarse.shape[1] < columns:
        return np.zeros((0, len(coarse), columns), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(coarse, columns, axis=1)
    return windows[:, ::step].transpose(1, 0, 2)


def _projected(passages: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Passages on the axes, norm 1 [p, AXES]; some at a time, for a view of an hour is small and its copy is not."""
    parts = [
        _unit_rows(_flat(passages[first : first + BATCH_PASSAGES]) @ axes)
        for first in range(0, len(passages), BATCH_PASSAGES)
    ]
    return np.concatenate([np.zeros((0, axes.shape[1]), np.float32), *parts])


def _flat(passages: np.ndarray) -> np.ndarray:
    count, bands, columns = passages.shape
    return np.ascontiguousarray(passages).reshape(count, bands * columns)  # -1 fails for no passages


def _unit(passages: np.ndarray) -> np.ndarray:
    """Each passage without the mean of each band, which a filter, a drone or a gain would move; of norm 1 [p, d]."""
    return _unit_rows(_flat(passages - passages.mean(2, keepdims=True)))


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def find_audio_match(
    print_: np.ndarray, sources: ReferenceAudio, without: Sequence[int] = ()
) -> PassageMatch | None:
    """The passage of a print [BINS, frames] most like one of the sources, and where; None if there is none to compare.

    Sources `without` are passed over: those of the recording that the clip itself was cut from. Likeness is at most
    1, see `likeness`: judge it by its percentile among pairs known to be strangers.
    """
    print_ = np.asarray(print_, np.float32)
    value = np.full(sources.owner.size, -2.0, np.float32)
    row = np.zeros(sources.owner.size, int)
    begins: list[tuple[float, float, int]] = []
    for rows, starts in _variants(print_, sources):
        found = rows @ sources.passages
        best = found.argmax(0)
        highest = found[best, np.arange(value.size)]
        better = highest > value
        value[better], row[better] = highest[better], best[better] + len(begins)
        begins += starts
    if not begins:
        return None
    value[np.isin(sources.owner, np.asarray(without, int))] = -2
    aligned = [_aligned(print_, sources, begins[row[place]], place) for place in _peaks(value, sources)]
    return max(aligned, key=lambda match: match.similarity, default=None)


def _variants(
    print_: np.ndarray, sources: ReferenceAudio
) -> Iterator[tuple[np.ndarray, list[tuple[float, float, int]]]]:
    """Passages of a clip at each ratio and shift on the library's axes [v, AXES]; start in frames, ratio, bins."""
    columns = round(PASSAGE_SECONDS / HOP_SECONDS) // COARSE_FRAMES
    for ratio in RATIOS:
        passages = _passages(_coarse(print_, ratio), columns, START_COLUMNS)
        if not len(passages) or not sources.owner.size:
            continue
        starts = np.arange(len(passages)) * START_COLUMNS * COARSE_FRAMES * ratio
        rows, begins = [], []
        for bins in range(-MAX_SHIFT_BINS, MAX_SHIFT_BINS + 1):
            moved = passages[:, MAX_SHIFT_BINS + bins : BINS - MAX_SHIFT_BINS + bins]
            rows.append(_unit_rows(_flat(moved) @ sources.axes))
            begins += [(float(start), float(ratio), bins) for start in starts]
        yield np.concatenate(rows), begins


def _peaks(value: np.ndarray, sources: ReferenceAudio) -> list[int]:
    """Where the highest values are, those of one source at least 0.6 s apart; `value` is used up."""
    taken: list[int] = []
    while len(taken) < SHORTLIST and value.size and value.max() > -1:
        place = int(value.argmax())
        taken.append(place)
        gaps = np.abs(sources.start_frames - sources.start_frames[place]) * HOP_SECONDS
        value[(sources.owner == sources.owner[place]) & (gaps < MIN_CANDIDATE_GAP_SECONDS)] = -2
    return taken


def _aligned(
    print_: np.ndarray, sources: ReferenceAudio, begin: tuple[float, float, int], place: int
) -> PassageMatch:
    """The best alignment near a coarse one: ratio to half a percent, offset to a frame, shift to a tenth of a bin."""
    frames = round(PASSAGE_SECONDS / HOP_SECONDS)
    source, first = int(sources.owner[place]), int(sources.start_frames[place])
    there = sources.prints[source][MAX_SHIFT_BINS : BINS - MAX_SHIFT_BINS, first : first + frames].astype(
        np.float32
    )
    steps = np.arange(0, frames, STEP_FRAMES) - frames / 2  # ratios turn about the middle
    sought = there[:, ::STEP_FRAMES]
    centre, ratio, bins = begin[0] + frames / 2 * begin[1], begin[1], float(begin[2])
    for bends, moves, turns in (
        ((0.976, 0.988, 1, 1.012, 1.024), (-4, -2, 0, 2, 4), (0.0,)),
        ((1,), (0,), (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)),
        ((0.994, 1, 1.006), (-1, 0, 1), (-0.1, 0.0, 0.1)),
    ):
        tries = [(centre + move, ratio * bend) for bend in bends for move in moves]
        times = np.stack([c + steps * r for c, r in tries])
        found = np.stack(
            [_correlation(_warp_fingerprint(print_, times, bins + turn), sought) for turn in turns]
        )
        turn, best = np.unravel_index(found.argmax(), found.shape)
        (centre, ratio), bins = tries[int(best)], bins + turns[int(turn)]
    times = centre + (np.arange(frames) - frames / 2) * ratio
    start = (centre - frames / 2 * ratio) * HOP_SECONDS
    return PassageMatch(
        similarity(_warp_fingerprint(print_, times[None], bins)[:, 0], there),
        source,
        (max(0.0, start), start + PASSAGE_SECONDS * ratio),
        (first * HOP_SECONDS, first * HOP_SECONDS + PASSAGE_SECONDS),
        bins * CENTS_PER_BIN,
        ratio,
    )


def _warp_fingerprint(print_: np.ndarray, times: np.ndarray, bins: float) -> np.ndarray:
    """A print at `times` [n, t] in frames, the bands `bins` higher brought down to where a source has them."""
    wanted = np.clip(np.arange(MAX_SHIFT_BINS, BINS - MAX_SHIFT_BINS) + bins, 0, BINS - 1)
    below = np.minimum(wanted.astype(int), BINS - 2)
    part = (wanted - below).astype(np.float32)[:, None]
    rows = print_[below] * (1 - part) + print_[below + 1] * part
    return _interpolate_at(rows, times)


def _correlation(here: np.ndarray, there: np.ndarray) -> np.ndarray:
    """Correlation of each of `here` [bands, n, t] with `there` [bands, t], bands centred one by one: [n]."""
    there = there - there.mean(1, keepdims=True)
    here = here - here.mean(2, keepdims=True)
    scale = np.sqrt((here**2).sum((0, 2)) * (there**2).sum())
    return np.tensordot(there, here, ((0, 1), (0, 2))) / np.maximum(scale, 1e-6)


def similarity(here: np.ndarray, there: np.ndarray) -> float:
    """How alike two aligned prints [bands, t] are where they are least alike, [-1, 1].

    What is common to all music of a kind goes first: the mean over 13 bands of each moment (timbre) and the mean over
    half a second of each band (drones, filters, the rise and fall of phrases). Of the correlations of the eight parts
    of half a second, the mean of the three lowest counts: strangers may share a bar, a copy is alike all along.
    """
    here, there = _remove_broad_shape(here), _remove_broad_shape(there)
    size = there.shape[1] // NUM_SEGMENTS
    found = [
        float(_correlation(here[:, None, n * size : (n + 1) * size], there[:, n * size : (n + 1) * size])[0])
        for n in range(NUM_SEGMENTS)
    ]
    return float(np.mean(np.sort(found)[:NUM_LOWEST_SEGMENTS]))


def _remove_broad_shape(print_: np.ndarray) -> np.ndarray:
    """What is left of a print without its broad shapes, each band centred [bands, t]."""
    from scipy.ndimage import uniform_filter1d

    across = print_ - uniform_filter1d(print_, SMOOTHING_BANDS, axis=0, mode="nearest")
    along = across - uniform_filter1d(across, SMOOTHING_FRAMES, axis=1, mode="nearest")
    return along - along.mean(1, keepdims=True)


@dataclass(frozen=True)
class PassageMatch:
    """A passage found: where in the clip and in which source, how long, the interval in cents, and its likeness."""

    similarity: float
    source: int
    clip_seconds: tuple[float, float]
    source_seconds: tuple[float, float]
    cents: float
    ratio: float
