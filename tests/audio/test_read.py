"""Reading of common formats, and one-line errors for unusable files."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from talim.audio import Audio, AudioError, is_audio_name, list_audio_files, read, write
from talim.audio.decode import length_by_header
from talim.audio.errors import TooLongError
from talim.audio.read import blocks_up_to, read_part
from talim.errors import TalimError

RATE_HZ = 48000
PHONE = [
    ("voice.m4a", "aac", 48000),
    ("voice.aac", "aac", 48000),
    ("voice.opus", "libopus", 48000),
    ("voice.3gp", "libopencore_amrnb", 8000),
    ("voice.3gp", "aac", 44100),
    ("voice.amr", "libopencore_amrnb", 8000),
    ("voice.mp4", "aac", 44100),
    ("voice.webm", "libopus", 48000),
]


def tone(rate_hz: int = RATE_HZ, seconds: float = 3.0, hz: float = 440.0) -> Audio:
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    return Audio(0.5 * np.sin(2 * np.pi * hz * time), rate_hz)


def write_phone(path: Path, codec: str, audio: Audio, encoder: dict[str, str] | None = None, **options: str) -> None:
    """Write as a phone would, through FFmpeg."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=audio.rate_hz, layout="mono", options=encoder or {})
        fifo = av.AudioFifo()
        frame = av.AudioFrame.from_ndarray(
            np.round(audio.samples * 32767).astype(np.int16), format="s16", layout="mono"
        )
        frame.sample_rate = audio.rate_hz
        resampler = av.AudioResampler(stream.format.name, "mono", audio.rate_hz)
        for part in resampler.resample(frame):
            part.pts = None
            fifo.write(part)
        size = stream.codec_context.frame_size or 1024
        while piece := fifo.read(size) or fifo.read(0, partial=True):
            container.mux(stream.encode(piece))
        container.mux(stream.encode(None))


def pitch_hz(audio: Audio) -> float:
    spectrum = np.abs(np.fft.rfft(audio.mono().samples[0] * np.hanning(audio.frames)))
    return float(np.argmax(spectrum) * audio.rate_hz / audio.frames)


@pytest.mark.parametrize(("name", "codec", "rate_hz"), PHONE)
def test_read_of_phone_formats(tmp_path: Path, name: str, codec: str, rate_hz: int) -> None:
    write_phone(tmp_path / name, codec, tone(rate_hz))
    audio = read(tmp_path / name)
    assert is_audio_name(name)
    assert audio.rate_hz == rate_hz
    assert audio.seconds == pytest.approx(3.0, abs=0.15)
    assert pitch_hz(audio) == pytest.approx(440, abs=1)
    assert np.std(audio.cut(1.0, 1.0).samples) == pytest.approx(0.354, abs=0.06)


@pytest.mark.parametrize("subtype", ["PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW"])
@pytest.mark.parametrize("rate_hz", [8000, 44100, 96000])
def test_read_of_wav_in_every_depth_rate_and_channel_count(tmp_path: Path, subtype: str, rate_hz: int) -> None:
    samples = np.tile(tone(rate_hz, 0.5).samples, (3, 1))
    soundfile.write(tmp_path / "a.wav", samples.T, rate_hz, subtype=subtype)
    audio = read(tmp_path / "a.wav")
    assert (audio.channels, audio.rate_hz, audio.samples.dtype) == (3, rate_hz, np.float32)
    assert np.abs(audio.samples - samples).max() < (0.02 if subtype in ("PCM_U8", "ULAW") else 1e-3)


def test_read_of_wrong_suffix_detects_the_format(tmp_path: Path) -> None:
    write_phone(tmp_path / "real.m4a", "aac", tone())
    (tmp_path / "real.m4a").rename(tmp_path / "named.mp3")
    write(tmp_path / "real.flac", tone())
    (tmp_path / "real.flac").rename(tmp_path / "named.m4a")
    for name in ("named.mp3", "named.m4a"):
        assert pitch_hz(read(tmp_path / name)) == pytest.approx(440, abs=1)


def test_read_of_float_file_above_full_scale_keeps_its_samples(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.wav", 3 * tone().samples.T, RATE_HZ, subtype="FLOAT")
    assert np.abs(read(tmp_path / "a.wav").samples).max() == pytest.approx(1.5, abs=1e-3)


def cut(path: Path, share: float = 0.6) -> None:
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])


def no_file(path: Path) -> None:
    path.unlink()


def make_wav(path: Path) -> None:
    write(path, tone())


TRUNCATED = ["a.wav", "a.flac", "a.ogg", "a.mp3", "a.m4a", "a.opus", "faststart.m4a", "a.webm"]


@pytest.mark.parametrize("name", TRUNCATED)
def test_read_of_truncated_file_raises(tmp_path: Path, name: str) -> None:
    file = tmp_path / name
    if name == "faststart.m4a":
        write_phone(file, "aac", tone(), movflags="faststart")
    elif file.suffix in (".m4a", ".opus", ".webm"):
        write_phone(file, "aac" if file.suffix == ".m4a" else "libopus", tone())
    else:
        write(file, tone())
    assert read(file).frames > 0
    cut(file)
    with pytest.raises(AudioError, match=r"truncated|cut off") as caught:
        read(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_read_of_truncated_mp3_without_length_header_raises(tmp_path: Path) -> None:
    write_phone(tmp_path / "a.mp3", "libmp3lame", tone(), write_xing="0")
    assert read(tmp_path / "a.mp3").seconds == pytest.approx(3.0, abs=0.1)
    cut(tmp_path / "a.mp3", 0.5)
    with pytest.raises(AudioError, match=r"truncated.*its last frame breaks off"):
        read(tmp_path / "a.mp3")


def test_read_of_variable_bitrate_mp3_without_length_header_is_complete(tmp_path: Path) -> None:
    samples = np.concatenate([np.zeros(480000), 0.9 * np.random.default_rng(0).uniform(-1, 1, 480000)])
    quiet_first = Audio(samples, RATE_HZ)
    loud_first = Audio(samples[::-1].copy(), RATE_HZ)
    for audio in (quiet_first, loud_first):
        write_phone(
            tmp_path / "a.mp3", "libmp3lame", audio, {"flags": "+qscale", "global_quality": "472"}, write_xing="0"
        )
        assert read(tmp_path / "a.mp3").seconds == pytest.approx(20, abs=0.1)


def test_read_of_mp3_with_trailing_tags_is_complete(tmp_path: Path) -> None:
    write(tmp_path / "a.mp3", tone())
    with (tmp_path / "a.mp3").open("ab") as file:
        file.write(b"TAG" + b"title".ljust(125, b"\0"))
    assert read(tmp_path / "a.mp3").seconds == pytest.approx(3.0, abs=0.1)


def test_read_of_streamed_wav_without_length_is_complete(tmp_path: Path) -> None:
    make_wav(tmp_path / "a.wav")
    data = bytearray((tmp_path / "a.wav").read_bytes())
    at = data.index(b"data") + 4
    data[4:8] = data[at : at + 4] = b"\xff\xff\xff\xff"
    (tmp_path / "a.wav").write_bytes(data)
    assert read(tmp_path / "a.wav").seconds == pytest.approx(3.0, abs=0.01)


def write_text(path: Path) -> None:
    path.write_text("this is a letter, not music\n" * 100)


def write_nothing(path: Path) -> None:
    path.write_bytes(b"")


def write_no_samples(path: Path) -> None:
    soundfile.write(path, np.zeros((0, 1)), RATE_HZ)


def write_nan(path: Path) -> None:
    samples = np.zeros(1000, dtype=np.float32)
    samples[[3, 500]] = np.nan, np.inf
    soundfile.write(path, samples, RATE_HZ, subtype="FLOAT")


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (no_file, "cannot be read: No such file"),
        (write_text, "not audio"),
        (write_nothing, "0 bytes"),
        (write_no_samples, "0 seconds"),
        (write_nan, "2 of 1000 samples are not numbers"),
        (lambda path: (path.unlink(), path.mkdir()), "is a folder"),
        (lambda path: path.write_bytes(np.random.default_rng(0).bytes(5000)), "not audio"),
        (lambda path: path.write_bytes(b"RIFF\0\0"), "not audio"),
    ],
)
def test_read_of_unusable_file_raises_one_line(tmp_path: Path, make: Callable[[Path], None], reason: str) -> None:
    file = tmp_path / "a.wav"
    make_wav(file)
    make(file)
    with pytest.raises(AudioError, match=reason) as caught:
        read(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".ogg", ".flac", ".3gp", ".opus", ".aac", ".amr"])
def test_read_of_text_with_audio_suffix_raises(tmp_path: Path, suffix: str) -> None:
    write_text(tmp_path / f"a{suffix}")
    with pytest.raises(AudioError, match="not audio"):
        read(tmp_path / f"a{suffix}")


def test_read_of_video_without_audio_raises(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        for _ in range(5):
            picture = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
            container.mux(stream.encode(picture))
        container.mux(stream.encode(None))
    with pytest.raises(AudioError, match="no sound track"):
        read(tmp_path / "a.mp4")


@pytest.mark.parametrize(
    ("name", "expected"),
    [("a.WAV", True), ("x/y.Flac", True), ("a.m4a", True), ("a.txt", False), ("wav", False), ("a.csv", False)],
)
def test_is_audio_name(name: str, expected: bool) -> None:
    assert is_audio_name(name) is expected


def test_list_audio_files_of_folder_file_and_missing_path(tmp_path: Path) -> None:
    for name in ("b.wav", "sub/a.FLAC", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert list_audio_files(tmp_path) == [tmp_path / "b.wav", tmp_path / "sub" / "a.FLAC"]
    assert list_audio_files(tmp_path / "b.wav") == [tmp_path / "b.wav"]
    with pytest.raises(TalimError, match="no such file or folder"):
        list_audio_files(tmp_path / "nowhere")


def test_read_part_equals_a_cut_of_the_whole(tmp_path: Path) -> None:
    samples = np.random.default_rng(0).uniform(-0.5, 0.5, (2, 40_000)).astype(np.float32)
    write(tmp_path / "a.wav", Audio(samples, 8000))
    whole = read(tmp_path / "a.wav")
    for start, seconds in ((0.0, 1.0), (1.25, 2.5), (4.5, 9.0), (7.0, 1.0)):
        part = read_part(tmp_path / "a.wav", start, seconds)
        np.testing.assert_array_equal(part.samples, whole.cut(start, seconds).samples)


def _write_long(path: Path, seconds: float, rate_hz: int = 1000) -> Path:
    second = np.resize(np.float32([0.1, -0.2, 0.3]), rate_hz)
    with soundfile.SoundFile(path, "w", rate_hz, 1) as file:
        for _ in range(round(seconds)):
            file.write(second)
    return path


@pytest.mark.parametrize("name", ["long.wav", "long.flac", "long.aiff"])
def test_blocks_up_to_refuses_by_the_header_before_anything_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = _write_long(tmp_path / name, 100.0)
    assert sum(block.frames for block in blocks_up_to(path, 100.0)) == 100_000
    monkeypatch.setattr(sys.modules["talim.audio.read"], "decode_blocks", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(TooLongError, match=r"is 100\.0 s long") as error:
        list(blocks_up_to(path, 99.9))
    assert error.value.length == "100.0 s"


@pytest.mark.parametrize("name", ["long.ogg", "long.wav"])
def test_blocks_up_to_stops_reading_where_no_header_tells(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    path = _write_long(tmp_path / name, 900.0, 8000)
    monkeypatch.setattr(sys.modules["talim.audio.read"], "length_by_header", lambda _: None)
    blocks, seconds = blocks_up_to(path, 200.0), [0.0]
    with pytest.raises(TooLongError, match="is more than 200 s long"):
        seconds.extend(block.seconds for block in blocks)
    assert 0 < sum(seconds) <= 200.0
    assert sum(block.seconds for block in blocks_up_to(path, 900.1)) == pytest.approx(900.0, abs=0.1)


def test_a_header_that_states_more_than_the_file_holds_is_not_believed(tmp_path: Path) -> None:
    path = _write_long(tmp_path / "cut.flac", 10.0, 8000)
    content = bytearray(path.read_bytes())
    at = content.index(b"fLaC") + 8 + 13  # the number of samples in STREAMINFO: 36 bits from here
    content[at + 1 : at + 5] = (8000 * 7200).to_bytes(4, "big")
    path.write_bytes(content)
    assert length_by_header(path) is None
    remarks: list[str] = []
    assert sum(block.seconds for block in blocks_up_to(path, 60.0, remarks)) == pytest.approx(10.0)
    assert "10.0 of 7200.0 seconds are there" in remarks[0]


def test_length_by_header_of_what_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "words.wav").write_bytes(b"RIFF la la la")
    (tmp_path / "words.mp3").write_bytes(b"la la la" * 100)
    assert length_by_header(tmp_path / "words.wav") is length_by_header(tmp_path / "words.mp3") is None
    with pytest.raises(AudioError, match="cannot be read"):
        length_by_header(tmp_path / "absent.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    with pytest.raises(AudioError, match="pipe"):
        length_by_header(tmp_path / "pipe.wav")
