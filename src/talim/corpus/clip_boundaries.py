"""Cut a recording into clips: find where it sounds, skip silence, divide the rest."""

from __future__ import annotations

import numpy as np

from talim.audio import Audio

MIN_CLIP_SECONDS = 1.0
_FRAME_SECONDS = 0.05
_SILENCE_DB = -70.0  # nothing louder in the whole file: it is silent
_SILENCE_BELOW_LOUD_DB = 45.0  # quieter than the loud passages by this much: silence
_SKIPPED_SILENCE_SECONDS = 2.0  # shorter pauses are part of the music
_MARGIN_SECONDS = 0.1  # kept around what sounds, so that attacks and decays are whole


def active_regions(audio: Audio) -> list[tuple[int, int]]:
    """Stretches [start, stop) in samples that sound; silences of 2 s and longer lie between them.

    Silence is 45 dB below the loud passages (95th percentile of 50 ms frames), at least -70 dBFS.
    """
    frame = max(1, round(_FRAME_SECONDS * audio.rate_hz))
    count = -(-audio.frames // frame)
    if count == 0:
        return []
    power = np.zeros(count)
    for channel in audio.samples:
        padded = np.zeros(count * frame, dtype=np.float32)
        padded[: audio.frames] = channel
        power = np.maximum(power, np.mean(np.square(padded.reshape(count, frame)), axis=1, dtype=np.float64))
    level_db = 10 * np.log10(power + 1e-20)
    loud_db = float(np.percentile(level_db, 95))
    loud_db = max(loud_db, float(level_db.max()) - 30.0)  # a short sound in a long silence is still a sound
    if loud_db <= _SILENCE_DB:
        return []
    sounds = np.flatnonzero(level_db > max(_SILENCE_DB, loud_db - _SILENCE_BELOW_LOUD_DB))
    breaks = np.flatnonzero(np.diff(sounds) * _FRAME_SECONDS > _SKIPPED_SILENCE_SECONDS)
    margin = round(_MARGIN_SECONDS * audio.rate_hz)
    starts = sounds[np.concatenate([[0], breaks + 1])] * frame - margin
    stops = (sounds[np.concatenate([breaks, [len(sounds) - 1]])] + 1) * frame + margin
    return [(max(0, int(a)), min(audio.frames, int(b))) for a, b in zip(starts, stops, strict=True)]


def clip_boundaries(
    stretches: list[tuple[int, int]], rate_hz: int, clip_seconds: float
) -> list[tuple[int, int]]:
    """Clips [start, stop) in samples: each stretch divided evenly, a rest of at least 1 s is kept."""
    length, shortest = round(clip_seconds * rate_hz), round(MIN_CLIP_SECONDS * rate_hz)
    points = []
    for start, stop in stretches:
        for at in range(start, stop, length):
            end = min(at + length, stop)
            if end - at >= shortest:
                points.append((at, end))
    return points


def conform_audio(audio: Audio, rate_hz: int, channels: int) -> tuple[Audio, list[str]]:
    """The sound at the corpus's rate and channels, within full scale; and notes on what had to be done."""
    notes = []
    if audio.peak > 1.001:
        excess_db = 20 * np.log10(audio.peak)
        notes.append(f"peaks {excess_db:.1f} dB above full scale; turned down as a whole")
    mixed = audio.to_channels(channels)
    if channels == 1 < audio.channels:
        powers = [float(np.vdot(channel, channel)) for channel in audio.samples]
        if float(np.vdot(mixed.samples, mixed.samples)) < 0.01 * max(powers):
            loudest = int(np.argmax(powers))
            mixed = Audio(audio.samples[loudest], audio.rate_hz)
            notes.append(f"its channels cancel each other out; only channel {loudest + 1} is used")
    fitted = mixed.resample(rate_hz)
    too_loud = fitted.peak > 1.0  # resampling may overshoot where the source just fits
    return (Audio(fitted.samples / fitted.peak, rate_hz) if too_loud else fitted), notes
