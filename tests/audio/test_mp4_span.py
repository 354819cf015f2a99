"""Beginning and end of MP4 sound: encoder's priming and padding, edit lists, and the iTunes tag, to the sample."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from talim.audio import Audio, read
from talim.audio.decode import decode_blocks
from talim.audio.mp4_span import HELD_FRAMES, Mp4Span

RATE_HZ = 48000
FRAMES = 3 * RATE_HZ + 777  # no whole number of codec frames
PRIMING = 1024  # of FFmpeg's AAC encoder
CLOCK = 1000  # of the movie, in whose units edits are long


@pytest.fixture(scope="module")
def original() -> np.ndarray:
    rng = np.random.default_rng(0)
    phase = 2 * np.pi * np.cumsum(220 + 60 * np.sin(np.arange(FRAMES) / 9000)) / RATE_HZ
    return (0.3 * np.sin(phase) + 0.05 * rng.standard_normal(FRAMES)).astype(np.float32)


def encode(path: Path, samples: np.ndarray, codec: str = "aac", **options: str) -> bytes:
    import av

    with av.open(str(path), "w", options=options) as made:
        stream: Any = made.add_stream(codec, rate=RATE_HZ, bit_rate=192_000)
        stream.layout = "mono"
        resampler = av.AudioResampler(stream.format, "mono", RATE_HZ, stream.codec_context.frame_size or 1024)
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.rate, frame.pts = RATE_HZ, 0
        for part in [*resampler.resample(frame), *resampler.resample(None), None]:
            made.mux(stream.encode(part))
    return path.read_bytes()


@pytest.fixture(scope="module")
def m4a(tmp_path_factory: pytest.TempPathFactory, original: np.ndarray) -> bytes:
    return encode(tmp_path_factory.mktemp("m4a") / "a.m4a", original)


@pytest.fixture(scope="module")
def without_edits(tmp_path_factory: pytest.TempPathFactory, original: np.ndarray) -> bytes:
    return encode(tmp_path_factory.mktemp("bare") / "a.m4a", original, use_editlist="0")


def replaced(data: bytes, at: int, old_bytes: int, new: bytes, parents: tuple[bytes, ...]) -> bytes:
    """The file with other bytes at an offset, and the boxes around them as long as they are then."""
    made = bytearray(data[:at] + new + data[at + old_bytes :])
    for name in parents:
        place = data.rindex(name, 0, at + 8) - 4
        size = int.from_bytes(data[place : place + 4], "big") + len(new) - old_bytes
        made[place : place + 4] = size.to_bytes(4, "big")
    return bytes(made)


def with_edits(data: bytes, *edits: tuple[float, int]) -> bytes:
    """The file with another edit list: seconds and first sample (-1: nothing plays) of each edit."""
    rows = b"".join(struct.pack(">IiI", round(seconds * CLOCK), first, 1 << 16) for seconds, first in edits)
    box = struct.pack(">I4sII", 16 + len(rows), b"elst", 0, len(edits)) + rows
    at = data.index(b"elst") - 4
    old_bytes = int.from_bytes(data[at : at + 4], "big")
    return replaced(data, at, old_bytes, box, (b"edts", b"trak", b"moov"))


def with_itunes_tag(data: bytes, text: str) -> bytes:
    def box(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I4s", 8 + len(body), name) + body

    names = box(b"mean", b"\0\0\0\0com.apple.iTunes") + box(b"name", b"\0\0\0\0iTunSMPB")
    tag = box(b"----", names + box(b"data", b"\0\0\0\1\0\0\0\0" + text.encode()))
    at = data.index(b"ilst") - 4
    end = at + int.from_bytes(data[at : at + 4], "big")
    return replaced(data, end, 0, tag, (b"ilst", b"meta", b"udta", b"moov"))


def decoded(tmp_path: Path, data: bytes) -> tuple[np.ndarray, list[str]]:
    (tmp_path / "a.m4a").write_bytes(data)
    remarks: list[str] = []
    return read(tmp_path / "a.m4a", remarks).samples[0], remarks


def same_sound(found: np.ndarray, expected: np.ndarray) -> bool:
    """Whether each tenth of a second is that of the original, where it stands."""
    size = RATE_HZ // 10
    for start in range(0, len(expected) - size + 1, size):
        ours, theirs = found[start : start + size], expected[start : start + size]
        if theirs.any() and np.corrcoef(ours, theirs)[0, 1] < 0.98:
            return False
        if not theirs.any() and np.abs(ours).max() > 1e-3:
            return False
    return True


@pytest.mark.parametrize(
    ("name", "codec"),
    [("a.m4a", "aac"), ("a.mp4", "aac"), ("a.mov", "aac"), ("a.m4a", "alac"), ("a.mp4", "flac"), ("a.mp4", "libopus")],
)
def test_decode_of_mp4_gives_the_original_to_the_sample(
    tmp_path: Path, original: np.ndarray, name: str, codec: str
) -> None:
    encode(tmp_path / name, original, codec)
    samples = read(tmp_path / name).samples[0]
    assert len(samples) == FRAMES
    assert same_sound(samples, original)


@pytest.mark.parametrize(
    ("edits", "parts"),
    [
        ([(3.1, PRIMING)], [(0, FRAMES)]),  # longer than the sound
        ([(1.5, PRIMING)], [(0, 1.5 * RATE_HZ)]),
        ([(1.0, PRIMING + RATE_HZ)], [(RATE_HZ, 2 * RATE_HZ)]),
        ([(1.0, -1), (1.5, PRIMING)], [None, (0, 1.5 * RATE_HZ)]),
        ([(1.0, PRIMING + 2 * RATE_HZ), (1.0, PRIMING)], [(2 * RATE_HZ, 3 * RATE_HZ), (0, RATE_HZ)]),
    ],
)
def test_decode_honours_the_edit_list_to_the_sample(
    tmp_path: Path, m4a: bytes, original: np.ndarray, edits: list, parts: list
) -> None:
    samples, remarks = decoded(tmp_path, with_edits(m4a, *edits))
    expected = np.concatenate(
        [np.zeros(RATE_HZ, np.float32) if part is None else original[int(part[0]) : int(part[1])] for part in parts]
    )
    assert len(samples) == len(expected)
    assert same_sound(samples, expected)
    assert remarks == []


def test_decode_of_an_edit_list_that_leaves_nothing_uses_all_and_says_so(tmp_path: Path, m4a: bytes) -> None:
    samples, remarks = decoded(tmp_path, with_edits(m4a, (0.0, PRIMING)))
    assert len(samples) >= FRAMES
    assert remarks == ["its edit list leaves nothing of the sound; all that is recorded is used"]


def test_decode_of_an_endless_wait_leaves_it_out_and_says_so(tmp_path: Path, m4a: bytes, original: np.ndarray) -> None:
    samples, remarks = decoded(tmp_path, with_edits(m4a, (7200.0, -1), (1.5, PRIMING)))
    assert 0 <= len(samples) - 1.5 * RATE_HZ < 1024  # of such a file FFmpeg states another length
    assert same_sound(samples[: int(1.5 * RATE_HZ)], original[: int(1.5 * RATE_HZ)])
    assert remarks == ["begins 7200 s late by its edit list; the wait is left out"]


def test_decode_honours_the_itunes_tag(tmp_path: Path, without_edits: bytes, original: np.ndarray) -> None:
    text = f" 00000000 {PRIMING:08X} 00000377 {FRAMES:016X} 00000000"
    samples, remarks = decoded(tmp_path, with_itunes_tag(without_edits, text))
    assert len(samples) == FRAMES
    assert same_sound(samples, original)
    assert remarks == []


@pytest.mark.parametrize("text", ["", " 0", " 0 0 0 zz", f" 0 0 0 {1:016X}", f" 0 0 0 {1 << 40:X}"])
def test_decode_of_a_senseless_itunes_tag_cuts_nothing(tmp_path: Path, m4a: bytes, text: str) -> None:
    assert len(decoded(tmp_path, with_itunes_tag(m4a, text))[0]) == FRAMES


def test_decode_in_blocks_gives_the_same_samples(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, m4a: bytes) -> None:
    (tmp_path / "a.m4a").write_bytes(with_edits(m4a, (1.0, PRIMING + 2 * RATE_HZ), (1.0, PRIMING)))
    whole = read(tmp_path / "a.m4a")
    monkeypatch.setattr("talim.audio.decode._BLOCK_SAMPLES", HELD_FRAMES + 5000)
    blocks = list(decode_blocks(tmp_path / "a.m4a"))
    assert len(blocks) > 3
    assert np.array_equal(Audio(np.concatenate([b.samples for b in blocks], axis=1), RATE_HZ).samples, whole.samples)


def test_end_excess_is_nothing_where_time_stamps_are_coarse() -> None:
    span = Mp4Span(1.0, 1 / 600)
    span._end = 1.0
    assert span.end_excess(RATE_HZ + 900, RATE_HZ, 1024) == 0
    fine = Mp4Span(1.0, 1 / RATE_HZ)
    fine._end = 1.02
    assert fine.end_excess(RATE_HZ + 900, RATE_HZ, 1024) == 900
    assert fine.end_excess(RATE_HZ + 9000, RATE_HZ, 1024) == 0  # no codec pads so much: the header is wrong
