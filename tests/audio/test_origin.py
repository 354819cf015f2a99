"""What `talim origin` finds in files: marks, lost marks, changed files."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

from talim.audio import Audio, AudioError, credentials
from talim.audio.origin import NO_MARK, origin_lines, origin_of

TAGS = {"ai_generated": "AI-generated", "software": "talim 9.9", "base": "nano-musicgen", "seed": "7"}


def save(path: Path, tags: dict[str, str]) -> Path:
    return Audio(0.1 * np.ones((1, 8000), np.float32), 8000, tags).save(path)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    credentials.make_certificate(tmp_path / "studio.pem", "Studio")
    monkeypatch.setenv(credentials.VARIABLE, str(tmp_path / "studio.pem"))


def test_origin_of_a_recording_is_unknown_not_real(tmp_path: Path) -> None:
    origin = origin_of(save(tmp_path / "own.flac", {"title": "mine"}))
    assert (origin["ai_generated"], origin["credentials"]) == (None, None)
    assert origin_lines(origin) == [f"{tmp_path / 'own.flac'}: {NO_MARK}"]


def test_origin_of_a_generated_piece_tells_tags_and_signature(tmp_path: Path, certificate: None) -> None:
    lines = origin_lines(origin_of(save(tmp_path / "piece.flac", TAGS)))
    assert lines == [
        f"{tmp_path / 'piece.flac'}: made by a model",
        "tags: talim 9.9, base nano-musicgen, seed 7",
        "content credentials: signed by Studio (no known authority vouches for this certificate), not changed since: "
        "talim 9.9, base nano-musicgen, seed 7",
    ]


def test_origin_of_a_continuation_tells_what_was_given(tmp_path: Path) -> None:
    origin = origin_of(save(tmp_path / "p.flac", TAGS | {"phrase_kept": "yes", "phrase_seconds": "4"}))
    assert origin["given_seconds"] == 4
    assert origin_lines(origin)[0].endswith("made by a model from 4 s on; what is before was given")


def test_origin_of_a_changed_piece_says_that_its_signature_does_not_hold(tmp_path: Path, certificate: None) -> None:
    path = save(tmp_path / "piece.wav", TAGS)
    data = bytearray(path.read_bytes())
    data[1000] ^= 1
    path.write_bytes(data)
    origin = origin_of(path)
    assert origin["ai_generated"] is True
    assert "do not hold: the file was changed after Studio signed it" in origin_lines(origin)[-1]


def test_origin_of_other_formats_says_that_credentials_were_not_looked_for(tmp_path: Path) -> None:
    origin = origin_of(save(tmp_path / "piece.ogg", TAGS))
    assert "not looked for (.ogg" in origin_lines(origin)[-1]


def test_origin_without_the_package_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "c2pa", None)
    assert "pip install" in origin_lines(origin_of(save(tmp_path / "piece.flac", TAGS)))[-1]


def test_origin_of_no_sound_file_raises(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("no sound")
    with pytest.raises(AudioError, match="not a sound file"):
        origin_of(tmp_path / "notes.txt")
