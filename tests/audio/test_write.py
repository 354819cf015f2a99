"""Writing: exact round trips, tags, atomic files."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from talim.audio import Audio, AudioError, content_hash, read, read_tags, write
from talim.errors import TalimError

TAGS = {
    "title": "Yaman, ağır",
    "prompt": "राग यमन, slow alap, ney; 'quoted' \"twice\"",
    "seed": "7",
    "note": "AI-generated",
    "recipe": "x" * 20000,  # longer than libsndfile lets a WAV comment be
}


@pytest.fixture
def noise() -> Audio:
    return Audio(np.random.default_rng(0).uniform(-0.9, 0.9, size=(2, 32000)), 32000)


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_write_then_read_is_exact(tmp_path: Path, noise: Audio, suffix: str) -> None:
    once, twice = tmp_path / f"once{suffix}", tmp_path / f"twice{suffix}"
    write(once, noise)
    write(twice, read(once))
    assert np.abs(read(once).samples - noise.samples).max() <= 0.5 / 32768 + 1e-7
    assert content_hash(read(once)) == content_hash(read(twice))
    assert once.read_bytes() == twice.read_bytes()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20)
@given(st.dictionaries(st.text("abcdef_", min_size=1), st.text(max_size=40), min_size=1))
@pytest.mark.parametrize("suffix", [".flac", ".wav", ".ogg", ".mp3"])
def test_read_tags_returns_any_written_tags(tmp_path: Path, suffix: str, tags: dict[str, str]) -> None:
    file = tmp_path / f"tagged{suffix}"
    tags = {name: "".join(c for c in text if c.isprintable()) for name, text in tags.items()}
    write(file, Audio(np.zeros(800), 8000), tags)
    assert read_tags(file) == tags


@pytest.mark.parametrize("suffix", [".flac", ".wav", ".ogg", ".mp3"])
def test_write_with_tags_keeps_the_samples(tmp_path: Path, noise: Audio, suffix: str) -> None:
    file = tmp_path / f"tagged{suffix}"
    write(file, noise, TAGS)
    assert read_tags(file) == TAGS
    audio = read(file)
    assert (audio.channels, audio.rate_hz) == (2, 32000)
    assert abs(audio.frames - noise.frames) <= 2400  # MP3 frames round up


# what ffmpeg reads as it stands: no surrogates, and no genre in figures, which it names by a table
_texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=60)
_fields = st.dictionaries(st.sampled_from(["title", "artist", "album", "date", "copyright", "license"]), _texts)
TITLE, GENRE = "朝の番組のジングル 🎵", "हिन्दुस्तानी"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=20, deadline=None)
@given(fields=_fields)
@pytest.mark.parametrize("suffix", [".flac", ".ogg", ".mp3"])
def test_write_with_tags_in_any_script_gives_them_to_other_programs_as_they_are(
    tmp_path: Path, suffix: str, fields: dict[str, str]
) -> None:
    file, fields = tmp_path / f"tagged{suffix}", {"title": TITLE, "genre": GENRE} | fields
    write(file, Audio(np.zeros(800), 8000), fields)
    with av.open(str(file)) as opened:
        metadata = opened.metadata | opened.streams[0].metadata
    found = {name.lower(): text for name, text in metadata.items()}
    assert {name: found.get(name) for name in fields} == fields
    assert read_tags(file) == fields


def test_read_tags_of_foreign_files(tmp_path: Path, noise: Audio) -> None:
    with soundfile.SoundFile(str(tmp_path / "a.flac"), "w", 8000, 1) as file:
        file.artist, file.comment = "Someone", "recorded at home"
        file.write(np.zeros(800))
    assert read_tags(tmp_path / "a.flac") == {"artist": "Someone", "comment": "recorded at home"}
    write(tmp_path / "plain.wav", noise)
    assert read_tags(tmp_path / "plain.wav") == {}
    (tmp_path / "text.wav").write_text("no sound")
    for name in ("text.wav", "absent.wav"):
        with pytest.raises(AudioError, match=name):
            read_tags(tmp_path / name)


def test_write_beyond_full_scale_attenuates_instead_of_clipping(tmp_path: Path) -> None:
    loud = Audio(np.array([0.0, 1.0, -2.0, 0.5]), 8000)
    write(tmp_path / "a.wav", loud)
    assert read(tmp_path / "a.wav").samples[0] == pytest.approx([0.0, 0.5, -1.0, 0.25], abs=1e-4)


@pytest.mark.parametrize("name", ["a.aac", "a", "a.txt"])
def test_write_of_other_suffix_raises(tmp_path: Path, noise: Audio, name: str) -> None:
    with pytest.raises(AudioError, match=r"use \.flac or \.wav"):
        write(tmp_path / name, noise)
    assert list(tmp_path.iterdir()) == []


def test_write_of_nan_raises(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match="NaN"):
        write(tmp_path / "a.flac", Audio(np.array([0.0, np.nan]), 8000))
    assert list(tmp_path.iterdir()) == []


def test_write_of_unsupported_rate_raises(tmp_path: Path) -> None:
    with pytest.raises(AudioError, match=r"resample, or use \.flac"):
        write(tmp_path / "a.mp3", Audio(np.zeros(9000), 5000))


def test_write_on_failing_disk_keeps_the_old_file(
    tmp_path: Path, noise: Audio, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.flac"
    write(file, noise)
    before = file.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(TalimError, match=r"a\.flac: cannot be written \(No space left on device\)"):
        write(file, Audio(np.zeros(8000), 8000))
    assert file.read_bytes() == before
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX limits the size of files")
@pytest.mark.parametrize("suffix", [".flac", ".wav", ".ogg", ".mp3"])
def test_write_on_a_disk_that_fills_up_says_so_and_leaves_nothing(
    tmp_path: Path, noise: Audio, suffix: str, capfd: pytest.CaptureFixture[str]
) -> None:
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (9000, hard))
    try:
        with pytest.raises(TalimError, match=rf"a\{suffix}: cannot be written \(File too large\)"):
            write(tmp_path / f"a{suffix}", noise, TAGS)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr().err == ""


def test_write_wav_with_comment_is_a_valid_riff_file(tmp_path: Path, noise: Audio) -> None:
    write(tmp_path / "a.wav", noise, {"seed": "12"})
    data = (tmp_path / "a.wav").read_bytes()
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    with soundfile.SoundFile(io.BytesIO(data)) as file:
        assert file.frames == noise.frames
        assert '"seed": "12"' in file.comment


def test_read_tags_of_a_damaged_mp3_prints_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.mp3"
    path.write_bytes(b"ID3\x04\0\0\0\0\0\x10" + bytes(16) + b"\xff\xfb\x90\x64Xing" + bytes(range(256)) * 12)
    with pytest.raises(AudioError, match=r"bad\.mp3"):
        read_tags(path)
    assert capfd.readouterr() == ("", "")
