"""Phrases: which part of which file is used, what is recorded of it, what is refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from talim.audio import Audio, AudioError, content_hash
from talim.errors import TalimError, UsageError
from talim.generation.phrase import Phrase, PhraseOptions, pair_phrases, read_phrase, read_phrases

RATE_HZ = 16000


def ramp(seconds: float, rate_hz: int = RATE_HZ, channels: int = 1) -> np.ndarray:
    """Samples that tell where they are."""
    count = round(seconds * rate_hz)
    return np.tile(np.linspace(0, 0.5, count, dtype=np.float32), (channels, 1))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "alap.wav"
    soundfile.write(path, ramp(3.0, channels=2).T, RATE_HZ, subtype="FLOAT")
    return path


@pytest.mark.parametrize(("seconds", "used"), [(None, 3.0), (1.0, 1.0), (2.5001, 2.5001), (3.0, 3.0), (99.0, 3.0)])
def test_read_phrase_takes_the_last_seconds(file: Path, seconds: float | None, used: float) -> None:
    phrase = read_phrase(file, seconds)
    count = round(used * RATE_HZ)
    assert np.array_equal(phrase.audio.samples, ramp(3.0, channels=2)[:, -count:])
    assert (phrase.name, phrase.whole_seconds) == ("alap.wav", 3.0)
    assert phrase.hash == content_hash(Audio(ramp(3.0, channels=2)[:, -count:], RATE_HZ))


def test_read_phrase_of_a_sound_in_memory_equals_that_of_its_file(file: Path) -> None:
    stored, given = read_phrase(str(file), 0.7), read_phrase(Audio(ramp(3.0, channels=2), RATE_HZ), 0.7)
    assert np.array_equal(stored.audio.samples, given.audio.samples)
    assert stored.hash == given.hash


def test_read_phrase_of_a_long_file_holds_its_end_only(tmp_path: Path) -> None:
    """The blocks in between are dropped; their borders are not lost."""
    path = tmp_path / "long.flac"
    soundfile.write(path, ramp(400.0).T, RATE_HZ)
    whole = soundfile.read(path, dtype="float32")[0]
    for seconds in (0.5, 66.0, 399.0):
        samples = read_phrase(path, seconds).audio.samples
        assert np.array_equal(samples[0], whole[-round(seconds * RATE_HZ) :])
    assert read_phrase(path, 0.5).whole_seconds == 400.0


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot be read"),
        (b"", "empty"),
        (b"no sound at all", "not audio"),
        (np.zeros(RATE_HZ, np.float32), "silent .*nothing to go on from"),
        (np.full(RATE_HZ, np.nan, np.float32), "not numbers"),
    ],
)
def test_read_phrase_of_what_is_no_music_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    path = tmp_path / "bad.wav"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        soundfile.write(path, content, RATE_HZ, subtype="FLOAT")
    with pytest.raises(TalimError, match=message) as raised:
        read_phrase(path)
    assert isinstance(raised.value, AudioError | UsageError)


def test_read_phrase_with_a_silent_end_is_refused_though_music_lies_before(tmp_path: Path) -> None:
    path = tmp_path / "fades.wav"
    soundfile.write(path, np.concatenate([ramp(2.0)[0], np.zeros(RATE_HZ, np.float32)]), RATE_HZ)
    assert read_phrase(path).audio.seconds == 3.0
    with pytest.raises(UsageError, match=r"what is used of fades\.wav is silent .*larger --continue-seconds"):
        read_phrase(path, 0.5)


@pytest.mark.parametrize("samples", [np.zeros((1, 0), np.float32), np.full((1, 5), np.inf, np.float32)])
def test_read_phrase_of_a_sound_without_samples_or_numbers_is_refused(samples: np.ndarray) -> None:
    with pytest.raises(UsageError, match="a sound in memory holds"):
        read_phrase(Audio(samples, RATE_HZ))


def test_read_phrase_of_a_broken_off_file_uses_what_is_there_and_says_so(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)
    phrase = read_phrase(file)
    assert phrase.audio.seconds == pytest.approx(1.5, abs=0.01)
    assert any("incomplete" in remark for remark in phrase.remarks)


def test_tags_of_a_generated_phrase_say_that_it_is_generated(tmp_path: Path, file: Path) -> None:
    made = Audio(ramp(1.0), RATE_HZ, {"ai_generated": "AI-generated"}).save(tmp_path / "made.flac")
    options = PhraseOptions()
    tags = read_phrase(made).tags(options)
    assert tags["phrase_ai_generated"] == "AI-generated"
    assert "ai_generated_from_seconds" not in tags
    kept_in_part = Audio(ramp(1.0), RATE_HZ, {"software": "talim 1.0"}).save(tmp_path / "edited.flac")
    for given in (Audio(ramp(1.0), RATE_HZ, {"ai_generated": "AI-generated"}), kept_in_part):
        tags = read_phrase(given, 0.5).tags(options)  # in memory, and with what another program left of the tags
        assert tags["phrase_ai_generated"] == "AI-generated"
        assert "ai_generated_from_seconds" not in tags
    own = read_phrase(file, 1.25).tags(options)
    assert (own["phrase"], own["phrase_seconds"], own["phrase_kept"]) == ("alap.wav", "1.250", "yes")
    assert (own["ai_generated_from_seconds"], own["phrase_use"]) == ("1.250", "continued")
    assert "given by the user" in own["phrase_rights"]
    assert "phrase_ai_generated" not in own
    left_out = read_phrase(file).tags(PhraseOptions(keep=False))
    assert left_out["phrase_kept"] == "no"
    assert "ai_generated_from_seconds" not in left_out
    varied = read_phrase(file).tags(PhraseOptions(strength=0.3))
    assert (varied["phrase_use"], varied["strength"]) == ("varied", "0.3")


@pytest.mark.parametrize(
    ("base", "options", "seconds", "message"),
    [
        ("nano-musicgen", {"strength": 0.5}, None, "--strength is no option of nano-musicgen"),
        ("nano-mustango", {"strength": 1.5}, None, "--strength is 1.5; it must be between 0"),
        ("nano-mustango", {"strength": float("nan")}, None, "--strength is nan"),
        ("nano-mustango", {"keep": False}, None, "varies a phrase and keeps nothing of it"),
        ("nano-mustango", {}, 10.0, "a variation of a phrase, as long as the phrase, .*leave out --seconds"),
    ],
)
def test_read_phrases_refuses_what_the_base_cannot_do(
    file: Path, base: str, options: dict[str, Any], seconds: float | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read_phrases(base, [file], PhraseOptions(**options), seconds)


@pytest.mark.parametrize("options", [{"seconds": 2.0}, {"keep": False}, {"strength": 0.5}])
def test_read_phrases_refuses_options_without_a_phrase(options: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match="add --continue with the file"):
        read_phrases("nano-mustango", [], PhraseOptions(**options), None)


def test_read_phrases_of_a_long_phrase_for_a_variation_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "long.wav"
    soundfile.write(path, ramp(61.0, 8000).T, 8000)
    with pytest.raises(UsageError, match=r"61\.0 s long; nano-mustango varies up to 60 s .*--continue-seconds 60"):
        read_phrases("nano-mustango", [path], PhraseOptions(), None)
    (phrase,), options = read_phrases("nano-mustango", [path], PhraseOptions(20.0), None)
    assert (phrase.audio.seconds, options.strength) == (20.0, 0.5)
    assert read_phrases("nano-musicgen", [path], PhraseOptions(), 5.0)[1].strength is None


@pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), 1e6])
def test_phrase_options_out_of_range_raise_usage_error(seconds: float) -> None:
    with pytest.raises(UsageError, match="--continue-seconds is"):
        PhraseOptions(seconds)


def test_pair_phrases_gives_one_to_all_or_one_to_each() -> None:
    one, two, three = (Phrase(Audio(ramp(1.0), RATE_HZ), name, 1.0) for name in "xyz")
    assert pair_phrases(["a", "b"], []) == (["a", "b"], [None, None])
    assert pair_phrases(["a", "b"], [one]) == (["a", "b"], [one, one])
    assert pair_phrases(["a"], [one, two, three]) == (["a"] * 3, [one, two, three])
    assert pair_phrases(["a", "b"], [one, two]) == (["a", "b"], [one, two])
    with pytest.raises(UsageError, match="--continue was given 3 times and --prompt 2 times"):
        pair_phrases(["a", "b"], [one, two, three])


@pytest.mark.parametrize(("base", "limit"), [("nano-musicgen", 3600), ("nano-mustango", 60)])
def test_read_phrases_of_a_file_that_is_too_long_is_refused_before_it_is_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, base: str, limit: int
) -> None:
    path = tmp_path / "concert.wav"
    soundfile.write(path, np.resize(np.int16([9999, -9999]), (limit + 5) * 1000), 1000)
    (phrase,), _ = read_phrases(base, [path], PhraseOptions(2.0), None)
    assert (phrase.audio.seconds, phrase.whole_seconds) == (2.0, limit + 5.0)
    monkeypatch.setattr(sys.modules["talim.audio.read"], "decode_blocks", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UsageError, match=rf"--continue: concert\.wav is {limit + 5}\.0 s long; .*up to {limit} s"):
        read_phrases(base, [path], PhraseOptions(), None)
    monkeypatch.undo()
    sound = Audio(np.ones((1, (limit + 5) * 1000), np.float32), 1000)
    with pytest.raises(UsageError, match=rf"a sound in memory is {limit + 5}\.0 s long"):
        read_phrases(base, [sound], PhraseOptions(), None)
