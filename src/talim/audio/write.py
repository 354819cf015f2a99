"""Write audio files atomically, with tags that `tags.read_tags` returns."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np

from talim.atomic_io import new_file
from talim.audio import credentials
from talim.audio.errors import AudioError
from talim.audio.provenance import GENERATED_TAG

_WRITABLE = {
    ".flac": ("FLAC", "PCM_16"),
    ".wav": ("WAV", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
# Fields that players show; all tags are also stored as JSON in the comment field.
_NATIVE_TAGS = ("title", "artist", "album", "date", "genre", "copyright", "license", "software")
# Their frames in MP3's ID3v2.4 tags; a licence has a frame for an address only.
_ID3_FRAMES: dict[str, str] = dict(
    zip(_NATIVE_TAGS, ["TIT2", "TPE1", "TALB", "TDRC", "TCON", "TCOP", "TXXX", "TSSE"], strict=True)
)
_MP3_QUALITY = {"bitrate_mode": "VARIABLE", "compression_level": 0.0}  # the best of LAME
_BLOCK_FRAMES = 1 << 16


class Signal(Protocol):
    """What `write` needs of audio (`Audio` has a method that calls it, so it cannot be imported here)."""

    @property
    def samples(self) -> np.ndarray: ...  # float32 [C, T]

    @property
    def rate_hz(self) -> int: ...


def write(path: str | Path, audio: Signal, tags: Mapping[str, str] | None = None) -> None:
    """Write .flac or .wav (16 bit), .ogg or .mp3 atomically; `read_tags` returns the same tags.

    Audio beyond full scale is attenuated as a whole, never clipped. AudioError for other suffixes and samples that are
    not finite, TalimError for files that cannot be written.
    """
    samples = audio.samples
    peak = float(np.abs(samples).max(initial=0.0))
    _write(Path(path), lambda: iter([samples]), audio.rate_hz, samples.shape[0], tags or {}, peak)


def write_blocks(
    path: str | Path,
    blocks: Callable[[], Iterator[np.ndarray]],
    rate_hz: int,
    channels: int,
    tags: Mapping[str, str] | None = None,
    overwrite: bool = True,
    begun: Callable[[Path], None] | None = None,
) -> None:
    """As `write`, for sound in blocks float32 [C, n]; memory does not depend on its length.

    `blocks` gives them from the beginning whenever it is called: twice for sound beyond full scale. Without
    `overwrite`, FileTakenError if there is a file at `path` when all is written. `begun` is told the unfinished file's
    name: each block is in that file as soon as it is given.
    """
    _write(Path(path), blocks, rate_hz, channels, tags or {}, 0.0, overwrite, begun)


def _write(
    path: Path,
    blocks: Callable[[], Iterator[np.ndarray]],
    rate_hz: int,
    channels: int,
    tags: Mapping[str, str],
    peak: float,
    overwrite: bool = True,
    begun: Callable[[Path], None] | None = None,
) -> None:
    """`peak` is what is known of the sound's."""
    suffix = path.suffix.lower()
    if suffix not in _WRITABLE:
        raise AudioError(f"{path}: cannot write {path.suffix or 'a file without a suffix'}; use .flac or .wav")
    certificate = credentials.certificate_in_use() if tags.get(GENERATED_TAG) else None
    if certificate is not None and suffix not in credentials.FORMATS:
        raise AudioError(f"{path}: {suffix} cannot hold content credentials; use .flac, .wav or .mp3")
    try:
        with new_file(path, overwrite) as temporary:
            if begun is not None:
                begun(temporary)
            found = _encode(temporary, suffix, blocks(), rate_hz, channels, tags, peak)
            if found > max(1.0, peak):
                _encode(temporary, suffix, blocks(), rate_hz, channels, tags, found)
            if certificate is not None:
                credentials.sign(temporary, suffix, tags, certificate)
    except _NotFiniteError:
        reason = "the sound holds samples that are not numbers (NaN or infinite)"
        raise AudioError(f"{path}: not written: {reason}") from None


class _NotFiniteError(Exception):
    """A block holds a sample that is no number."""


def _encode(
    path: Path,
    suffix: str,
    blocks: Iterable[np.ndarray],
    rate_hz: int,
    channels: int,
    tags: Mapping[str, str],
    peak: float,
) -> float:
    """Write the blocks, attenuated so that `peak` fits; returns their true peak."""
    import soundfile

    container, subtype = _WRITABLE[suffix]
    found = 0.0
    with path.open("w+b") as opened:
        comment = json.dumps(dict(tags), ensure_ascii=suffix == ".wav", sort_keys=True)
        fields = {name: text for name in _NATIVE_TAGS if (text := tags.get(name, "").replace("\0", ""))}
        if suffix == ".mp3" and tags:
            opened.write(_id3_tag(fields, comment))
        sink: Any = _Sink(opened)  # soundfile's annotations know no file-like objects
        try:
            quality: Any = _MP3_QUALITY if suffix == ".mp3" else {}
            with soundfile.SoundFile(sink, "w", rate_hz, channels, subtype, format=container, **quality) as file:
                if tags and suffix in (".flac", ".ogg"):
                    for name in _NATIVE_TAGS:
                        if name in fields:
                            setattr(file, name, fields[name])
                    file.comment = comment
                for block in _short(blocks):
                    found = max(found, _peak(block))
                    file.write(_samples(block / max(1.0, peak), suffix))
                    sink.flush()
                    sink.check()
        except soundfile.LibsndfileError as error:
            sink.check()
            detail = f"{channels} channels at {rate_hz} Hz"
            raise AudioError(f"cannot write {detail} as {container}: {error}; resample, or use .flac") from error
        sink.check()
        if suffix == ".wav" and tags:
            add_wav_comment(opened, comment)
    return found


def _short(blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The same sound in blocks that the Vorbis encoder takes: one huge one overflows it."""
    for block in blocks:
        for start in range(0, block.shape[1], _BLOCK_FRAMES):
            yield block[:, start : start + _BLOCK_FRAMES]


def _peak(block: np.ndarray) -> float:
    peak = float(np.abs(block).max(initial=0.0))
    if not np.isfinite(peak):
        raise _NotFiniteError
    return peak


def _samples(block: np.ndarray, suffix: str) -> np.ndarray:
    """The block [C, n] as libsndfile takes it, [n, C]; where that is exact, as the 16-bit numbers of the file."""
    if suffix in (".flac", ".wav"):
        # Rounding k / 32768 reads back as exactly the same float, so hashes survive a round trip.
        block = np.clip(np.rint(block * 32768.0), -32768, 32767).astype(np.int16)
    return np.ascontiguousarray(block.T)


class _Sink:
    """A file from where it is at, for libsndfile, which swallows errors: they are kept until `check`."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._start = file, file.tell()
        self._error: OSError | None = None
        self.read = file.read

    def tell(self) -> int:
        return self._file.tell() - self._start

    def write(self, data: bytes) -> int:
        try:
            return self._file.write(data)
        except OSError as error:
            self._error = error
            return len(data)  # libsndfile goes on, and the file is given up by `check`

    def seek(self, offset: int, whence: int = 0) -> int:
        try:
            start = self._start if whence == 0 else 0
            return self._file.seek(start + offset, whence) - self._start  # writes what is buffered
        except OSError as error:
            self._error = error
            return 0

    def flush(self) -> None:
        """Let whoever reads the file see what is there of it."""
        try:
            self._file.flush()
        except OSError as error:
            self._error = error

    def check(self) -> None:
        """The OSError that there was."""
        if self._error is not None:
            raise self._error


def _id3_tag(fields: Mapping[str, str], comment: str) -> bytes:
    """An ID3v2.4 tag in UTF-8 of an MP3 file (libsndfile writes UTF-8 that it calls Latin-1, and not all fields)."""
    bodies = [(_ID3_FRAMES[name], f"{name}\0{text}" if name == "license" else text) for name, text in fields.items()]
    frames = b""
    for frame, text in [*bodies, ("COMM", f"eng\0{comment}")]:
        body = text.encode("utf-8", "replace")
        frames += frame.encode() + _id3_size(len(body) + 1) + b"\0\0\3" + body
    return b"ID3\4\0\0" + _id3_size(len(frames)) + frames


def _id3_size(count: int) -> bytes:
    """A size as ID3v2.4 has it: 7 bits in each of four bytes."""
    return bytes(count >> shift & 0x7F for shift in (21, 14, 7, 0))


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
