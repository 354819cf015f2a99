"""Sound in blocks: what is read or written equals the same sound in one piece."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import av
import numpy as np
import pytest

from talim.atomic_io import FileTakenError
from talim.audio import Audio, AudioError, AudioStream, read, read_tags, write

TAGS = {"title": "x", "seed": "3"}


def in_blocks(samples: np.ndarray, *stops: int, asked: list[int] | None = None) -> AudioStream:
    """The samples [C, T] as a stream at 8 kHz, cut at `stops`; notes each time that it is decoded."""

    def blocks() -> Iterator[np.ndarray]:
        if asked is not None:
            asked.append(1)
        yield from np.split(samples, stops, axis=1)

    return AudioStream(blocks, 8000, samples.shape[0], TAGS)


def noise(channels: int = 2, peak: float = 0.9) -> np.ndarray:
    samples = np.random.default_rng(0).uniform(-1, 1, size=(channels, 200_000)).astype(np.float32)
    return samples / np.abs(samples).max() * np.float32(peak)


@pytest.mark.parametrize("peak", [0.9, 1.0, 2.5])
@pytest.mark.parametrize("suffix", [".flac", ".wav", ".ogg", ".mp3"])
def test_saved_file_equals_that_of_the_whole_sound(tmp_path: Path, suffix: str, peak: float) -> None:
    samples = noise(peak=peak)
    if peak > 1:
        samples[:, 150_000:] *= 0.5  # the loudest sample lies before the last block
    stream = in_blocks(samples, 1, 77_777, 150_000)
    assert stream.save(tmp_path / f"blocks{suffix}") == tmp_path / f"blocks{suffix}"
    write(tmp_path / f"whole{suffix}", Audio(samples, 8000), TAGS)
    assert stream.read().save(tmp_path / f"read{suffix}").is_file()
    assert read_tags(tmp_path / f"blocks{suffix}") == TAGS
    if suffix in (".flac", ".wav"):
        written = {(tmp_path / f"{name}{suffix}").read_bytes() for name in ("blocks", "whole", "read")}
        assert len(written) == 1
    else:  # encoders choose random serial numbers, and see other blocks
        blocks, whole = (read(tmp_path / f"{name}{suffix}").samples for name in ("blocks", "whole"))
        assert blocks.shape == whole.shape
        assert np.abs(blocks - whole).max() < 1e-3


def test_sound_is_decoded_a_second_time_only_where_it_would_clip(tmp_path: Path) -> None:
    asked: list[int] = []
    in_blocks(noise(peak=1.0), 50_000, asked=asked).save(tmp_path / "quiet.flac")
    assert len(asked) == 1
    in_blocks(noise(peak=1.01), 50_000, asked=asked).save(tmp_path / "loud.flac")
    assert len(asked) == 3
    assert np.abs(read(tmp_path / "loud.flac").samples).max() == pytest.approx(1.0, abs=1e-4)


def test_read_scales_down_only_what_would_clip() -> None:
    samples = noise(peak=1.0)
    np.testing.assert_array_equal(in_blocks(samples, 10).read().samples, samples)
    loud = in_blocks(4 * samples, 10).read()
    np.testing.assert_allclose(loud.samples, samples, rtol=1e-6)
    assert (loud.rate_hz, dict(loud.tags)) == (8000, TAGS)


def test_stream_of_audio_is_that_audio(tmp_path: Path) -> None:
    audio = Audio(noise(), 8000, TAGS)
    stream = AudioStream.of(audio)
    np.testing.assert_array_equal(stream.read().samples, audio.samples)
    assert stream.save(tmp_path / "a.flac").read_bytes() == audio.save(tmp_path / "b.flac").read_bytes()


def test_saving_takes_the_memory_of_a_block_whatever_the_length(tmp_path: Path) -> None:
    def peak_bytes(blocks: int) -> int:
        def sound() -> Iterator[np.ndarray]:
            for number in range(blocks):
                yield np.full((1, 65_536), number / blocks, np.float32)

        tracemalloc.start()
        AudioStream(sound, 16_000, 1).save(tmp_path / "a.flac")
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return peak

    assert peak_bytes(40) < 1.1 * peak_bytes(4) + 100_000


def test_file_that_came_in_the_meantime_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "a.flac"
    path.write_bytes(b"of another process")
    with pytest.raises(FileTakenError, match="is there already"):
        in_blocks(noise()).save(path, overwrite=False)
    assert path.read_bytes() == b"of another process"
    assert [*tmp_path.iterdir()] == [path]
    in_blocks(noise()).save(path)
    assert read(path).rate_hz == 8000


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_sample_that_is_no_number_is_refused_wherever_it_is(tmp_path: Path, bad: float) -> None:
    samples = noise()
    samples[1, -1] = bad
    with pytest.raises(AudioError, match="not numbers"):
        in_blocks(samples, 100_000).save(tmp_path / "a.flac")
    assert [*tmp_path.iterdir()] == []


def test_decoding_that_fails_leaves_no_file(tmp_path: Path) -> None:
    def blocks() -> Iterator[np.ndarray]:
        yield np.zeros((1, 100_000), np.float32)
        raise MemoryError

    with pytest.raises(MemoryError):
        AudioStream(blocks, 8000, 1).save(tmp_path / "a.flac")
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize("suffix", [".flac", ".wav"])
def test_what_is_written_of_a_file_can_be_played(tmp_path: Path, suffix: str) -> None:
    """By ffmpeg, as players do: all but what the encoder keeps until its next frame is full."""
    samples, names, heard = noise(channels=1), [], []

    def blocks() -> Iterator[np.ndarray]:
        for block in np.split(samples, [70_000, 140_000], axis=1):
            yield block
            copy = tmp_path / f"copy{suffix}"
            copy.write_bytes(names[0].read_bytes())
            with av.open(str(copy)) as opened:
                played = [frame.to_ndarray().reshape(-1) for frame in opened.decode(audio=0)]
            heard.append(np.concatenate(played))

    path = tmp_path / f"a{suffix}"
    AudioStream(blocks, 8000, 1, TAGS).save(path, begun=names.append)
    assert names[0].name.startswith(".a")
    assert names[0].suffix == ".part"  # it does not look whole
    assert not names[0].exists()
    whole = read(path).samples[0]
    for number, part in enumerate(heard, start=1):
        assert min(70_000 * number, 200_000) - 4096 <= len(part) <= 200_000
        assert np.array_equal(part / 32768, whole[: len(part)])
