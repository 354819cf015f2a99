"""A recording at the corpus's rate and channels, on disk while its clips are cut: memory does not follow its length."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from talim.audio import Audio, AudioError
from talim.audio.audio import Resampler
from talim.audio.levels import Extremes, FrameLevelMeter, LevelMeter, RecordingLevels
from talim.corpus.recordings import AudioSource

_HELD_SAMPLES = 16_000_000  # shorter sounds stay in memory and are decoded once
_SPOOL_BYTES = 64_000_000  # a resampled sound beyond this goes to disk
_BLOCK_FRAMES = 1 << 19


class ResampledSound:
    """The sound of a recording at `rate_hz` in `channels`, within full scale; use it as a context manager.

    Two passes over the source: the first finds peaks and whether channels cancel out, the second measures levels and
    resamples. `notes` says what was changed or is incomplete; `levels` are those of the source; `frame_levels_dbfs` are
    those of this sound. `on_progress` is told the seconds of source that are done, and in which of the two passes.
    """

    def __init__(
        self,
        source: AudioSource,
        rate_hz: int,
        channels: int,
        folder: Path,
        on_progress: Callable[[float, int], None] = lambda seconds, number: None,
    ) -> None:
        self.rate_hz, self.channels = rate_hz, channels
        self.notes: list[str] = []
        self.frames = 0
        blocks = _Blocks(source, self.notes)
        extremes, source_rate_hz = _measure_extremes(blocks, on_progress)
        self.source_seconds = extremes.frames / source_rate_hz
        mix = self._mixing(extremes)
        meter = LevelMeter(source_rate_hz, extremes)
        converted = Extremes(channels)
        frame_levels = FrameLevelMeter(rate_hz, channels)
        resampler = Resampler(source_rate_hz, rate_hz, channels)
        folder.mkdir(parents=True, exist_ok=True)
        self._file = tempfile.SpooledTemporaryFile(_SPOOL_BYTES, dir=str(folder), prefix=".", suffix=".part")  # noqa: SIM115
        try:
            for samples in _resampled(blocks, mix, resampler, meter, on_progress):
                converted.add(samples)
                frame_levels.add(samples)
                self._file.write(np.ascontiguousarray(samples.T, dtype="<f4").data)
                self.frames += samples.shape[1]
        except BaseException:
            self._file.close()
            raise
        self.levels: RecordingLevels = meter.levels()
        peak = converted.peak  # resampling may overshoot even where the source fits
        self._gain = 1 / peak if peak > 1 else 1.0
        self.frame_levels_dbfs = frame_levels.levels_dbfs() + 20 * np.log10(self._gain)  # [n], frames of 50 ms

    def _mixing(self, extremes: Extremes) -> Callable[[Audio], Audio]:
        """How channels become those of the corpus; notes what is unusual."""
        if extremes.peak > 1.001:
            self.notes.append(f"peaks {20 * np.log10(extremes.peak):.1f} dB above full scale; attenuated as a whole")
        if self.channels == 1 < len(extremes.power) and extremes.mixed_power < 0.01 * extremes.power.max():
            loudest = int(np.argmax(extremes.power))
            self.notes.append(f"its channels cancel each other out; only channel {loudest + 1} is used")
            return lambda audio: Audio(audio.samples[loudest], audio.rate_hz)
        return lambda audio: audio.to_channels(self.channels)

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate_hz

    def cut(self, start: int, stop: int) -> Audio:
        """The samples [start, stop)."""
        size = 4 * self.channels
        self._file.seek(start * size)
        samples = np.frombuffer(self._file.read((stop - start) * size), "<f4").reshape(-1, self.channels).T
        return Audio(samples * np.float32(self._gain) if self._gain != 1 else samples, self.rate_hz)

    def blocks(self) -> Iterator[Audio]:
        """The whole sound in blocks."""
        for start in range(0, self.frames, _BLOCK_FRAMES):
            yield self.cut(start, min(start + _BLOCK_FRAMES, self.frames))

    def __enter__(self) -> ResampledSound:
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()


class _Blocks:
    """The blocks of a source, as often as needed; a short one is decoded once."""

    def __init__(self, source: AudioSource, remarks: list[str]) -> None:
        self._source, self._remarks = source, remarks
        self._held: list[Audio] | None = []

    def first_pass(self) -> Iterator[Audio]:
        samples = 0
        for block in self._source.blocks(self._remarks):
            samples += block.samples.size
            if self._held is not None:
                self._held.append(block)
            if samples > _HELD_SAMPLES:
                self._held = None
            yield block

    def again(self) -> Iterator[Audio]:
        return iter(self._held) if self._held is not None else self._source.blocks([])


def _measure_extremes(blocks: _Blocks, on_progress: Callable[[float, int], None]) -> tuple[Extremes, int]:
    extremes, rate_hz = None, 0
    for block in blocks.first_pass():
        extremes, rate_hz = extremes or Extremes(block.channels), block.rate_hz
        extremes.add(block.samples)
        on_progress(extremes.frames / rate_hz, 1)
    if extremes is None or not extremes.frames:
        raise AudioError("empty: it holds 0 seconds of sound")
    return extremes, rate_hz


def _resampled(
    blocks: _Blocks,
    mix: Callable[[Audio], Audio],
    resampler: Resampler,
    meter: LevelMeter,
    on_progress: Callable[[float, int], None],
) -> Iterator[np.ndarray]:
    """The mixed and resampled blocks; the source's blocks are measured on the way."""
    seconds = 0.0
    for block in blocks.again():
        meter.add(block.samples)
        yield resampler.add(mix(block).samples)
        seconds += block.seconds
        on_progress(seconds, 2)
    yield resampler.finish()
