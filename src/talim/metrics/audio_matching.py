"""Search for a passage of one recording in others, also if it was shifted, stretched, filtered or re-encoded.

Conventions: a fingerprint is the log power [BINS, n] of bands a quarter tone wide, one column every 20 ms; a pitch
shift moves it along the bands, a stretch along time, and a filter adds a constant to each band. A passage is as long as
it lasts in the source; a ratio is the length in the clip over the length in the source.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from talim.audio.load_librosa import load_librosa
from talim.metrics.array_store import ArrayStore
from talim.progress import Progress, counted

VERSION = 2  # raise it with every change of `audio_fingerprint`: it is part of the cache key
RATE_HZ = 16000
HOP_SECONDS = 0.02
FRAME = 2048  # samples, 128 ms
LOWEST_HZ = 180.0
BINS_PER_OCTAVE = 24
BINS = 111  # up to 4.3 kHz, below the cut-off of low bit rates
FLOOR = 1e-3  # of the mean power: quieter than that is coding noise
PASSAGE_SECONDS = 4.0
MAX_SHIFT_BINS = 7  # 350 cents up and down
COARSE_FRAMES = 5  # frames in a column of the coarse search
START_COLUMNS = 4  # coarse columns between two passages of the clip
RATIOS = tuple(np.exp(np.linspace(np.log(0.8), np.log(1.25), 12)))
MIN_CLIP_SECONDS = PASSAGE_SECONDS * 0.8  # a passage that was played faster; a source needs all of PASSAGE_SECONDS
PCA_COMPONENTS = 192  # of the space of the coarse comparison
PCA_FIT_PASSAGES = 800  # passages that the components are fitted to
SHORTLIST = 12
MIN_CANDIDATE_GAP_SECONDS = 0.6  # between two candidates of one source
STEP_FRAMES = 2  # every second frame is enough for the alignment
SMOOTHING_BANDS, SMOOTHING_FRAMES = 13, 25  # half an octave and half a second: slower is timbre and phrasing
NUM_SEGMENTS, NUM_LOWEST_SEGMENTS = 8, 3
_SPECTRA = 4096  # spectra that are held at a time
_COLUMNS = 4096  # coarse columns that are computed at a time
_MAX_SCORES = 5_000_000  # of a clip's passages with those of a block, held at a time
_BLOCK_PASSAGES = 4096  # of the sources, read at a time: 3 MB
BATCH_PASSAGES = 1000  # passages copied at a time
CENTS_PER_BIN = 1200 / BINS_PER_OCTAVE
Start = tuple[float, float, int]  # of a passage in the clip: frame, ratio, shift in bins


@dataclass(frozen=True)
class ReferenceAudio:
    """Index of source fingerprints: all P passages on PCA components, and where each one begins.

    What is large of it lies in temporary files: about 70 MB per hour of sound.
    """

    prints: ArrayStore  # one per source, float16 [BINS, frames]
    axes: np.ndarray  # float32 [bands * columns, PCA_COMPONENTS]
    passages: ArrayStore  # float32 [PCA_COMPONENTS, n], blocks of all P passages, each of norm 1
    owner: np.ndarray  # [P]
    start_frames: np.ndarray  # [P]


@dataclass(frozen=True)
class PassageMatch:
    """A passage: its times in the clip and in a source, pitch shift in cents, length ratio and similarity."""

    similarity: float
    source: int
    clip_seconds: tuple[float, float]
    source_seconds: tuple[float, float]
    cents: float
    ratio: float


def audio_fingerprint(samples: np.ndarray) -> np.ndarray:
    """The fingerprint of `samples` [T] at 16 kHz: float16 [BINS, frames], natural log of power over its mean.

    ValueError for samples that are not one finite, non-empty channel.
    """
    samples = np.asarray(samples, np.float32)
    if samples.ndim != 1 or samples.size == 0 or not np.isfinite(samples).all():
        raise ValueError(
            f"a fingerprint needs one non-empty channel of finite samples, not an array of shape {samples.shape}"
        )
    return audio_fingerprint_of_blocks([samples])


def audio_fingerprint_of_blocks(blocks: Iterable[np.ndarray]) -> np.ndarray:
    """`audio_fingerprint` of a sound that comes in blocks float32 [n] at 16 kHz, which are not held in memory."""
    hop, size = round(HOP_SECONDS * RATE_HZ), 0
    rest, parts = np.zeros(FRAME // 2, np.float32), [np.zeros((BINS, 0), np.float32)]
    for block in blocks:
        size += block.size
        for first in range(0, block.size, _SPECTRA * hop):
            rest = np.concatenate([rest, block[first : first + _SPECTRA * hop]])
            rest = _add_spectra(rest, parts)
    _add_spectra(np.pad(rest, (0, FRAME // 2 + max(0, FRAME - size))), parts)
    total = sum(float(part.sum(dtype=np.float64)) for part in parts)
    mean = max(total / sum(part.size for part in parts), 1e-12)
    prints = []
    while parts:  # each part is given up once it is converted
        prints.append(np.log(FLOOR + parts.pop(0) / mean).astype(np.float16))
    return np.concatenate(prints, axis=1)


def _add_spectra(samples: np.ndarray, parts: list[np.ndarray]) -> np.ndarray:
    """Append the band powers of all whole frames; the samples from the first frame that is not whole."""
    librosa = load_librosa()

    hop = round(HOP_SECONDS * RATE_HZ)
    count = max(0, 1 + (samples.size - FRAME) // hop)
    if count:
        whole = samples[: (count - 1) * hop + FRAME]
        spectrum = librosa.stft(whole, n_fft=FRAME, hop_length=hop, center=False)
        parts.append(_bands() @ (np.abs(spectrum) ** 2))
    return samples[count * hop :]


@cache
def _bands() -> np.ndarray:
    """Triangular bands a quarter tone or one FFT bin wide, [BINS, FFT bins]; each sums to 1."""
    middles = (LOWEST_HZ * 2 ** (np.arange(BINS) / BINS_PER_OCTAVE))[:, None]
    lines = np.arange(FRAME // 2 + 1) * RATE_HZ / FRAME
    widths = np.maximum(middles * (2 ** (1 / BINS_PER_OCTAVE) - 1), RATE_HZ / FRAME)
    bands = np.maximum(0.0, 1 - np.abs(lines - middles) / widths)
    return (bands / bands.sum(1, keepdims=True)).astype(np.float32)


def build_reference_audio(
    prints: Iterable[np.ndarray], seed: int = 0, progress: Progress | None = None
) -> ReferenceAudio:
    """Index source fingerprints, of which one is held at a time; those shorter than a passage are skipped.

    The PCA is fitted to some of the passages, drawn by `seed`.
    """
    columns = round(PASSAGE_SECONDS / HOP_SECONDS) // COARSE_FRAMES
    stored = ArrayStore(prints)
    counts = [max(0, stored.shape(n)[1] // COARSE_FRAMES - columns + 1) for n in range(len(stored))]
    total = sum(counts)
    size = (BINS - 2 * MAX_SHIFT_BINS) * columns
    if not total:
        no_passages = np.zeros(0, int)
        return ReferenceAudio(stored, np.zeros((size, 1), np.float32), ArrayStore(), no_passages, no_passages)
    drawn = np.random.default_rng(seed).choice(total, min(total, PCA_FIT_PASSAGES), replace=False)
    firsts = np.concatenate([[0], np.cumsum(counts)])
    drawn_of = [drawn[(drawn >= first) & (drawn < first + n)] - first for first, n in zip(firsts, counts, strict=False)]
    fitted_parts = [
        _unit(_source_passages(p, columns)[some]) for p, some in zip(stored, drawn_of, strict=True) if some.size
    ]
    fitted = np.concatenate(fitted_parts)
    power, vectors = np.linalg.eigh(fitted @ fitted.T)
    largest = np.argsort(power)[::-1][:PCA_COMPONENTS]
    axes = (fitted.T @ (vectors[:, largest] / np.sqrt(np.maximum(power[largest], 1e-6)))).astype(np.float32)
    shown = counted(stored, len(stored), progress or Progress(), "indexing what copies are looked for in")
    passages = ArrayStore(_blocks(shown, columns, axes))
    owner = np.repeat(np.arange(len(counts)), counts)
    start_frames = np.concatenate([np.arange(n) * COARSE_FRAMES for n in counts])
    return ReferenceAudio(stored, axes, passages, owner, start_frames)


def _source_passages(fingerprint: np.ndarray, columns: int) -> np.ndarray:
    """All passages of a source, without the bands that a shift takes from the clip."""
    return _passages(_coarse(fingerprint, 1.0)[MAX_SHIFT_BINS : BINS - MAX_SHIFT_BINS], columns, 1)


def _blocks(prints: Iterable[np.ndarray], columns: int, axes: np.ndarray) -> Iterator[np.ndarray]:
    """The passages of all sources on the PCA components, float32 [PCA_COMPONENTS, n], in blocks."""
    waiting: list[np.ndarray] = []
    for fingerprint in prints:
        every = _source_passages(fingerprint, columns)
        for begin in range(0, len(every), BATCH_PASSAGES):
            waiting.append(_projected(every[begin : begin + BATCH_PASSAGES], axes))
            if sum(map(len, waiting)) >= _BLOCK_PASSAGES:
                yield np.concatenate(waiting).T
                waiting = []
    if waiting:
        yield np.concatenate(waiting).T


def _coarse(fingerprint: np.ndarray, ratio: float) -> np.ndarray:
    """Means over columns of `ratio` times 0.1 s, float32 [BINS, columns]; of many columns some at a time."""
    edges = np.arange(0, fingerprint.shape[1] + 1e-6, COARSE_FRAMES * ratio)
    parts = [np.zeros((len(fingerprint), 0), np.float32)]
    for first in range(0, len(edges) - 1, _COLUMNS):
        some = edges[first : first + _COLUMNS + 1]
        start, stop = int(some[0]), int(some[-1]) + 1
        sums = np.cumsum(fingerprint[:, start:stop], axis=1, dtype=np.float64)
        sums = np.concatenate([np.zeros((len(fingerprint), 1)), sums], axis=1)
        means = np.diff(_interpolate_at(sums, some - start), axis=1) / (COARSE_FRAMES * ratio)
        parts.append(means.astype(np.float32))
    return np.concatenate(parts, axis=1)


def _interpolate_at(rows: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Values of `rows` [b, n] at fractional `times` [...] in frames, between their neighbours: [b, ...]."""
    times = np.clip(times, 0, rows.shape[1] - 1)
    before = np.minimum(times.astype(int), max(0, rows.shape[1] - 2))
    part = (times - before).astype(rows.dtype)
    return rows[:, before] * (1 - part) + rows[:, np.minimum(before + 1, rows.shape[1] - 1)] * part


def _passages(coarse: np.ndarray, columns: int, step: int) -> np.ndarray:
    """All passages of a coarse fingerprint, every `step` columns, a view [p, bands, columns]."""
    if coarse.shape[1] < columns:
        return np.zeros((0, len(coarse), columns), np.float32)
    windows = np.lib.stride_tricks.sliding_window_view(coarse, columns, axis=1)
    return windows[:, ::step].transpose(1, 0, 2)


def _projected(passages: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """Passages on the PCA components, norm 1; in batches, because copies of an hour's passages need much memory."""
    firsts = range(0, len(passages), BATCH_PASSAGES)
    parts = [_unit_rows(_flat(passages[first : first + BATCH_PASSAGES]) @ axes) for first in firsts]
    return np.concatenate([np.zeros((0, axes.shape[1]), np.float32), *parts])


def _flat(passages: np.ndarray) -> np.ndarray:
    count, bands, columns = passages.shape
    return np.ascontiguousarray(passages).reshape(count, bands * columns)  # -1 fails for no passages


def _unit(passages: np.ndarray) -> np.ndarray:
    """Each passage minus the mean of each band, which filters, drones and gain change; of norm 1 [p, d]."""
    return _unit_rows(_flat(passages - passages.mean(2, keepdims=True)))


def _unit_rows(rows: np.ndarray) -> np.ndarray:
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-6)


def find_audio_match(
    fingerprint: np.ndarray, sources: ReferenceAudio, exclude: Sequence[int] = ()
) -> PassageMatch | None:
    """The passage of a fingerprint [BINS, frames] most similar to one of the sources; None if there is none to compare.

    Sources `exclude` are skipped: those of the recording that the clip itself was cut from. The similarity is at
    most 1, see `similarity`; compare it with that of unrelated recordings.
    """
    fingerprint = np.asarray(fingerprint, np.float32)
    highest = np.full(sources.owner.size, -2.0, np.float32)
    row = np.zeros(sources.owner.size, int)
    begins: list[Start] = []
    for rows, starts in _variants(fingerprint, sources):
        end = 0
        for passages in sources.passages:
            begin, end = end, end + passages.shape[1]
            step = max(1, _MAX_SCORES // passages.shape[1])
            for first in range(0, len(rows), step):
                scores = rows[first : first + step] @ passages
                values = scores.max(0)  # where each highest one is, which takes longer, is asked of few of them
                better = np.flatnonzero(values > highest[begin:end])
                highest[begin + better] = values[better]
                row[begin + better] = scores[:, better].argmax(0) + first + len(begins)
        begins += starts
    if not begins:
        return None
    highest[np.isin(sources.owner, np.asarray(exclude, int))] = -2
    aligned = [_aligned(fingerprint, sources, begins[row[n]], n) for n in _peaks(highest, sources)]
    return max(aligned, key=lambda match: match.similarity, default=None)


def _variants(fingerprint: np.ndarray, sources: ReferenceAudio) -> Iterator[tuple[np.ndarray, list[Start]]]:
    """Passages of a clip at each ratio and shift on the PCA components, and where each begins."""
    columns = round(PASSAGE_SECONDS / HOP_SECONDS) // COARSE_FRAMES
    for ratio in RATIOS:
        passages = _passages(_coarse(fingerprint, ratio), columns, START_COLUMNS)
        if not len(passages) or not sources.owner.size:
            continue
        starts = np.arange(len(passages)) * START_COLUMNS * COARSE_FRAMES * ratio
        rows, begins = [], []
        for bins in range(-MAX_SHIFT_BINS, MAX_SHIFT_BINS + 1):
            shifted = passages[:, MAX_SHIFT_BINS + bins : BINS - MAX_SHIFT_BINS + bins]
            rows.append(_projected(shifted, sources.axes))
            begins += [(float(start), float(ratio), bins) for start in starts]
        yield np.concatenate(rows), begins


def _peaks(value: np.ndarray, sources: ReferenceAudio) -> list[int]:
    """Indices of the highest values, those of one source at least 0.6 s apart; overwrites `value`."""
    peaks: list[int] = []
    while len(peaks) < SHORTLIST and value.size and value.max() > -1:
        peak = int(value.argmax())
        peaks.append(peak)
        gaps = np.abs(sources.start_frames - sources.start_frames[peak]) * HOP_SECONDS
        value[(sources.owner == sources.owner[peak]) & (gaps < MIN_CANDIDATE_GAP_SECONDS)] = -2
    return peaks


def _aligned(fingerprint: np.ndarray, sources: ReferenceAudio, begin: Start, passage: int) -> PassageMatch:
    """The best alignment near a coarse one: ratio to 0.5 %, offset to a frame, shift to a tenth of a bin."""
    frames = round(PASSAGE_SECONDS / HOP_SECONDS)
    source, first = int(sources.owner[passage]), int(sources.start_frames[passage])
    target = sources.prints[source][MAX_SHIFT_BINS : BINS - MAX_SHIFT_BINS, first : first + frames].astype(np.float32)
    steps = np.arange(0, frames, STEP_FRAMES) - frames / 2  # ratios are about the middle
    coarse_target = target[:, ::STEP_FRAMES]
    centre, ratio, bins = begin[0] + frames / 2 * begin[1], begin[1], float(begin[2])
    for stretches, offsets, shifts in (
        ((0.976, 0.988, 1, 1.012, 1.024), (-4, -2, 0, 2, 4), (0.0,)),
        ((1,), (0,), (-0.75, -0.5, -0.25, 0.0, 0.25, 0.5, 0.75)),
        ((0.994, 1, 1.006), (-1, 0, 1), (-0.1, 0.0, 0.1)),
    ):
        candidates = [(centre + offset, ratio * stretch) for stretch in stretches for offset in offsets]
        times = np.stack([c + steps * r for c, r in candidates])
        warped = [_warp_fingerprint(fingerprint, times, bins + shift) for shift in shifts]
        scores = np.stack([_correlation(each, coarse_target) for each in warped])
        shift, best = np.unravel_index(scores.argmax(), scores.shape)
        (centre, ratio), bins = candidates[int(best)], bins + shifts[int(shift)]
    times = centre + (np.arange(frames) - frames / 2) * ratio
    start = (centre - frames / 2 * ratio) * HOP_SECONDS
    clip_seconds = (max(0.0, start), start + PASSAGE_SECONDS * ratio)
    source_seconds = (first * HOP_SECONDS, first * HOP_SECONDS + PASSAGE_SECONDS)
    score = similarity(_warp_fingerprint(fingerprint, times[None], bins)[:, 0], target)
    return PassageMatch(score, source, clip_seconds, source_seconds, bins * CENTS_PER_BIN, ratio)


def _warp_fingerprint(fingerprint: np.ndarray, times: np.ndarray, bins: float) -> np.ndarray:
    """A fingerprint at `times` [n, t] in frames, shifted down by `bins` bands."""
    bands = np.clip(np.arange(MAX_SHIFT_BINS, BINS - MAX_SHIFT_BINS) + bins, 0, BINS - 1)
    below = np.minimum(bands.astype(int), BINS - 2)
    part = (bands - below).astype(np.float32)[:, None]
    rows = fingerprint[below] * (1 - part) + fingerprint[below + 1] * part
    return _interpolate_at(rows, times)


def _correlation(warped: np.ndarray, target: np.ndarray) -> np.ndarray:
    """Correlation of each of `warped` [bands, n, t] with `target` [bands, t], each band centred: [n]."""
    target = target - target.mean(1, keepdims=True)
    warped = warped - warped.mean(2, keepdims=True)
    scale = np.sqrt((warped**2).sum((0, 2)) * (target**2).sum())
    return np.tensordot(target, warped, ((0, 1), (0, 2))) / np.maximum(scale, 1e-6)


def similarity(warped: np.ndarray, target: np.ndarray) -> float:
    """Similarity of two aligned fingerprints [bands, t] in their least similar segments, [-1, 1].

    What all music of a kind shares is removed first: the mean over 13 bands in each frame (timbre) and over half a
    second in each band (drones, filters, phrasing). The result is the mean of the three lowest correlations of the
    eight segments of half a second: unrelated recordings may share a bar, a copy is similar throughout.
    """
    warped, target = _remove_broad_shape(warped), _remove_broad_shape(target)
    size = target.shape[1] // NUM_SEGMENTS
    parts = [slice(n * size, (n + 1) * size) for n in range(NUM_SEGMENTS)]
    correlations = [float(_correlation(warped[:, None, part], target[:, part])[0]) for part in parts]
    return float(np.mean(np.sort(correlations)[:NUM_LOWEST_SEGMENTS]))


def _remove_broad_shape(fingerprint: np.ndarray) -> np.ndarray:
    """A fingerprint minus its moving averages over bands and time, each band centred [bands, t]."""
    from scipy.ndimage import uniform_filter1d

    across = fingerprint - uniform_filter1d(fingerprint, SMOOTHING_BANDS, axis=0, mode="nearest")
    along = across - uniform_filter1d(across, SMOOTHING_FRAMES, axis=1, mode="nearest")
    return along - along.mean(1, keepdims=True)
