"""Where the sound of an MP4 or QuickTime file begins and ends, by its edit list, sample durations and iTunes tag.

FFmpeg leaves out what lies before the first edit, an encoder's priming among it. It gives the last frame of each edit
whole, and no silence for an empty first edit; both are told from the time stamps of packets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from av import Packet

FORMATS = frozenset({"mov", "mp4", "m4a", "3gp", "3g2"})  # FFmpeg has one demuxer for them
MAX_DELAY_SECONDS = 60.0  # of an empty first edit that becomes silence
HELD_FRAMES = 1 << 14  # samples that may still be cut from the end; no codec pads that much
_COARSE_SECONDS = 1 / 8000  # time stamps in larger steps cannot cut sound
_ROUNDING_SECONDS = 1e-3  # edits are as long as the movie's clock counts, usually in milliseconds
_CODEC_FRAMES = 2  # of padding at the end of a file, at most


class Mp4Span:
    """Collects what packets say; all times are seconds from the beginning of the file as a player counts them."""

    def __init__(self, stated_seconds: float | None, unit_seconds: float, itunes_tag: str = "") -> None:
        """`stated_seconds` is the length with all edits, `unit_seconds` that of a time stamp's unit."""
        self._stated, self._unit = stated_seconds, unit_seconds
        self._tag = itunes_tag.split()
        self._first: float | None = None
        self._end = 0.0
        self.joins = False  # whether the next frame begins another edit
        self._joined = False  # whether any but the first did

    def add(self, packet: Packet) -> None:
        """A packet, before it is decoded."""
        if packet.pts is None:
            return
        start = packet.pts * self._unit
        if self._first is None:
            self._first = start
        elif packet.is_discard:
            self.joins = True
        self._end = max(self._end, start + (packet.duration or 0) * self._unit)

    def delay_seconds(self, frame: Any) -> float:
        """The silence before the first frame: an empty first edit, as a player waits it out."""
        if self._first is None or self._first <= 0 or frame.pts is None:
            return 0.0
        return max(0.0, float(frame.pts * frame.time_base))

    def join_excess(self, frame: Any, frames: int, rate_hz: int) -> int:
        """How many of `frames` samples lie behind the start of a frame that begins another edit; 0 for other frames."""
        if not self.joins or frame.pts is None:
            return 0
        self.joins, self._joined = False, frames > 0
        return self._within(frames - round(float(frame.pts * frame.time_base) * rate_hz), frame.samples)

    def end_excess(self, frames: int, rate_hz: int, frame_samples: int) -> int:
        """How many of `frames` samples are padding behind the stated end; 0 where it is not known to a sample."""
        end = self._end  # to the sample, but FFmpeg gives the last packet of a later edit a wrong length
        if self._stated is not None and (self._joined or end > self._stated + _ROUNDING_SECONDS):
            end = self._stated
        excess = [frames - round(end * rate_hz)] if self._unit <= _COARSE_SECONDS and self._end else []
        if len(self._tag) > 3:
            excess.append(frames - self._tagged_frames())
        return max((self._within(value, frame_samples) for value in excess), default=0)

    def _tagged_frames(self) -> int:
        """The length in the tag iTunSMPB, whose fields are hexadecimal: 0, priming, padding, length."""
        try:
            return int(self._tag[3], 16)
        except ValueError:
            return 0

    def _within(self, excess: int, frame_samples: int) -> int:
        return excess if 0 < excess <= min(_CODEC_FRAMES * frame_samples, HELD_FRAMES) else 0
