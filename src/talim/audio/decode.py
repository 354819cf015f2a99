"""Decode sound files in blocks: PCM containers by libsndfile, everything else by FFmpeg (PyAV).

The stream is the truth: what decodes is used, whatever length the container states. The second part reads containers
themselves: whether a file is truncated, what length it states, and sound that is hidden behind its stated end.
"""

from __future__ import annotations

import io
import mmap
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, NamedTuple, cast

import numpy as np

from talim.audio.audio import Audio
from talim.audio.errors import AudioError
from talim.audio.mp4_span import FORMATS, HELD_FRAMES, MAX_DELAY_SECONDS, Mp4Span
from talim.path_suggestions import did_you_mean

if TYPE_CHECKING:
    from av import AudioFrame, AudioResampler, Packet
    from av.audio.stream import AudioStream
    from av.container import InputContainer

MIN_RATE_HZ, MAX_RATE_HZ = 1000, 1_000_000
MOMENT_SECONDS = 0.5  # a difference between stated and decoded length that is not worth a word
MIN_BYTES_PER_SECOND = 50  # of silence in the densest coding: a header that states more is not believed
_BLOCK_SAMPLES = 1 << 20  # over all channels
# Sound and film only: playlists and scripts, which name other files, are not in it.
_FORMATS = (
    "mp3,aac,mov,mp4,matroska,webm,ogg,flac,wav,aiff,au,caf,amr,amrnb,amrwb,asf,xwma,avi,flv,w64,ac3,eac3,dts,dtshd,"
    "tta,wv,ape,mpc,mpc8,mpegts,mpeg,voc,oma,dsf,loas,truehd,tak,ircam,nistsphere,sox,rm,aea,wsaud,gsm,avr,bit,g722"
)
_STATES_LENGTH = {"mov", "mp4", "matroska", "webm", "flac", "asf", "caf", "aiff", "tta", "wv", "ape", "flv", "avi"}
_PROTECTED_CODECS = {"drms", "enca", "aavd", "p608"}
ByteOrder = Literal["little", "big"]
# first four bytes of the formats that libsndfile reads exactly and in every sample format
PCM_CONTAINERS = (b"RIFF", b"RIFX", b"RF64", b"riff", b"FORM", b".snd")
# sizes that programs write when they do not know the length yet
_STREAMED_SIZES = (0, 0x7FFFFFFF, 0xFFFFFFFF)
_MIN_HIDDEN_BYTES = 4000  # shorter rests are tags and filling
_TAIL_BYTES = 1 << 17  # an Ogg page has at most 65307 bytes
_MP3_BITRATES_KBPS = {
    "mpeg1": (0, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    "mpeg2": (0, 8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}
_MP3_RATES_HZ = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}


def decode_blocks(path: Path, remarks: list[str] | None = None) -> Iterator[Audio]:
    """The sound of a file in blocks of about a million samples, all of one rate and channel count.

    What is worth telling (it breaks off, its header states another length) is added to `remarks` at the end; without
    `remarks` a file that is damaged or breaks off is an error. AudioError, with file and reason, for what is no
    regular file, holds no sound, samples that are not finite, or a rate outside 1 kHz to 1 MHz.
    """
    _require_regular_file(path)
    try:
        yield from _checked_blocks(path, _Remarks(path, remarks))
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror or error}") from error


def _checked_blocks(path: Path, notes: _Remarks) -> Iterator[Audio]:
    """The blocks, of a sensible rate and finite."""
    frames, bad, total = 0, 0, 0
    decoder = _libsndfile_blocks if _is_pcm_container(path) else _ffmpeg_blocks
    for audio in decoder(path, notes):
        if not frames and not MIN_RATE_HZ <= audio.rate_hz <= MAX_RATE_HZ:
            raise AudioError(
                f"{path}: its header states {audio.rate_hz} samples a second; sound has {MIN_RATE_HZ} to {MAX_RATE_HZ}"
            )
        frames += audio.frames
        total += audio.samples.size
        bad += audio.samples.size - int(np.isfinite(audio.samples).sum())
        if not bad:
            yield audio
    if not frames:
        raise AudioError(f"{path}: empty: it holds 0 seconds of sound")
    if bad:
        raise AudioError(f"{path}: {bad} of {total} samples are not numbers (NaN or infinite)")


class _Remarks:
    """Where remarks on a file go; without a list, incomplete sound is an error."""

    def __init__(self, path: Path, texts: list[str] | None) -> None:
        self.path, self._texts = path, texts

    def note(self, text: str) -> None:
        if self._texts is not None:
            self._texts.append(text)

    def incomplete(self, text: str) -> None:
        if self._texts is None:
            raise AudioError(f"{self.path}: truncated or damaged: {text}; export it again")
        self._texts.append(f"incomplete: {text}; what is there is used")

    def compare_lengths(self, seconds: float, stated: float | None) -> None:
        """Say so where the stream is shorter or longer than stated."""
        if stated is None or abs(seconds - stated) <= MOMENT_SECONDS:
            return
        if seconds < stated:
            self.incomplete(f"{seconds:.1f} of {stated:.1f} seconds are there")
        else:
            self.note(f"its header states {stated:.1f} seconds, {seconds:.1f} are there; all of it is used")


def _require_regular_file(path: Path) -> None:
    try:
        status = path.stat()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise AudioError(f"{path}: cannot be read: {reason}{did_you_mean(path)}") from error
    if stat.S_ISDIR(status.st_mode):
        raise AudioError(f"{path}: is a folder, expected a sound file")
    if not stat.S_ISREG(status.st_mode):
        raise AudioError(f"{path}: is a device, pipe or socket, expected a sound file")
    if status.st_size == 0:
        raise AudioError(f"{path}: empty: the file has 0 bytes")


def _is_pcm_container(path: Path) -> bool:
    """Whether it begins like a format that libsndfile reads exactly and in every sample format."""
    with open_file(path) as file:
        return file.read(4) in PCM_CONTAINERS


def open_file(path: Path) -> BinaryIO:
    """The file opened for reading; AudioError where that is not possible."""
    try:
        return path.open("rb")
    except OSError as error:
        raise AudioError(f"{path}: cannot be read: {error.strerror or error}") from error


def _libsndfile_blocks(path: Path, notes: _Remarks) -> Iterator[Audio]:
    """Blocks of a PCM container; by FFmpeg where libsndfile does not know what is in it."""
    import soundfile

    hidden = hidden_sound(path)
    with PatchedFile(path, hidden.patches) if hidden else open_file(path) as source:
        try:
            # an open file, as names need not be valid text
            opened: Any = source if hidden else source.fileno()
            file = soundfile.SoundFile(opened, closefd=False)
        except (soundfile.LibsndfileError, OSError, ValueError, TypeError):
            yield from _ffmpeg_blocks(path, notes)
            return
        with file:
            frames, problem = 0, ""
            block_frames = max(1, _BLOCK_SAMPLES // file.channels)
            while True:
                try:
                    block = file.read(block_frames, dtype="float32", always_2d=True)
                except soundfile.LibsndfileError as error:
                    problem = f"decoding stopped with an error ({error})"
                    break
                if not len(block):
                    break
                frames += len(block)
                yield Audio(block.T, file.samplerate)
            rate_hz, stated_frames = file.samplerate, file.frames
    seconds = frames / rate_hz
    if hidden and seconds - hidden.stated_fraction * seconds > MOMENT_SECONDS:
        notes.compare_lengths(seconds, hidden.stated_fraction * seconds)
    if not frames:
        return
    if reason := problem or truncation_reason(path):
        notes.incomplete(f"after {seconds:.1f} seconds {reason}")
    elif stated_frames < 1 << 62:
        notes.compare_lengths(seconds, stated_frames / rate_hz)


def _ffmpeg_blocks(path: Path, notes: _Remarks) -> Iterator[Audio]:
    """Blocks of the first sound track, with its edits where it has any sound in them."""
    blocks = _Collector(path)
    yield from _decoded(path, notes, blocks, {})
    if not blocks.frames and blocks.span and not blocks.stopped:
        notes.note("its edit list leaves nothing of the sound; all that is recorded is used")
        blocks = _Collector(path)
        yield from _decoded(path, notes, blocks, {"ignore_editlist": "1"})
    _tell(path, notes, blocks)


def _decoded(path: Path, notes: _Remarks, blocks: _Collector, options: dict[str, str]) -> Iterator[Audio]:
    """What the demuxer gives with these options; how it went is left in `blocks`."""
    import av.error

    try:
        with open_file(path) as file, open_container(path, file, options) as container:
            stream = _sound_track(path, container, notes)
            blocks.stated = _stated_seconds(path, container, stream)
            blocks.span = _mp4_span(container, stream)
            for packet in container.demux(stream):
                blocks.decode(packet)
                if blocks.samples >= _BLOCK_SAMPLES:
                    yield from blocks.take(HELD_FRAMES)
    except (av.error.FFmpegError, OSError, ValueError, MemoryError) as error:
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        if not blocks.frames:
            raise AudioError(f"{path}: not audio, or cut off before the sound begins: {reason}") from error
        blocks.stopped = f"decoding stopped with an error ({reason})"
        blocks.stated = None
    blocks.cut_padding()
    yield from blocks.take()


def _tell(path: Path, notes: _Remarks, blocks: _Collector) -> None:
    """Remarks on what was decoded; AudioError where that is nothing, or no sound."""
    if not blocks.frames:
        raise AudioError(f"{path}: not audio, or empty: no sound could be decoded from it")
    if blocks.damaged > blocks.decoded:
        raise AudioError(f"{path}: damaged or not audio: {blocks.damaged} of its {blocks.packets} pieces do not decode")
    seconds, stated = blocks.frames / blocks.rate_hz, blocks.stated
    if blocks.delay_seconds > MAX_DELAY_SECONDS:
        notes.note(f"begins {blocks.delay_seconds:.0f} s late by its edit list; the wait is left out")
        stated = None  # FFmpeg's account of such files
    if blocks.stopped:
        notes.incomplete(f"after {seconds:.1f} seconds {blocks.stopped}")
    elif stated is not None and seconds < stated - MOMENT_SECONDS:
        notes.compare_lengths(seconds, stated)
    elif reason := truncation_reason(path):
        notes.incomplete(f"after {seconds:.1f} seconds {reason}")
    elif blocks.damaged:
        notes.incomplete(f"{blocks.damaged} of its {blocks.packets} pieces do not decode")
    else:
        notes.compare_lengths(seconds, stated)


def open_container(path: Path, file: BinaryIO, options: Mapping[str, str] | None = None) -> InputContainer:
    """The file opened by FFmpeg, which guesses no format that names other files."""
    import av

    container = av.open(_name_or_file(path, file), options={"format_whitelist": _FORMATS, **(options or {})})
    return cast("InputContainer", container)  # opened for reading


def _name_or_file(path: Path, file: BinaryIO) -> Any:
    """The name, which FFmpeg takes as a hint; the open file where the name is no valid text."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return SimpleNamespace(read=file.read, seek=file.seek, tell=file.tell)
    return f"file:{path}"


def _sound_track(path: Path, container: InputContainer, notes: _Remarks) -> AudioStream:
    if not container.streams.audio:
        raise AudioError(f"{path}: not audio: the file has no sound track")
    stream = container.streams.audio[0]
    context = getattr(stream, "codec_context", None)
    tag = str(getattr(context, "codec_tag", "")).strip("\0")
    if tag in _PROTECTED_CODECS or (context is None and _names_protection(path)):
        raise AudioError(f"{path}: protected (DRM): only its shop's own player can open it; use an unprotected copy")
    if context is None:
        raise AudioError(f"{path}: its sound has an unknown coding; export it as WAV or FLAC")
    if len(container.streams.audio) > 1:
        notes.note(f"holds {len(container.streams.audio)} sound tracks; only the first one is used")
    return stream


def _names_protection(path: Path) -> bool:
    """Whether the tables of an MP4 file, at its start or its end, name a protected coding."""
    with open_file(path) as file:
        head = file.read(1 << 20)
        file.seek(max(0, path.stat().st_size - (1 << 20)))
        tables = head + file.read()
    return any(name.encode() in tables for name in _PROTECTED_CODECS)


def _stated_seconds(path: Path, container: InputContainer, stream: AudioStream) -> float | None:
    """The length that the header states; None where there is none, or only an estimate of the demuxer."""
    names = {*container.format.name.split(",")}
    if "mp3" in names:
        return mp3_stated_seconds(path)
    if not names & _STATES_LENGTH:
        return None
    if stream.duration and stream.time_base:
        return float(stream.duration * stream.time_base)
    if len(container.streams) > 1 or not container.duration:
        return None  # a film may be longer than its sound
    return container.duration / 1e6


def _mp4_span(container: InputContainer, stream: AudioStream) -> Mp4Span | None:
    """What tells the beginning and the end of the sound of an MP4 file; None for other formats."""
    if not {*container.format.name.split(",")} & FORMATS or not stream.time_base:
        return None
    unit = float(stream.time_base)
    stated = stream.duration * unit if stream.duration else None
    return Mp4Span(stated, unit, container.metadata.get("iTunSMPB", ""))


class _Collector:
    """Decoded packets as float32 [C, n] of the first frame's rate and channels; damaged packets are counted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.rate_hz, self.frames, self.samples = 0, 0, 0
        self.packets, self.decoded, self.damaged = 0, 0, 0
        self.stopped = ""
        self.stated: float | None = None  # seconds by the header
        self.span: Mp4Span | None = None
        self.delay_seconds = 0.0  # of silence that comes first
        self._frame_samples = 0  # of the last frame
        self._pieces: list[np.ndarray] = []
        self._resampler: AudioResampler | None = None
        self._layout: Any = None
        self._source: tuple[Any, ...] = ()

    def decode(self, packet: Packet) -> None:
        import av.error

        self.packets += packet.size > 0
        if self.span is not None:
            self.span.add(packet)
        try:
            frames = packet.decode()
        except (av.error.FFmpegError, ValueError):
            self.damaged += packet.size > 0
            return
        self.decoded += packet.size > 0
        for frame in frames:
            self._add(frame)

    def _add(self, frame: AudioFrame) -> None:
        import av

        if not frame.samples:
            return
        source = (frame.format.name, frame.layout.name, frame.layout.nb_channels, frame.sample_rate)
        if source != self._source:  # the first frame, or another stream joined to it
            if not self.rate_hz:
                self.rate_hz, self._layout = frame.sample_rate, frame.layout
            self._source = source
            self._resampler = av.AudioResampler("fltp", self._layout, self.rate_hz)
        assert self._resampler is not None
        if self.span is not None:
            self._place(frame, self.span)
        frame.pts = None  # gaps in the time stamps are no sound
        for part in self._resampler.resample(frame):
            samples = part.to_ndarray()
            self._pieces.append(samples)
            self.frames += samples.shape[1]
            self.samples += samples.size

    def _place(self, frame: AudioFrame, span: Mp4Span) -> None:
        """Begin with the silence of an empty edit, and cut what an edit before this frame has too much."""
        if not self.frames:
            self.delay_seconds = span.delay_seconds(frame)
            if self.delay_seconds <= MAX_DELAY_SECONDS:
                silence = np.zeros((self._layout.nb_channels, round(self.delay_seconds * self.rate_hz)), np.float32)
                self._pieces, self.frames, self.samples = [silence], silence.shape[1], silence.size
        self._cut(span.join_excess(frame, self.frames, self.rate_hz))
        self._frame_samples = frame.samples

    def cut_padding(self) -> None:
        """Cut what an encoder has padded at the end, once everything is decoded."""
        if self.span is not None and self.frames and not (self.damaged or self.stopped):
            late = self.delay_seconds if self.delay_seconds > MAX_DELAY_SECONDS else 0.0
            frames = self.frames + round(late * self.rate_hz)
            self._cut(self.span.end_excess(frames, self.rate_hz, self._frame_samples))

    def _cut(self, excess: int) -> None:
        if excess:
            samples = np.concatenate(self._pieces, axis=1)[:, :-excess]
            self._pieces, self.samples = [samples], samples.size
            self.frames -= excess

    def take(self, held_frames: int = 0) -> Iterator[Audio]:
        """All samples but the last `held_frames`, if there are any."""
        if self.samples:
            samples = np.concatenate(self._pieces, axis=1)
            ready = max(0, samples.shape[1] - held_frames)
            self._pieces = [samples[:, ready:]]
            self.samples = self._pieces[0].size
            if ready:
                yield Audio(samples[:, :ready], self.rate_hz)


def length_by_header(path: Path) -> float | None:
    """Seconds that the header states, nothing being decoded; None where it states none, or more than the file can hold.

    AudioError for what is no regular file.
    """
    import av.error
    import soundfile

    _require_regular_file(path)
    try:
        if _is_pcm_container(path):
            with open_file(path) as file, soundfile.SoundFile(file.fileno(), closefd=False) as sound:
                seconds = sound.frames / sound.samplerate
        else:
            with open_file(path) as file, open_container(path, file) as container:
                tracks = container.streams.audio
                seconds = _stated_seconds(path, container, tracks[0]) if tracks else None
    except (soundfile.LibsndfileError, av.error.FFmpegError, AudioError, OSError, ValueError):
        return None  # decoding tells what is wrong with it
    return seconds if seconds and path.stat().st_size >= MIN_BYTES_PER_SECOND * seconds else None


def stated_seconds(path: Path) -> float:
    """The length by the header or the demuxer's estimate, for progress only; 0 where unknown."""
    import av
    import av.error

    try:
        with open_file(path) as file, open_container(path, file) as container:
            return (container.duration or 0) / 1e6
    except (av.error.FFmpegError, AudioError, OSError, ValueError):
        return 0.0


def truncation_reason(path: Path) -> str | None:
    """Why the file is certainly truncated (its last chunk, page or frame is incomplete), or None.

    Decoders accept such WAV, Ogg and MP3 files without an error.
    """
    with path.open("rb") as file:
        start = file.read(12)
        size = file.seek(0, 2)
        if start[:4] == b"RIFF" and start[8:] == b"WAVE":
            return _riff_truncation(file, size)
        if start[:4] == b"OggS":
            return _ogg_truncation(file, size)
        if start[:3] == b"ID3" or (start[0] == 0xFF and start[1:2] >= b"\xe0" and path.suffix.lower() == ".mp3"):
            return _mp3_truncation(file, size)
    return None


def riff_chunks(file: BinaryIO, size: int, order: ByteOrder = "little") -> Iterator[tuple[bytes, int, int]]:
    """(name, offset of its data, declared bytes) of every chunk of a RIFF or AIFF file, reading headers only."""
    at = 12
    while at + 8 <= size:
        file.seek(at)
        header = file.read(8)
        length = int.from_bytes(header[4:], order)
        yield header[:4], at + 8, length
        if header[:4] == b"data" and length in _STREAMED_SIZES:
            return
        at += 8 + length + length % 2


def _riff_truncation(file: BinaryIO, size: int) -> str | None:
    for name, at, length in riff_chunks(file, size):
        if name == b"data" and length not in _STREAMED_SIZES and at + length > size:
            return f"its header promises {length} bytes of sound, {max(0, size - at)} are there"
    return None


class HiddenSound(NamedTuple):
    """Sound that lies behind the stated end of a PCM file: bytes by offset that state its true length."""

    patches: dict[int, bytes]
    stated_fraction: float  # of all the sound


def hidden_sound(path: Path) -> HiddenSound | None:
    """What a WAV, AIFF or AU file holds behind the end that its header states, if that is sound and no other chunk."""
    with path.open("rb") as file:
        start = file.read(12)
        size = file.seek(0, 2)
        if start[:4] == b".snd" and len(start) == 12:
            offset, length = (int.from_bytes(start[at : at + 4], "big") for at in (4, 8))
            return _hidden(file, size, offset, length, {}, 8, "big")
        order: ByteOrder
        if (start[:4], start[8:]) == (b"RIFF", b"WAVE"):
            order, wanted, skipped = "little", b"data", 0
        elif start[:4] == b"FORM" and start[8:] in (b"AIFF", b"AIFC"):
            order, wanted, skipped = "big", b"SSND", 8
        else:
            return None
        for name, at, length in riff_chunks(file, size, order):
            if name == wanted and length not in _STREAMED_SIZES:
                return _hidden(file, size, at + skipped, length - skipped, {4: (size - 8)}, at - 4, order, skipped)
    return None


def _hidden(
    file: BinaryIO,
    size: int,
    at: int,
    length: int,
    sizes: Mapping[int, int],
    field: int,
    order: ByteOrder,
    skipped: int = 0,
) -> HiddenSound | None:
    stop = at + length + length % 2
    file.seek(min(stop, size))
    rest = file.read(1 << 16)
    if length <= 0 or size - stop < _MIN_HIDDEN_BYTES or _is_chunk(rest, size - stop, order) or _is_text_or_zero(rest):
        return None
    values = {**sizes, field: size - at + skipped}
    patches = {offset: min(value, 0xFFFFFFFE).to_bytes(4, order) for offset, value in values.items()}
    return HiddenSound(patches, length / (size - at))


def _is_chunk(rest: bytes, left: int, order: ByteOrder) -> bool:
    """Whether a further chunk of the container begins here."""
    length = int.from_bytes(rest[4:8], order)
    return all(32 <= byte < 127 for byte in rest[:4]) and length <= left


def _is_text_or_zero(rest: bytes) -> bool:
    """Whether it is a text (a web page, a tag) or filling."""
    plain = sum(byte in b"\t\n\r" or 32 <= byte < 127 for byte in rest)
    return not any(rest) or plain > 0.9 * len(rest) or rest[:3] in (b"ID3", b"TAG")


class PatchedFile(io.RawIOBase):
    """A file read as if other bytes stood at some offsets."""

    def __init__(self, path: Path, patches: Mapping[int, bytes]) -> None:
        super().__init__()
        self._file, self._patches = path.open("rb"), dict(patches)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readinto(self, buffer: memoryview) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        at = self._file.tell()
        data = bytearray(self._file.read(len(buffer)))
        for offset, patch in self._patches.items():
            for place, byte in enumerate(patch, offset - at):
                if 0 <= place < len(data):
                    data[place] = byte
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def _ogg_truncation(file: BinaryIO, size: int) -> str | None:
    file.seek(max(0, size - _TAIL_BYTES))
    tail = file.read()
    at = tail.rfind(b"OggS")
    page = tail[at:]
    if at < 0:
        return None  # damaged rather than truncated; the decoder reports it
    segments = page[26] if len(page) > 26 else 0
    table = page[27 : 27 + segments]
    if len(page) <= 26 or len(table) < segments or len(page) < 27 + segments + sum(table):
        return "the last Ogg page breaks off in the middle"
    return None


def mp3_stated_seconds(path: Path) -> float | None:
    """The length that an MP3 file's Xing, Info or VBRI header states; None if it states none or is no MP3 file."""
    with path.open("rb") as file:
        file.seek(_mp3_first_frame_offset(file))
        first = file.read(256)
    if len(first) < 4 or _mp3_frame_bytes(first[:4]) is None:
        return None
    frames = 0
    for name, flags, field in ((b"Xing", 7, 8), (b"Info", 7, 8), (b"VBRI", None, 14)):
        at = first.find(name)
        if at >= 0 and (flags is None or (first[at + flags : at + flags + 1] and first[at + flags] & 1)):
            frames = int.from_bytes(first[at + field : at + field + 4], "big")
    version, rate = (first[1] >> 3) & 3, (first[2] >> 2) & 3
    return frames * (1152 if version == 3 else 576) / _MP3_RATES_HZ[version][rate] if frames else None


def _mp3_first_frame_offset(file: BinaryIO) -> int:
    """Offset of the first frame of an MP3 file: after its ID3 tag."""
    file.seek(0)
    head = file.read(10)
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + sum((byte & 0x7F) << shift for byte, shift in zip(head[6:], (21, 14, 7, 0), strict=True))


def _mp3_truncation(file: BinaryIO, size: int) -> str | None:
    """Walks the frames: if the last one reaches past the end of the file, the rest was lost."""
    at = _mp3_first_frame_offset(file)
    if at > size:
        return "the file ends inside its ID3 tag"
    frames = 0
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while at + 4 <= size:
            length = _mp3_frame_bytes(data[at : at + 4])
            if length is None:
                return None  # tags at the end, or not plain layer III: left to the decoder
            at += length
            frames += 1
    if frames > 1 and at > size:
        return "its last frame breaks off, so the end is missing"
    return None


def _mp3_frame_bytes(header: bytes) -> int | None:
    """Length in bytes of the MPEG layer III frame with this 4-byte header; None if it is no such header."""
    version, layer = (header[1] >> 3) & 3, (header[1] >> 1) & 3
    bitrate, rate = header[2] >> 4, (header[2] >> 2) & 3
    if header[0] != 0xFF or header[1] < 0xE0 or version == 1 or layer != 1 or bitrate in (0, 15) or rate == 3:
        return None
    kbps = _MP3_BITRATES_KBPS["mpeg1" if version == 3 else "mpeg2"][bitrate]
    coefficient = 144000 if version == 3 else 72000
    return coefficient * kbps // _MP3_RATES_HZ[version][rate] + ((header[2] >> 1) & 1)
