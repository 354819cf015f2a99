"""Audio in the page: the MP3 decodes to the input, and the player has a label."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
import soundfile

from talim.errors import TalimError
from talim.html.audio_player import DecodedAudio, audio_player, mp3_data_uri, read_audio


def tone(rate_hz: int, hz: float = 440.0, seconds: float = 1.0, channels: int = 1) -> DecodedAudio:
    time = np.arange(int(rate_hz * seconds)) / rate_hz
    return DecodedAudio(
        np.repeat(0.5 * np.sin(2 * np.pi * hz * time)[:, None], channels, axis=1).astype(np.float32), rate_hz
    )


def decoded(uri: str) -> tuple[np.ndarray, int]:
    kind, data = uri.split(",", 1)
    assert kind == "data:audio/mpeg;base64"
    return soundfile.read(io.BytesIO(base64.b64decode(data)), always_2d=True)


@pytest.mark.parametrize(
    ("rate_hz", "stored_hz"), [(16000, 16000), (32000, 32000), (44100, 44100), (11025, 16000), (96000, 48000)]
)
def test_mp3_data_uri_decodes_to_the_same_tone(rate_hz: int, stored_hz: int) -> None:
    samples, got_hz = decoded(mp3_data_uri(tone(rate_hz)))
    assert got_hz == stored_hz
    assert len(samples) / got_hz == pytest.approx(1.0, abs=0.1)
    spectrum = np.abs(np.fft.rfft(samples[:, 0]))
    assert np.argmax(spectrum) * got_hz / len(samples) == pytest.approx(440, abs=3)
    assert np.abs(samples).max() == pytest.approx(0.5, abs=0.1)


def test_mp3_data_uri_has_at_most_two_channels() -> None:
    assert decoded(mp3_data_uri(tone(32000, channels=2)))[0].shape[1] == 2
    assert decoded(mp3_data_uri(tone(32000, channels=5)))[0].shape[1] == 2


def test_audio_player_escapes_its_label() -> None:
    html = audio_player(tone(16000, seconds=0.2), 'After: "<b>raga</b>" & more')
    assert html.startswith("<audio controls ")
    assert 'aria-label="After: &#34;&lt;b&gt;raga&lt;/b&gt;&#34; &amp; more"' in html
    assert "<b>" not in html


def test_read_audio_replaces_nan_and_infinity(tmp_path: Path) -> None:
    samples = np.array([0.0, np.nan, 0.5, np.inf], dtype=np.float32)
    soundfile.write(tmp_path / "odd.wav", samples, 16000, subtype="FLOAT")
    audio = read_audio(tmp_path / "odd.wav")
    assert audio.seconds == pytest.approx(4 / 16000)
    assert np.isfinite(audio.samples).all()
    assert audio.mono[2] == 0.5


@pytest.mark.parametrize("content", [None, b"", b"this is text"])
def test_read_audio_invalid_file_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "take 3.flac"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(TalimError, match=r"take 3\.flac: cannot be played on the page"):
        read_audio(path)


def test_read_audio_file_without_samples_is_named(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "none.wav", np.zeros(0), 16000)
    with pytest.raises(TalimError, match="has no samples"):
        read_audio(tmp_path / "none.wav")
