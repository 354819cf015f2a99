"""Audio sources and normalized paths."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import pytest

from talim.audio import Audio
from talim.corpus.recordings import AudioSource, EmbeddedAudio, FileAudio, RenderedAudio, file_hash, normalize_path
from talim.errors import TalimError


def samples_of(source: AudioSource) -> np.ndarray:
    return np.concatenate([block.samples for block in source.blocks([])], axis=1)


def test_normalize_path_unifies_separators_and_unicode_forms() -> None:
    assert normalize_path("a\\b//./c.wav") == "a/b/c.wav"
    assert normalize_path("rāga.wav") == normalize_path("r\u0101ga.wav") == "r\u0101ga.wav"


def test_file_hash_is_sha256_or_raises(folder: Path) -> None:
    (folder / "a.wav").write_bytes(b"x")
    assert file_hash(folder / "a.wav") == hashlib.sha256(b"x").hexdigest()
    with pytest.raises(TalimError, match="No such file"):
        file_hash(folder / "b.wav")
    os.mkfifo(folder / "c.wav")
    with pytest.raises(TalimError, match="pipe"):  # opening it would wait for ever
        file_hash(folder / "c.wav")


def test_embedded_audio_reads_as_its_file(record) -> None:
    path = record("a.wav", 2)
    embedded = EmbeddedAudio(path.read_bytes, ".wav")
    assert embedded.hash() == FileAudio(path).hash()
    assert np.array_equal(samples_of(embedded), samples_of(FileAudio(path)))


def test_rendered_audio_hash_changes_with_the_rendering_key(folder: Path) -> None:
    path = folder / "score.txt"
    path.write_text("notes")
    silence = Audio(np.zeros(100), 8000)
    sources = [RenderedAudio(path, key, lambda: silence) for key in ("practice ney", "theory ney")]
    assert [*sources[0].blocks([])] == [silence]
    assert len({sources[0].hash(), sources[1].hash(), file_hash(path)}) == 3
