"""A look-ahead peak limiter: FFmpeg's `alimiter` at four times the sampling rate, for the peaks between samples."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from talim.audio.audio import Audio

OVERSAMPLING = 4
ATTACK_MS, RELEASE_MS = 5, 50


def limit_peaks(clip: Audio, ceiling_db: float, *, periodic: bool = False) -> Audio:
    """The audio with no peak, between samples either, above `ceiling_db` dBFS; quieter passages are unchanged.

    Gain is reduced 5 ms ahead of a peak and recovers within 50 ms. `periodic`: the clip is a loop, and its beginning
    is limited as what follows its end. The length and the sampling rate stay. A clip without such peaks is returned as
    it is. Source: the `alimiter` filter of FFmpeg; oversampling as in ITU-R BS.1770-4, annex 2.
    """
    ceiling = 10 ** (ceiling_db / 20)
    rate_hz = clip.rate_hz * OVERSAMPLING
    around = min(clip.frames, clip.rate_hz) if periodic else 0
    samples = clip.samples
    if around:
        samples = np.concatenate([samples[:, -around:], samples, samples[:, :around]], axis=1)
    fine = Audio(samples, clip.rate_hz).resample(rate_hz)
    if clip.frames == 0 or fine.peak <= ceiling:
        return clip
    # The filter multiplies all channels by one gain. Only that gain is taken to the lower rate, so that what is not
    # limited stays as it is, to the bit.
    gain = _gain(fine.samples, _alimiter(fine.samples, rate_hz, ceiling))
    limited = clip.samples * gain[::OVERSAMPLING][around : around + clip.frames]
    # Between two values of the gain a peak may stay too high by some hundredths of a dB.
    return Audio(limited * np.float32(min(1.0, ceiling / max(float(np.abs(limited).max()), 1e-9))), clip.rate_hz)


def _gain(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The gain [T] that leads from samples [C, T] to others, from the loudest channel; interpolated through silence."""
    loudest = np.abs(before).argmax(axis=0)[None]
    loud, limited = (np.take_along_axis(x, loudest, axis=0)[0] for x in (before, after))
    at = np.flatnonzero(np.abs(loud) > 1e-4)
    frames = np.arange(loud.size)
    return np.interp(frames, at, np.minimum(limited[at] / loud[at], 1.0)).astype(np.float32)


def _alimiter(samples: np.ndarray, rate_hz: int, ceiling: float) -> np.ndarray:
    """Samples [C, T] float32 through FFmpeg's filter, with its latency removed."""
    import av
    from av.filter import Graph

    layout = {1: "mono", 2: "stereo"}.get(samples.shape[0], f"{samples.shape[0]} channels")
    graph = Graph()
    source = graph.add_abuffer(format="fltp", sample_rate=rate_hz, layout=layout, time_base=Fraction(1, rate_hz))
    settings = {"limit": f"{ceiling:.6f}", "attack": str(ATTACK_MS), "release": str(RELEASE_MS)}
    limiter = graph.add("alimiter", **settings, level="0", latency="1")
    form = graph.add("aformat", sample_fmts="fltp")
    sink = graph.add("abuffersink")
    source.link_to(limiter)
    limiter.link_to(form)
    form.link_to(sink)
    graph.configure()
    frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples, dtype=np.float32), format="fltp", layout=layout)
    frame.sample_rate, frame.time_base, frame.pts = rate_hz, Fraction(1, rate_hz), 0
    graph.push(frame)
    graph.push(None)
    parts = []
    while True:
        try:
            parts.append(graph.pull().to_ndarray())
        except (BlockingIOError, EOFError):
            break
    return np.concatenate(parts, axis=1)[:, : samples.shape[1]]
