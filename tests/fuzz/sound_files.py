"""Makes hundreds of sound files with every fault that was thought of, each drawn by a seed.

A file is a format (container, coding, rate, channels) with a fault: cut, lying header, garbage, wrong ending.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import soundfile

Rng = np.random.Generator
SOUNDFILE_FORMATS = (
    ("wav", "WAV", "PCM_16"), ("wav", "WAV", "PCM_24"), ("wav", "WAV", "PCM_U8"), ("wav", "WAV", "FLOAT"),
    ("wav", "WAV", "ULAW"), ("wav", "WAV", "IMA_ADPCM"), ("wav", "WAVEX", "PCM_16"), ("w64", "W64", "PCM_16"),
    ("rf64", "RF64", "PCM_16"), ("aiff", "AIFF", "PCM_16"), ("au", "AU", "PCM_16"), ("caf", "CAF", "PCM_16"),
    ("flac", "FLAC", "PCM_16"), ("ogg", "OGG", "VORBIS"), ("opus", "OGG", "OPUS"), ("mp3", "MP3", "MPEG_LAYER_III"),
)  # fmt: skip
FFMPEG_FORMATS = (
    ("m4a", "mp4", "aac"), ("mka", "matroska", "libopus"), ("mkv", "matroska", "aac"), ("webm", "webm", "libopus"),
    ("aac", "adts", "aac"), ("mov", "mov", "pcm_s16le"), ("m4a", "mp4", "alac"), ("3gp", "3gp", "aac"),
)  # fmt: skip
RATES_HZ = (8000, 11025, 16000, 22050, 44100, 48000)
ODD_RATES_HZ = (1, 8, 999, 1000, 4321, 12345, 192000, 2**31 - 1)


def samples_of(rng: Rng, rate_hz: int, channels: int, seconds: float) -> np.ndarray:
    """A gliding tone with noise, float32 [T, C]; another for each draw."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    tone = np.sin(2 * np.pi * (rng.uniform(100, 800) * time + 3 * np.sin(rng.uniform(1, 4) * time)))
    sound = 0.3 * tone[:, None] + 0.05 * rng.normal(size=(time.size, channels))
    return np.clip(sound, -1, 1).astype(np.float32)


def encode(rng: Rng, number: int) -> tuple[str, bytes]:
    """(ending, bytes) of a good file in one of the formats in turn."""
    formats = [*SOUNDFILE_FORMATS, *FFMPEG_FORMATS]
    ending, container, coding = formats[number % len(formats)]
    rate_hz, channels = int(rng.choice(RATES_HZ)), int(rng.choice([1, 1, 2]))
    if coding in ("OPUS", "libopus"):
        rate_hz = 48000
    seconds = float(rng.choice([1.2, 2.0, 3.0]))
    samples = samples_of(rng, rate_hz, channels, seconds)
    if coding.islower():
        return ending, _encode_by_ffmpeg(container, coding, rate_hz, samples)
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate_hz, format=container, subtype=coding)
    return ending, buffer.getvalue()


def _encode_by_ffmpeg(container: str, coding: str, rate_hz: int, samples: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container) as output:
        stream = output.add_stream(coding, rate=rate_hz, layout="mono")
        resampler = av.AudioResampler(stream.format.name, "mono", rate_hz)
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(
            np.round(samples[:, :1].T * 32767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = rate_hz
        for part in resampler.resample(frame):
            part.pts = None
            fifo.write(part)
        while piece := fifo.read(stream.codec_context.frame_size or 1024) or fifo.read(0, partial=True):
            output.mux(stream.encode(piece))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def cut(rng: Rng, data: bytes) -> bytes:
    return data[: int(rng.integers(0, len(data)))]


def cut_in_the_head(rng: Rng, data: bytes) -> bytes:
    return data[: int(rng.integers(0, 200))]


def cut_at_the_very_end(rng: Rng, data: bytes) -> bytes:
    return data[: -int(rng.integers(1, 9))]


def without_start(rng: Rng, data: bytes) -> bytes:
    return data[int(rng.integers(1, len(data) // 2)) :]


def flipped_bytes(rng: Rng, data: bytes) -> bytes:
    changed = bytearray(data)
    for at in rng.integers(0, len(data), 1 + len(data) // 500):
        changed[at] = int(rng.integers(256))
    return bytes(changed)


def lying_header(rng: Rng, data: bytes) -> bytes:
    """Four bytes among the first hundred, where lengths, rates and channel counts stand, with an extreme value."""
    at = int(rng.integers(4, min(100, len(data) - 4)))
    value = int(rng.choice([0, 1, 2, 255, 65535, 2**31 - 1, 2**32 - 1]))
    return data[:at] + value.to_bytes(4, str(rng.choice(["little", "big"]))) + data[at + 4 :]  # pyright: ignore


def hole(rng: Rng, data: bytes) -> bytes:
    start = int(rng.integers(len(data) // 3, len(data) // 2))
    return data[:start] + bytes(int(rng.integers(100, 3000))) + data[start + 50 :]


def garbage_behind(rng: Rng, data: bytes) -> bytes:
    return data + rng.bytes(int(rng.integers(1, 5000)))


def page_behind(rng: Rng, data: bytes) -> bytes:
    return data + b"<html><body>not found</body></html>\n" * int(rng.integers(1, 400))


def twice(rng: Rng, data: bytes) -> bytes:
    return data + data


def tagged(rng: Rng, data: bytes) -> bytes:
    """An ID3v2 tag before and an ID3v1 tag behind it; the length of the first may lie."""
    size = int(rng.choice([10, 10, 127, 2**20]))
    head = b"ID3\x04\0\0" + bytes((size >> shift) & 0x7F for shift in (21, 14, 7, 0))
    return head + bytes(10) + data + b"TAG" + bytes(125)


def garbage(rng: Rng, data: bytes) -> bytes:
    return rng.bytes(int(rng.integers(1, 4000)))


def text(rng: Rng, data: bytes) -> bytes:
    return b"ffconcat version 1.0\nfile 'other.wav'\n" * int(rng.integers(1, 50))


def empty(rng: Rng, data: bytes) -> bytes:
    return b""


def _float_wav(change: Callable[[np.ndarray, Rng], np.ndarray], rate_hz: int = 8000) -> Callable[[Rng, bytes], bytes]:
    def make(rng: Rng, data: bytes) -> bytes:
        buffer = io.BytesIO()
        samples = change(samples_of(rng, 8000, 1, 1.5)[:, 0], rng)
        soundfile.write(buffer, samples, rate_hz, format="WAV", subtype="FLOAT")
        return buffer.getvalue()

    return make


def odd_rate(rng: Rng, data: bytes) -> bytes:
    return _float_wav(lambda samples, _: samples, int(rng.choice(ODD_RATES_HZ)))(rng, data)


def many_channels(rng: Rng, data: bytes) -> bytes:
    buffer = io.BytesIO()
    channels = int(rng.choice([3, 6, 8, 32, 255]))
    soundfile.write(buffer, samples_of(rng, 8000, channels, 1.2), 8000, format="WAV")
    return buffer.getvalue()


FAULTS: dict[str, Callable[[Rng, bytes], bytes]] = {
    "good": lambda rng, data: data,
    "cut": cut,
    "cut-in-the-head": cut_in_the_head,
    "cut-at-the-very-end": cut_at_the_very_end,
    "without-start": without_start,
    "flipped-bytes": flipped_bytes,
    "lying-header": lying_header,
    "lying-header-2": lambda rng, data: lying_header(rng, lying_header(rng, data)),
    "hole": hole,
    "garbage-behind": garbage_behind,
    "page-behind": page_behind,
    "twice": twice,
    "tagged": tagged,
    "garbage": garbage,
    "text": text,
    "empty": empty,
    "nan": _float_wav(lambda samples, rng: np.where(rng.random(samples.size) < 0.01, np.nan, samples)),
    "infinite": _float_wav(lambda samples, rng: np.where(rng.random(samples.size) < 0.01, -np.inf, samples)),
    "huge-samples": _float_wav(lambda samples, rng: samples * np.float32(10.0 ** rng.integers(1, 38))),
    "tiny-samples": _float_wav(lambda samples, rng: samples * np.float32(1e-30)),
    "constant": _float_wav(lambda samples, rng: np.full_like(samples, rng.uniform(-1, 1))),
    "no-samples": _float_wav(lambda samples, rng: samples[:0]),
    "one-sample": _float_wav(lambda samples, rng: samples[:1]),
    "odd-rate": odd_rate,
    "many-channels": many_channels,
}
WRONG_ENDINGS = ("", "wav", "mp3", "m4a", "flac", "ogg", "m4p", "WAV", "aac", "amr")


def write_sound_files(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Write `count` files below `folder`, every fault in turn in every format, a fifth with a wrong ending."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        rng = np.random.default_rng([seed, number])
        fault = [*FAULTS][number % len(FAULTS)]
        ending, data = encode(rng, number // len(FAULTS) + number)
        if rng.random() < 0.2:
            ending = str(rng.choice(WRONG_ENDINGS))
        path = folder / f"{number:04d}-{fault}{'.' if ending else ''}{ending}"
        path.write_bytes(FAULTS[fault](rng, data))
        paths.append(path)
    return paths
