"""Tags: what a generated file says of its making, also after another program has converted it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from talim.audio import Audio, AudioError, read_tags, write
from talim.audio.decode import truncation_reason
from talim.audio.provenance import generated_by
from talim.audio.tags import wav_comment
from talim.audio.write import add_wav_comment

PIECE = {
    "title": "raga Yaman, सितार",
    "ai_generated": "AI-generated",
    "software": "talim 9.9",
    "base": "nano-musicgen",
    "adapter": "none",
    "prompt": "raga Yaman, सितार",
    "seed": "7",
}


@pytest.fixture
def piece(tmp_path: Path) -> Path:
    write(tmp_path / "piece.flac", Audio(0.1 * np.random.default_rng(0).standard_normal(24000), 24000), PIECE)
    return tmp_path / "piece.flac"


def convert(source: Path, target: Path, codec: str, rate_hz: int) -> None:
    """As ffmpeg does: the sound coded anew, the tags copied."""
    import av

    with av.open(str(source)) as opened, av.open(str(target), "w") as made:
        made.metadata.update(opened.metadata)
        stream: Any = made.add_stream(codec, rate=rate_hz)
        resampler = av.AudioResampler(stream.format, stream.layout, rate_hz, stream.codec_context.frame_size or 1024)
        frames = [part for frame in opened.decode(audio=0) for part in resampler.resample(frame)]
        for frame in [*frames, *resampler.resample(None), None]:
            made.mux(stream.encode(frame))


@pytest.mark.parametrize(
    ("name", "codec", "rate_hz"),
    [
        ("a.m4a", "aac", 24000),
        ("a.mp3", "libmp3lame", 24000),
        ("a.opus", "libopus", 48000),
        ("a.oga", "flac", 24000),
        ("a.flac", "flac", 24000),
        ("a.wav", "pcm_s16le", 24000),
        ("a.mka", "flac", 24000),
    ],
)
def test_read_tags_of_a_converted_piece_are_those_of_the_piece(
    tmp_path: Path, piece: Path, name: str, codec: str, rate_hz: int
) -> None:
    convert(piece, tmp_path / name, codec, rate_hz)
    assert read_tags(tmp_path / name) == PIECE
    assert generated_by(read_tags(tmp_path / name)) == "talim 9.9, base nano-musicgen, seed 7"


def test_generated_by_of_recordings_is_empty(tmp_path: Path) -> None:
    with soundfile.SoundFile(str(tmp_path / "a.flac"), "w", 8000, 1) as file:
        file.artist, file.comment, file.software = "Someone", "{not json", "Audacity"
        file.write(np.zeros(800))
    tags = read_tags(tmp_path / "a.flac")
    assert (tags["artist"], tags["comment"], generated_by(tags)) == ("Someone", "{not json", "")
    assert generated_by({"title": "Talim", "software": "talimeter 2"}) == ""


@pytest.mark.parametrize("comment", ['["a"]', '"text"', "7", "{" * 5000, '{"a": '])
def test_read_tags_of_odd_comments_are_the_comment(tmp_path: Path, comment: str) -> None:
    with soundfile.SoundFile(str(tmp_path / "a.ogg"), "w", 8000, 1, format="OGG") as file:
        file.comment = comment
        file.write(np.zeros(800))
    assert read_tags(tmp_path / "a.ogg")["comment"] == comment


def test_read_tags_opens_no_playlist(tmp_path: Path) -> None:
    """A list of other files is no sound, whatever it is called."""
    (tmp_path / "a.m4a").write_text("#EXTM3U\n#EXTINF:1,x\n/etc/hostname\n", encoding="utf-8")
    with pytest.raises(AudioError, match=r"a\.m4a: its tags cannot be read"):
        read_tags(tmp_path / "a.m4a")


def test_wav_comment_of_file_with_and_without_comment(tmp_path: Path) -> None:
    path = tmp_path / "a.wav"
    write(path, Audio(np.full(24000, 0.1), 24000))
    assert wav_comment(path) is None
    with path.open("r+b") as file:
        add_wav_comment(file, "made by hand")
    assert wav_comment(path) == "made by hand"
    assert truncation_reason(path) is None
