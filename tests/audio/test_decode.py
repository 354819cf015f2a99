"""Decoding in blocks: the stream is the truth, what is there is used, and no file makes the reader hang or lie.

Of containers: which are truncated, and the length that an MP3 file states.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from talim.audio import Audio, AudioError, read, write
from talim.audio.decode import decode_blocks, mp3_stated_seconds, stated_seconds, truncation_reason
from talim.audio.read import read_mono_blocks

RATE_HZ = 44100
NOISE = Audio(0.1 * np.random.default_rng(0).standard_normal(3 * RATE_HZ), RATE_HZ)
SECOND_OF_NOISE = Audio(0.1 * np.random.default_rng(0).standard_normal(44100), 44100)


def changed(path: Path, at: int, value: bytes) -> Path:
    data = bytearray(path.read_bytes())
    data[at : at + len(value)] = value
    path.write_bytes(data)
    return path


def before_last_page(data: bytes) -> int:
    return data.rindex(b"OggS", 0, data.rindex(b"OggS"))


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg", ".mp3"])
@pytest.mark.parametrize("share", [0.3, 0.61, 0.97])
def test_decode_blocks_of_a_cut_file_gives_what_is_there_with_a_remark(
    tmp_path: Path, suffix: str, share: float
) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, NOISE)
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    remarks: list[str] = []
    found = read(path, remarks)
    if suffix == ".ogg":  # a page is whole or lost
        data = path.read_bytes()
        pages = tmp_path / "pages.ogg"
        pages.write_bytes(data[: data.rindex(b"OggS")])
        np.testing.assert_array_equal(found.samples, read(pages, []).samples)
        granule = int.from_bytes(data[before_last_page(data) + 6 :][:8], "little")
        assert found.frames == granule
    else:
        assert found.seconds == pytest.approx(3 * share, abs=0.35)
    assert len(remarks) == 1
    assert remarks[0].startswith("incomplete: ")


@pytest.mark.parametrize(
    ("stated", "remark"), [(1.0, "states 1.0 seconds, 3.0 are there"), (0, None), (9.0, "3.0 of 9.0")]
)
def test_decode_blocks_of_flac_with_another_stated_length_reads_the_stream(
    tmp_path: Path, stated: float, remark: str | None
) -> None:
    write(tmp_path / "a.flac", NOISE)
    path = changed(tmp_path / "a.flac", 22, round(stated * RATE_HZ).to_bytes(4, "big"))
    remarks: list[str] = []
    assert read(path, remarks).frames == NOISE.frames
    assert [remark in text for text in remarks if remark] == ([True] if remark else [])
    assert bool(remarks) == bool(remark)


def test_decode_blocks_of_mp3_whose_header_counts_half_reads_all(tmp_path: Path, capfd: pytest.CaptureFixture) -> None:
    write(tmp_path / "a.mp3", NOISE)
    data = (tmp_path / "a.mp3").read_bytes()
    at = max(data.find(b"Xing"), data.find(b"Info")) + 8
    count = int.from_bytes(data[at : at + 4], "big")
    path = changed(tmp_path / "a.mp3", at, (count // 2).to_bytes(4, "big"))
    remarks: list[str] = []
    assert read(path, remarks).seconds == pytest.approx(3.0, abs=0.1)
    assert "all of it is used" in remarks[0]
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("suffix", [".wav", ".aiff", ".au"])
def test_decode_blocks_finds_sound_behind_the_stated_end(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    soundfile.write(path, NOISE.samples.T, RATE_HZ, subtype="PCM_16")
    data = path.read_bytes()
    name, order, shift = {".wav": (b"data", "little", 4), ".aiff": (b"SSND", "big", 4), ".au": (b".snd", "big", 8)}[
        suffix
    ]
    changed(path, data.index(name) + shift, (2 * RATE_HZ + 8 * (suffix == ".aiff")).to_bytes(4, order))  # pyright: ignore
    remarks: list[str] = []
    assert read(path, remarks).seconds == pytest.approx(3.0, abs=0.01)
    assert "states 1.0 seconds" in remarks[0]


@pytest.mark.parametrize("tail", [b"<html>not found</html>" * 2000, bytes(50_000), b"LIST\x10\0\0\0" + bytes(16)])
def test_decode_blocks_takes_no_tail_for_sound(tmp_path: Path, tail: bytes) -> None:
    write(tmp_path / "a.wav", NOISE)
    (tmp_path / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes() + tail)
    remarks: list[str] = []
    assert read(tmp_path / "a.wav", remarks).frames == NOISE.frames
    assert remarks == []


@pytest.mark.parametrize("rate_hz", [1, 8, 999])
def test_decode_blocks_refuses_rates_that_no_sound_has(tmp_path: Path, rate_hz: int) -> None:
    soundfile.write(tmp_path / "a.wav", NOISE.samples[0, :48000], rate_hz)
    with pytest.raises(AudioError, match=f"states {rate_hz} samples a second; sound has 1000"):
        next(decode_blocks(tmp_path / "a.wav"))


def test_decode_blocks_of_a_name_that_is_no_text(tmp_path: Path) -> None:
    for suffix in (".wav", ".flac"):
        write(tmp_path / f"a{suffix}", NOISE)
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/t\xfcrk\xfc" + suffix.encode()))
        (tmp_path / f"a{suffix}").rename(path)
        assert read(path).frames == NOISE.frames


def test_decode_blocks_of_what_is_no_regular_file_does_not_wait(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "zero.wav").symlink_to("/dev/zero")
    (tmp_path / "loop.wav").symlink_to(tmp_path / "loop.wav")
    for name, reason in (("pipe.wav", "pipe"), ("zero.wav", "device"), ("loop.wav", "cannot be read")):
        with pytest.raises(AudioError, match=reason):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.mov", "a.3gp", "a.wav"])
def test_decode_blocks_follows_no_script_to_another_file(tmp_path: Path, name: str) -> None:
    write(tmp_path / "other.wav", NOISE)
    (tmp_path / name).write_text("ffconcat version 1.0\nfile other.wav\n")
    with pytest.raises(AudioError, match="not audio"):
        read(tmp_path / name, [])


def test_decode_blocks_of_protected_sound_says_so(tmp_path: Path) -> None:
    import av

    with av.open(str(tmp_path / "a.m4a"), "w") as output:
        stream = output.add_stream("alac", rate=RATE_HZ, layout="mono")
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 4096), np.int16), format="s16p", layout="mono")
        frame.sample_rate = RATE_HZ
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    data = (tmp_path / "a.m4a").read_bytes()
    (tmp_path / "a.m4p").write_bytes(data.replace(b"alac", b"drms", 1))
    with pytest.raises(AudioError, match=r"protected \(DRM\)"):
        read(tmp_path / "a.m4p")


def test_read_mono_blocks_equals_the_whole(tmp_path: Path) -> None:
    stereo = Audio(np.stack([NOISE.samples[0], 0.5 * NOISE.samples[0]]), RATE_HZ)
    write(tmp_path / "a.flac", stereo)
    whole = read(tmp_path / "a.flac").mono().resample(16000).samples[0]
    assert np.array_equal(np.concatenate([*read_mono_blocks(tmp_path / "a.flac", 16000)]), whole)


def test_stated_seconds_of_sound_and_of_text(tmp_path: Path) -> None:
    write(tmp_path / "a.flac", NOISE)
    (tmp_path / "a.txt").write_text("no sound")
    assert stated_seconds(tmp_path / "a.flac") == pytest.approx(3.0)
    assert stated_seconds(tmp_path / "a.txt") == 0.0


@pytest.mark.parametrize("suffix", [".wav", ".ogg", ".mp3"])
def test_truncation_reason_of_whole_and_truncated_file(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    write(path, SECOND_OF_NOISE)
    assert truncation_reason(path) is None
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3 + 1])
    assert "are there" in str(truncation_reason(path)) or "breaks off" in str(truncation_reason(path))


def test_mp3_stated_seconds_of_mp3_and_other_files(tmp_path: Path) -> None:
    write(tmp_path / "a.mp3", SECOND_OF_NOISE)
    write(tmp_path / "a.wav", SECOND_OF_NOISE)
    assert mp3_stated_seconds(tmp_path / "a.mp3") == pytest.approx(1.0, abs=0.08)
    assert mp3_stated_seconds(tmp_path / "a.wav") is None
