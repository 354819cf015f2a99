"""Peak, clipping and silence: the only definitions in talim, used by `prepare`, the scores and the brief's checks.

Conventions: full scale is +-1; fractions are 0 to 1; all channels count. The thresholds were chosen on twelve real
recordings (singing, concerts, orchestra, studio mixes), on copies of them clipped by 1 to 12 dB (both sides or one;
at full scale, then turned down by 6 to 50 dB) or saturated softly, and on pure tones.
"""

from __future__ import annotations

import math

import numpy as np
from pydantic import BaseModel, ConfigDict

from talim.audio.audio import Audio
from talim.audio.loudness import LoudnessMeter

# Clipping. Three samples, because one is a peak and two may be. Within 0.1 % of the extreme, because rounding to
# 16 bits after a change of gain moves equal samples apart. The step, because the round top of a slow sine is flat
# over many samples too, but is entered more gently; and because in quiet 16-bit files every top is a few steps wide.
MIN_PLATEAU_SAMPLES = 3
PLATEAU_RATIO = 0.999
MIN_PLATEAU_STEP_RATIO = 0.005
MIN_PLATEAU_STEP = 2.5 / 32768

# Silence. 45 dB: of each piece tested 99 % of the frames between its pauses lie less than 39 dB under its loud frames,
# and the pauses and faded ends of the same files reach 55 dB and more. -70 dBFS is the absolute gate of BS.1770;
# -100 dBFS is what rounding to 16 bits leaves.
FRAME_SECONDS = 0.05
SILENCE_BELOW_LOUD_DB = 45.0
MIN_LOUD_DBFS = -70.0
DIGITAL_SILENCE_DBFS = -100.0
MAX_LOUD_BELOW_PEAK_DB = 30.0

_COUNTED_SAMPLES = 1 << 18  # at a time, to bound the memory of float64 copies


class RecordingLevels(BaseModel):
    """Levels of a recording as it was delivered: before resampling, mixing and cutting."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    rate_hz: int
    channels: int
    lufs: float | None  # integrated loudness, ITU-R BS.1770-4; None for silence
    peak_dbfs: float | None  # sample peak; None for digital silence
    clipped_fraction: float
    silent_fraction: float


class Extremes:
    """Largest and smallest sample of each channel, and their powers, of a sound that comes in blocks."""

    def __init__(self, channels: int) -> None:
        self.frames = 0
        self.highest, self.lowest = np.full(channels, -np.inf), np.full(channels, np.inf)
        self.power, self.mixed_power = np.zeros(channels), 0.0  # sums of squares; of the mean of the channels

    def add(self, samples: np.ndarray) -> None:
        """A further block float32 [C, n]."""
        if not samples.shape[1]:
            return
        self.frames += samples.shape[1]
        self.highest = np.maximum(self.highest, samples.max(axis=1))
        self.lowest = np.minimum(self.lowest, samples.min(axis=1))
        self.power += [float(np.vdot(channel, channel)) for channel in samples]
        mixed = samples.mean(axis=0, dtype=np.float32)
        self.mixed_power += float(np.vdot(mixed, mixed))

    @property
    def peak(self) -> float:
        """Largest absolute sample; 0 for none."""
        return float(max(self.highest.max(), -self.lowest.min())) if self.frames else 0.0


class LevelMeter:
    """The levels of a recording that comes in blocks, whose extremes are known from an earlier pass."""

    def __init__(self, rate_hz: int, extremes: Extremes) -> None:
        self._rate_hz, self._extremes = rate_hz, extremes
        self._channels = len(extremes.highest)
        self._loudness = LoudnessMeter(rate_hz, self._channels)
        self._frames = FrameLevelMeter(rate_hz, self._channels)
        self._clipping = _clipping_counters(extremes)

    def add(self, samples: np.ndarray) -> None:
        """Measure a further block float32 [C, n]."""
        self._loudness.add(samples)
        self._frames.add(samples)
        for counter in self._clipping:
            counter.add(samples)

    def levels(self) -> RecordingLevels:
        """The levels of all blocks, rounded for display."""
        frames, peak = self._extremes.frames, self._extremes.peak
        loudness = self._loudness.lufs()
        clipped = sum(counter.finish() for counter in self._clipping) / max(1, frames * self._channels)
        return RecordingLevels(
            seconds=round(frames / self._rate_hz, 3),
            rate_hz=self._rate_hz,
            channels=self._channels,
            lufs=round(loudness, 1) if math.isfinite(loudness) else None,
            peak_dbfs=round(20 * math.log10(peak), 1) if peak > 0 else None,
            clipped_fraction=round(clipped, 6),
            silent_fraction=round(float(silent_levels(self._frames.levels_dbfs()).mean()), 4),
        )


def measure_levels(audio: Audio) -> RecordingLevels:
    """The levels of a recording, rounded for display. ValueError for audio without samples."""
    _require_samples(audio)
    extremes = Extremes(audio.channels)
    extremes.add(audio.samples)
    meter = LevelMeter(audio.rate_hz, extremes)
    meter.add(audio.samples)
    return meter.levels()


def peak_dbfs(audio: Audio) -> float:
    """Sample peak over all channels in dB relative to full scale; -inf for digital silence."""
    return 20 * math.log10(audio.peak) if audio.peak > 0 else -math.inf


def clipped_fraction(audio: Audio) -> float:
    """Fraction of samples that lie on flat tops: three or more in a row within 0.1 % of their channel's extreme.

    Upper and lower side count apart. A flat top is entered or left by a step of more than 0.5 % of the extreme, and
    of more than 2.5 steps of 16 bits. Range 0 to 1, lower is better, 0 without clipping. A gain does not change it
    (down to peaks of about -36 dBFS in 16 bits, where small steps drown in rounding); it misses clipping that was
    resampled or coded lossily afterwards, which rounds the edges, and soft saturation. A clip's value above 1e-4 is
    audible distortion as a rule. ValueError for audio without samples. Source: own definition; on the recordings
    described above no false alarm, and 91 to 99 % of the samples that had been clipped were found.
    """
    _require_samples(audio)
    extremes = Extremes(audio.channels)
    extremes.add(audio.samples)
    counters = _clipping_counters(extremes)
    for counter in counters:
        counter.add(audio.samples)
    return sum(counter.finish() for counter in counters) / audio.samples.size


def _clipping_counters(extremes: Extremes) -> list[_ClippingCounter]:
    """A counter for the upper and the lower side of each channel that has one."""
    sides = [(1, float(value)) for value in extremes.highest], [(-1, -float(value)) for value in extremes.lowest]
    return [
        _ClippingCounter(channel, sign, extreme)
        for side in sides
        for channel, (sign, extreme) in enumerate(side)
        if extreme > 0
    ]


class _ClippingCounter:
    """Counts the samples on flat tops of one side of one channel; a flat top may reach over blocks."""

    def __init__(self, channel: int, sign: int, extreme: float) -> None:
        self._channel, self._sign, self._extreme = channel, sign, extreme
        self._min_step = max(MIN_PLATEAU_STEP_RATIO * extreme, MIN_PLATEAU_STEP)
        self._count, self._before = 0, math.nan  # the sample before the block
        self._open, self._open_step = 0, 0.0  # length of the flat top at the end, and the step into it

    def add(self, samples: np.ndarray) -> None:
        for start in range(0, samples.shape[1], _COUNTED_SAMPLES):
            self._add(self._sign * samples[self._channel, start : start + _COUNTED_SAMPLES].astype(np.float64))

    def _add(self, side: np.ndarray) -> None:
        edges = np.diff((side >= PLATEAU_RATIO * self._extreme).astype(np.int8), prepend=0, append=0)
        starts, stops = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1)
        if self._open and not (starts.size and starts[0] == 0):
            self._close(self._before - float(side[0]))
        # outside[n] precedes side[n]; a sound enters and leaves its first and last sample without a step
        outside = np.concatenate([[side[0] if math.isnan(self._before) else self._before], side, side[-1:]])
        lengths, into = stops - starts, side[starts] - outside[starts]
        out_of = side[stops - 1] - outside[stops + 1]
        if self._open and starts.size:
            lengths[0] += self._open
            into[0] = self._open_step
        self._open = 0
        if stops.size and stops[-1] == side.size:  # it may go on in the next block
            self._open, self._open_step = int(lengths[-1]), float(into[-1])
            lengths, into, out_of = lengths[:-1], into[:-1], out_of[:-1]
        clipped = (lengths >= MIN_PLATEAU_SAMPLES) & (np.maximum(into, out_of) > self._min_step)
        self._count += int(lengths[clipped].sum())
        self._before = float(side[-1])

    def _close(self, out_of: float) -> None:
        if self._open >= MIN_PLATEAU_SAMPLES and max(self._open_step, out_of) > self._min_step:
            self._count += self._open
        self._open = 0

    def finish(self) -> int:
        """The number of samples on flat tops."""
        if self._open:
            self._close(0.0)
        return self._count


def silent_frames(audio: Audio) -> np.ndarray:
    """Which frames of 50 ms are silent, bool [n]: the loudest channel lies 45 dB or more under the loud frames.

    Loud is the 95th percentile of the frames' RMS, or 30 dB under the highest frame where that is more, so that a
    short passage in a long silence counts as sound. Everything is silent if no frame is louder than -70 dBFS, and
    so is a frame under -100 dBFS. ValueError for audio without samples.
    """
    return silent_levels(frame_levels_dbfs(audio))


def silent_levels(level: np.ndarray) -> np.ndarray:
    """Which frames are silent, by their levels in dBFS [n] from `frame_levels_dbfs`; see `silent_frames`."""
    loud = max(float(np.quantile(level, 0.95)), float(level.max()) - MAX_LOUD_BELOW_PEAK_DB)
    if loud <= MIN_LOUD_DBFS:
        return np.ones(level.shape, bool)
    return level <= max(loud - SILENCE_BELOW_LOUD_DB, DIGITAL_SILENCE_DBFS)


def silent_fraction(audio: Audio) -> float:
    """Fraction of the frames of 50 ms that are silent, see `silent_frames`; range 0 to 1, compare with real music.

    A gain does not change it, unless it moves all frames under -70 dBFS: a quiet recording is not a silent one.
    ValueError for audio without samples. Source: own definition, a relative gate as in BS.1770 and EBU R 128.
    """
    return float(silent_frames(audio).mean())


def longest_silence_seconds(audio: Audio) -> float:
    """Duration of the longest run of silent frames in seconds. ValueError for audio without samples."""
    sounding = np.flatnonzero(np.concatenate([[True], ~silent_frames(audio), [True]]))
    return min(float((np.diff(sounding) - 1).max()) * FRAME_SECONDS, audio.seconds)


def frame_levels_dbfs(audio: Audio) -> np.ndarray:
    """RMS of the loudest channel around its mean in each frame of 50 ms in dBFS [n]; the last includes the remainder.

    Around the mean, because a constant voltage is no sound. -200 for digital silence. ValueError for audio without
    samples.
    """
    _require_samples(audio)
    meter = FrameLevelMeter(audio.rate_hz, audio.channels)
    meter.add(audio.samples)
    return meter.levels_dbfs()


class FrameLevelMeter:
    """`frame_levels_dbfs` of a sound that comes in blocks."""

    def __init__(self, rate_hz: int, channels: int) -> None:
        self._size = max(1, round(FRAME_SECONDS * rate_hz))
        self._rest = np.zeros((channels, 0), np.float32)
        self._sums: list[np.ndarray] = []  # [2, C, n]: of the samples, of their squares

    def add(self, samples: np.ndarray) -> None:
        """Measure a further block float32 [C, n]."""
        for start in range(0, samples.shape[1], _COUNTED_SAMPLES):
            part = np.concatenate([self._rest, samples[:, start : start + _COUNTED_SAMPLES]], axis=1)
            whole = part.shape[1] // self._size * self._size
            if whole:
                self._sums.append(_sums(part[:, :whole].reshape(len(part), -1, self._size)))
            self._rest = part[:, whole:]

    def levels_dbfs(self) -> np.ndarray:
        """The levels of what was added so far [n]."""
        rest = _sums(self._rest[:, None])
        sums = np.concatenate(self._sums, axis=2) if self._sums else np.zeros((*rest.shape[:2], 1))
        lengths = np.full(len(sums[0, 0]), self._size if self._sums else 0)
        sums[:, :, -1:] += rest
        lengths[-1] += self._rest.shape[1]
        mean, square = sums / np.maximum(lengths, 1)
        power = np.maximum(square - mean**2, 0).max(axis=0)
        if lengths[-1] < 2:  # a single sample has no mean but itself
            power[-1] = square[:, -1].max()
        return 10 * np.log10(power + 1e-20)


def _sums(frames: np.ndarray) -> np.ndarray:
    """Sums of samples and of their squares over the last axis of [C, n, size]: [2, C, n]."""
    wide = frames.astype(np.float64)
    return np.stack([wide.sum(axis=2), np.square(wide).sum(axis=2)])


def _require_samples(audio: Audio) -> None:
    if audio.frames == 0:
        raise ValueError("levels need sound: the clip has 0 samples")
