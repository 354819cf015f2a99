"""Container formats: whether a file is truncated, what length it states, hidden sound, and WAV comments."""

from __future__ import annotations

import io
import mmap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import BinaryIO, Literal, NamedTuple

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


def _riff_chunks(file: BinaryIO, size: int, order: ByteOrder = "little") -> Iterator[tuple[bytes, int, int]]:
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
    for name, at, length in _riff_chunks(file, size):
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
        for name, at, length in _riff_chunks(file, size, order):
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


def add_wav_comment(file: BinaryIO, comment: str) -> None:
    """Add a LIST INFO chunk after the audio of a WAV file (libsndfile truncates long comments)."""
    body = comment.encode("ascii", "backslashreplace") + b"\0"
    body += b"\0" * (len(body) % 2)
    info = b"INFOICMT" + len(body).to_bytes(4, "little") + body
    size = file.seek(0, 2)
    file.write(b"\0" * (size % 2) + b"LIST" + len(info).to_bytes(4, "little") + info)
    size = file.tell()
    file.seek(4)
    file.write((size - 8).to_bytes(4, "little"))


def wav_comment(path: Path) -> str | None:
    """The comment (ICMT) of a WAV file; None if it has none or is no WAV file."""
    with path.open("rb") as file:
        start = file.read(12)
        if start[:4] != b"RIFF" or start[8:] != b"WAVE":
            return None
        size = file.seek(0, 2)
        for name, at, length in _riff_chunks(file, size):
            if name != b"LIST":
                continue
            file.seek(at)
            info = file.read(length)
            offset = info.find(b"ICMT")
            if info[:4] == b"INFO" and offset >= 0:
                count = int.from_bytes(info[offset + 4 : offset + 8], "little")
                return info[offset + 8 : offset + 8 + count].rstrip(b"\0").decode("utf-8", "replace")
    return None
