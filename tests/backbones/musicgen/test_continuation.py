"""A recording and what goes on from it: exact up to the cross-fade, no click, any rate, length and channels."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from talim.audio import Audio
from talim.backbones.musicgen import continuation, decoding
from talim.backbones.musicgen.backbone import MusicGen
from talim.errors import UsageError

RATE_HZ = 8000
FADE = 320  # samples: 40 ms


def sine(frames: int, hz: float, phase: float = 0.0, gain: float = 0.5) -> np.ndarray:
    return (gain * np.sin(2 * np.pi * hz * np.arange(frames) / RATE_HZ + phase)).astype(np.float32)[None]


def noise(channels: int, frames: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, (channels, frames)).astype(np.float32)


def joined(phrase: np.ndarray, decoded: np.ndarray, shared: int, new: int, block: int = 1000) -> np.ndarray:
    def blocks() -> Iterator[np.ndarray]:
        for start in range(0, decoded.shape[1], block):
            yield decoded[:, start : start + block]

    return np.concatenate([*continuation.join(phrase, blocks(), shared, new, RATE_HZ)], axis=1)


@given(
    st.integers(1, 2), st.integers(0, 2000), st.integers(0, 1500), st.integers(1, 900), st.sampled_from([7, 640, 9999])
)
def test_join_keeps_the_phrase_and_the_new_samples_exactly(
    channels: int, frames: int, shared: int, new: int, block: int
) -> None:
    phrase, decoded = noise(channels, frames, 1), noise(channels, shared + new + 50, 2)
    result = joined(phrase, decoded, shared, new, block)
    assert result.shape == (channels, frames + new)
    kept = frames - min(FADE, frames, shared)
    assert np.array_equal(result[:, :kept], phrase[:, :kept])
    assert np.array_equal(result[:, frames:], decoded[:, shared : shared + new])


def test_join_of_a_perfect_codec_is_the_sound_itself() -> None:
    sound = sine(4000, 220)
    np.testing.assert_allclose(joined(sound[:, :3000], sound[:, 1000:], 2000, 1000), sound, atol=1e-6)


def test_join_of_unlike_sounds_keeps_the_level_within_the_fade() -> None:
    """A plain linear fade of independent noise is 3 dB quieter in the middle."""
    middles = []
    for seed in range(200):
        result = joined(noise(1, 1000, 2 * seed), noise(1, 1500, 2 * seed + 1), 1000, 500)
        middles.append(result[:, 1000 - FADE // 2 - 20 : 1000 - FADE // 2 + 20])
    assert 20 * np.log10(np.std(middles) / 0.1) == pytest.approx(0.0, abs=0.5)


@pytest.mark.parametrize("phase", [0.0, 1.0, 2.0, np.pi])
@pytest.mark.parametrize("hz", [110.0, 440.0])
def test_join_makes_no_step_that_the_phrase_does_not_make(hz: float, phase: float) -> None:
    """A codec keeps the pitch, not always the phase; without a cross-fade the same sounds click."""
    phrase, decoded = sine(4000, hz), sine(5000, hz, phase)
    largest = np.abs(np.diff(phrase)).max()
    result = joined(phrase, decoded, 4000, 1000)
    assert np.abs(np.diff(result)).max() < 1.3 * largest
    if phase in (1.0, 2.0):  # else both are 0 where they meet
        hard = np.concatenate([phrase, decoded[:, 4000:]], axis=1)
        assert np.abs(np.diff(hard)).max() > 1.3 * largest


def phrase_of(seconds: float, rate_hz: int, channels: int, seed: int = 3) -> Audio:
    return Audio(noise(channels, round(seconds * rate_hz), seed), rate_hz)


@pytest.mark.parametrize(
    ("seconds", "rate_hz", "channels"),
    [(0.3, 800, 1), (0.31, 800, 2), (0.2, 44100, 2), (0.505, 16000, 1), (1.7, 48000, 6), (0.02, 800, 1)],
)
def test_generate_from_a_phrase_of_any_form(shared: MusicGen, seconds: float, rate_hz: int, channels: int) -> None:
    """Rates, channels and lengths, also of more than the window of 0.5 s, and with broken frames."""
    phrase = phrase_of(seconds, rate_hz, channels)
    options = {"prompt": "a", "seconds": 0.7, "seed": 5}
    own = phrase.resample(shared.rate_hz).to_channels(shared.channels)
    kept = shared.generate_from(phrase, **options).read()
    alone = shared.generate_from(phrase, keep_phrase=False, **options).read()
    assert alone.samples.shape == (shared.channels, round(0.7 * shared.rate_hz))
    assert kept.frames == own.frames + alone.frames
    assert kept.peak < 1.0  # else all of it would have been turned down
    before = own.frames - min(round(0.04 * shared.rate_hz), own.frames)
    assert np.array_equal(kept.samples[:, :before], own.samples[:, :before])
    assert np.array_equal(kept.samples[:, own.frames :], alone.samples)
    again = shared.generate_from(phrase, **options).read()
    assert np.array_equal(kept.samples, again.samples)


def test_phrases_in_a_batch_are_gone_on_from_as_each_alone(shared: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lengths of phrases and pieces, seeds and prompts differ, some reach beyond the window of 0.5 s; two rows only."""
    forms = [(0.3, 800, 1), (1.7, 48_000, 2), (0.02, 800, 1), (0.81, 16_000, 1)]
    phrases = [phrase_of(*form, seed=7 + number) for number, form in enumerate(forms)]
    phrases.append(phrases[0])
    prompts, seconds, seeds = ["a", "low drums", "", "ney", "a"], [0.7, 0.1, 1.3, 0.5, 0.7], [5, 0, 3, 5, 6]
    alone = [shared.generate_from(*each) for each in zip(phrases, prompts, seconds, seeds, strict=True)]
    tokens: list[int] = []
    parts = type(shared).generate_parts

    def watch(self: MusicGen, prompts: list[str], *arguments: object, **named: object) -> object:
        tokens.append(len(prompts))
        return parts(self, prompts, *arguments, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(type(shared), "generate_parts", watch)
    monkeypatch.setattr(decoding, "rows_that_fit", lambda *_: 2)
    for under_way in (False, True):
        together = dict(shared.generate_from_each(phrases, prompts, seconds, seeds, under_way=under_way))
        assert sorted(together) == list(range(5))
        for row, clip in together.items():
            assert np.array_equal(clip.read().samples, alone[row].read().samples), row
    assert tokens == [5, 5]  # all in one batch


def test_generate_from_goes_on_from_the_tokens_at_the_end_of_the_phrase(shared: MusicGen) -> None:
    """A phrase with a broken frame is used in whole frames that end where it ends."""
    phrase = phrase_of(0.317, shared.rate_hz, shared.channels)
    frames = 15  # of 16 samples, of 253.6
    tokens = shared.encode(Audio(phrase.samples[:, -frames * 16 :], shared.rate_hz))
    assert tokens.shape[1] == frames
    assert shared.context_seconds(0.317) == pytest.approx(0.3)
    new = shared.generate_tokens(["a"], 0.4, seed=2, start=tokens[None])[0]
    decoded = shared.decode(np.concatenate([tokens, new], axis=1))
    alone = shared.generate_from(phrase, "a", 0.4, 2, keep_phrase=False).read()
    assert alone.peak < 1.0
    np.testing.assert_allclose(alone.samples, decoded.samples[:, frames * 16 :], atol=1e-6)


def test_generate_from_depends_on_the_phrase_prompt_and_seed(shared: MusicGen) -> None:
    def run(seed: int = 0, prompt: str = "a", phrase: int = 3) -> np.ndarray:
        sound = phrase_of(0.3, 800, 1, phrase)
        return shared.generate_from(sound, prompt, 0.5, seed, keep_phrase=False, guidance_scale=9.0).read().samples

    plain = run()
    assert not any(
        np.array_equal(plain, other) for other in (run(seed=1), run(prompt="low drums, fast and loud"), run(phrase=4))
    )


def test_generate_from_hears_a_window_at_most(shared: MusicGen) -> None:
    """Window 25, overlap 10: what lies before changes nothing, what lies within does."""
    heard = {seconds: round(shared.context_seconds(seconds) * 50) for seconds in (0.02, 0.48, 0.5, 0.78, 0.8, 60.0)}
    assert heard == {0.02: 1, 0.48: 24, 0.5: 10, 0.78: 24, 0.8: 10, 60.0: 10 + (3000 - 25) % 15}
    phrase = phrase_of(0.9, shared.rate_hz, shared.channels)
    count = round(shared.context_seconds(0.9) * shared.rate_hz)

    def run(changed: int) -> np.ndarray:
        samples = phrase.samples.copy()
        samples[:, changed] += 0.5
        return shared.generate_from(Audio(samples, 800), "a", 0.3, 0, keep_phrase=False).read().samples

    assert np.array_equal(run(0), run(phrase.frames - count - 1))
    assert not np.array_equal(run(0), run(phrase.frames - count // 2))


def test_generate_from_a_phrase_shorter_than_a_frame_raises_usage_error(shared: MusicGen) -> None:
    with pytest.raises(UsageError, match=r"the phrase is 0\.010 s long; .* goes on from 0\.02 s or more"):
        shared.generate_from(phrase_of(0.01, 800, 1), "a", 0.5, 0)


def test_generate_from_with_a_strength_raises_usage_error(shared: MusicGen) -> None:
    with pytest.raises(UsageError, match=r"--strength is no option of .*goes on from the end of a phrase"):
        shared.generate_from(phrase_of(0.3, 800, 1), "a", 0.5, 0, strength=0.5)
