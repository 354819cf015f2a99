"""The gain on returns: which frames count, and models that copy and that do not, with hand-computed values."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from talim.beats_chords import BeatsAndChords
from talim.corpus.manifest import Clip
from talim.evaluation.return_gain import ReturningClip, first_returns, gains_on_returns, returning_clips
from talim.synthesis.ground_truth import FormSection, GroundTruth
from talim.training.crops import EncodedClip

RATE_HZ = 10.0
# a theme of 3 s at 0 s that comes back at 8 and 14 s, between episodes that are new each time
FORM = (("theme", 0.0, 1), ("episode", 3.0, 1), ("theme", 8.0, 2), ("episode", 11.0, 1), ("theme", 14.0, 3))
SECONDS = {"theme": 3.0, "episode": 3.0}


def truth_of(form: tuple[tuple[str, float, int], ...] = FORM) -> GroundTruth:
    sections = tuple(FormSection(name, "theme", onset, SECONDS[name], occurrence) for name, onset, occurrence in form)
    nothing = np.empty(0)
    return GroundTruth("hindustani", "yaman", None, 200.0, None, None, (), sections, nothing, nothing, ())


def encoded(recording: str, tokens: np.ndarray, start_seconds: float = 0.0) -> EncodedClip:
    clip = Clip(
        id=recording, file="x", recording=recording, performer="p", start_seconds=start_seconds,
        seconds=tokens.size / RATE_HZ, caption="", split="held_out", audio_hash="0", source_file="x", source_hash="0",
    )  # fmt: skip
    return EncodedClip(clip, tokens[None].astype(np.int16), np.zeros((1, 4), np.float32), BeatsAndChords())


def piece(number: int, returns: bool = True) -> np.ndarray:
    """Tokens [200] of a piece of FORM: each frame has its own, but for the theme, which is the same each time."""
    tokens = 1000 * number + np.arange(200)
    if returns:
        for onset in (80, 140):
            tokens[onset : onset + 30] = tokens[:30]
    return tokens


def pieces(count: int = 3) -> tuple[list[EncodedClip], dict[str, GroundTruth]]:
    return [encoded(f"r{n}", piece(n)) for n in range(count)], {f"r{n}": truth_of() for n in range(count)}


def losses(items: list[EncodedClip], seen: float, keeps: float = 0.0, sigma: float = 0.0) -> list[np.ndarray]:
    """A model's losses [2, T]: 4 at the beginning, falling by a thousandth a frame; `seen` less for a token that came
    before, `keeps` less times the fraction of its own piece's music among all so far; plus noise of its own.
    """
    found, rng = [], np.random.default_rng(0)
    for item in items:
        tokens = item.targets[0].astype(int)
        before = np.array([token in tokens[:n] for n, token in enumerate(tokens)])
        own = np.cumsum(tokens // 1000 == tokens[-1] // 1000) / np.arange(1, tokens.size + 1)
        row = 4 - 0.001 * np.arange(tokens.size) - seen * before - keeps * own
        found.append(np.stack([row - 1, row + 1]) + sigma * rng.standard_normal((2, tokens.size)))
    return found


def gain_of(adapter: dict[str, float], base: dict[str, float], returns: bool = True) -> dict[str, float]:
    """What `gains_on_returns` gives for models of `losses`, on pieces that return or on others of the same form."""
    clips, truths = pieces()
    found, reason = returning_clips(clips, truths, RATE_HZ, None)
    assert reason == ""
    if not returns:
        found = [clip.performed(piece(n, returns=False)[None].astype(np.int16)) for n, clip in enumerate(found)]
    return gains_on_returns(found, *(pair_of(found, model) for model in (base, adapter)))


def pair_of(found: list[ReturningClip], model: dict[str, float]) -> Any:
    return losses([clip.present for clip in found], **model), losses([clip.absent for clip in found], **model)


def test_first_returns_are_the_second_occurrences_of_what_the_clip_holds_from_its_beginning() -> None:
    first, returned = first_returns(truth_of(), 0.0, 200, RATE_HZ)
    assert np.flatnonzero(first).tolist() == list(range(30))
    assert np.flatnonzero(returned).tolist() == list(range(80, 110))  # the third could be copied from the second
    first, returned = first_returns(truth_of(), 4.0, 200, RATE_HZ)  # the clip begins after the first
    assert np.flatnonzero(first).tolist() == list(range(40, 70))
    assert np.flatnonzero(returned).tolist() == list(range(100, 130))
    first, returned = first_returns(truth_of(), 1.0, 200, RATE_HZ)  # and within it: what is heard of it can be copied
    assert not first.any()
    assert not returned.any()


def test_a_clip_that_does_not_hold_both_has_no_value() -> None:
    one_theme = truth_of((("theme", 0.0, 1), ("episode", 3.0, 1), ("theme", 21.0, 2)))
    clips, _ = pieces()
    found, reason = returning_clips(clips, dict.fromkeys(("r0", "r1", "r2"), one_theme), RATE_HZ, None)
    assert found == []
    assert "nothing returns" in reason


def test_what_is_replaced_is_the_first_occurrence_by_the_next_recording_and_all_else_stays() -> None:
    clips, truths = pieces()
    found, _ = returning_clips(clips, truths, RATE_HZ, None)
    for number, clip in enumerate(found):
        altered, own, donor = clip.absent.targets[0], piece(number), piece((number + 1) % 3)
        assert (altered[:30] == donor[:30]).all()
        assert (altered[30:] == own[30:]).all()
        assert (clips[number].targets[0] == own).all()
        assert np.flatnonzero(clip.returned).tolist() == list(range(80, 110))
    alone, reason = returning_clips(clips[:1], truths, RATE_HZ, None)
    assert alone == []
    assert "no other recording" in reason


def test_frames_within_a_second_of_replaced_music_are_left_out() -> None:
    at_once = truth_of((("theme", 0.0, 1), ("theme", 3.0, 2), ("episode", 6.0, 1)))
    clips, _ = pieces()
    found, _ = returning_clips(clips, dict.fromkeys(("r0", "r1", "r2"), at_once), RATE_HZ, None)
    assert np.flatnonzero(found[0].returned).tolist() == list(range(40, 60))


def test_a_model_that_copies_gains_and_one_that_does_not_gains_nothing() -> None:
    copies, no_copies = {"seen": 1.5}, {"seen": 0.0}
    assert gain_of(copies, no_copies) == pytest.approx({"r0": 1.5, "r1": 1.5, "r2": 1.5})
    assert gain_of({"seen": 0.9}, {"seen": 0.4}) == pytest.approx({"r0": 0.5, "r1": 0.5, "r2": 0.5})
    assert gain_of(no_copies, copies)["r0"] == pytest.approx(-1.5)
    assert gain_of(copies, copies) == pytest.approx({"r0": 0.0, "r1": 0.0, "r2": 0.0})
    noisy = gain_of({"seen": 0.0, "sigma": 0.3}, no_copies)
    error = 0.3 * np.sqrt(2 / (2 * 30))  # of a mean of two differences over two parts and 30 frames
    assert max(map(abs, noisy.values())) < 3 * error


def test_the_control_takes_away_what_keeping_to_one_sound_brings() -> None:
    """A model that only knows its piece's sound gains from its past too, as much where nothing returns."""
    keeps, neither = {"seen": 0.0, "keeps": 2.0}, {"seen": 0.0}
    gains, control = (gain_of(keeps, neither, returns) for returns in (True, False))
    expected = 2.0 * np.mean(30 / np.arange(81, 111))  # 30 of all frames so far are another piece's
    assert gains == pytest.approx(dict.fromkeys(gains, expected))
    assert control == pytest.approx(gains)
    both = {"seen": 1.5, "keeps": 2.0}
    gains, control = (gain_of(both, neither, returns) for returns in (True, False))
    assert [gains[name] - control[name] for name in gains] == pytest.approx([1.5] * 3)


@pytest.mark.parametrize(
    ("seconds", "crop_seconds", "count", "told"),
    [
        ((20.0, 20.0, 20.0), None, 3, ""),
        ((20.0, 20.0, 20.0), 20.0, 3, ""),
        ((20.0, 19.97, 20.0), 25.0, 3, ""),  # frames do not divide every length
        ((20.0, 15.0, 20.0), None, 2, "1 of 3 held-out clips are shorter than 20 s"),
        ((10.0, 10.0, 10.0), None, 0, "3 of 3 held-out clips are shorter than 20 s"),
        ((20.0, 20.0, 20.0), 5.0, 0, "training.crop_seconds must be 20 or more"),
    ],
)
def test_shorter_clips_and_training_crops_have_no_value_and_it_is_said(
    seconds: tuple[float, ...], crop_seconds: float | None, count: int, told: str
) -> None:
    clips, truths = pieces()
    clips = [encoded(f"r{n}", piece(n)[: int(RATE_HZ * length + 0.5)]) for n, length in enumerate(seconds)]
    found, reason = returning_clips(clips, truths, RATE_HZ, crop_seconds)
    assert len(found) == count
    assert told in reason
    assert bool(reason) == bool(told)
