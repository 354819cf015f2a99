"""Generation: seeds, batches, guidance, exact lengths, continuation beyond the window."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers.generation.logits_process import (
    ClassifierFreeGuidanceLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
)

from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.decoding import Decoder
from talim.errors import UsageError

PROMPTS = ["ney, slow", "tabla and voice, fast", "x"]


@given(st.floats(0.01, 400), st.sampled_from([20.0, 30.0, 1.0]))
def test_split_into_windows_adds_up_and_fits_the_window(seconds: float, window_seconds: float) -> None:
    plan = sampling.split_into_windows(seconds, 50, window_seconds)
    total = sum(window.new_frames for window in plan)
    assert total - 1 < seconds * 50 <= total + 1e-3
    assert all(window.new_frames > 0 for window in plan)
    assert all(window.context_frames + window.new_frames <= window_seconds * 50 for window in plan)
    assert plan[0].context_frames == 0
    assert all(window.context_frames == int(0.4 * window_seconds * 50) for window in plan[1:])


def test_split_into_windows_equals_audiocraft() -> None:
    assert sampling.split_into_windows(45.0, 50, 30.0) == (
        sampling.GenerationWindow(0, 1500),
        sampling.GenerationWindow(600, 750),
    )
    assert len(sampling.split_into_windows(30.0, 50, 30.0)) == 1


@given(st.integers(0, 4000), st.floats(0.02, 100), st.sampled_from([20.0, 30.0, 1.0]))
def test_split_into_windows_goes_on_as_one_piece(there: int, seconds: float, window_seconds: float) -> None:
    """Its boundaries are those of a piece of the whole length, as far as they lie beyond what is there."""
    rest = sampling.split_into_windows(seconds, 50, window_seconds, there)
    new = sum(window.new_frames for window in rest)
    whole = sampling.split_into_windows((there + new) / 50, 50, window_seconds)

    def begins_and_ends(windows: tuple[sampling.GenerationWindow, ...], at: int) -> list[tuple[int, int]]:
        spans = []
        for window in windows:
            spans.append((at - window.context_frames, at + window.new_frames))
            at += window.new_frames
        return spans

    expected = [span for span in begins_and_ends(whole, 0) if span[1] > there]
    assert begins_and_ends(rest, there) == expected
    assert rest[0].context_frames == sampling.context_frames(there, 50, window_seconds)


@pytest.mark.parametrize("seconds", [0.02, 0.06, 0.5, 1.3])
def test_generate_gives_the_exact_length(shared: MusicGen, seconds: float) -> None:
    pieces = shared.generate(PROMPTS[:2], seconds, seed=1)
    assert [piece.samples.shape for piece in pieces] == [(shared.channels, round(seconds * 800))] * 2
    assert all(np.isfinite(piece.samples).all() for piece in pieces)


def test_generate_depends_on_the_seed_only(shared: MusicGen) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    first = shared.generate_tokens(PROMPTS, 0.6, seed=7)
    assert torch.equal(torch.rand(3), expected)  # others' random numbers are not touched
    assert np.array_equal(first, shared.generate_tokens(PROMPTS, 0.6, seed=7))
    assert not np.array_equal(first, shared.generate_tokens(PROMPTS, 0.6, seed=8))
    assert first.min() >= 0
    assert first.max() < 32


def greedy(model: MusicGen, prompts: list[str], seconds: float, guidance_scale: float = 3.0) -> np.ndarray:
    return model.generate_tokens(prompts, seconds, seed=0, guidance_scale=guidance_scale, temperature=0)


def test_generate_batch_equals_single_prompts(shared: MusicGen) -> None:
    together = greedy(shared, PROMPTS, 0.6)
    for row, prompt in zip(together, PROMPTS, strict=True):
        assert np.array_equal(row, greedy(shared, [prompt], 0.6)[0])


@pytest.mark.parametrize(("temperature", "top_k", "guidance_scale"), [(1.0, 0, 1.0), (0.7, 5, 3.0), (1.3, 20, 1.0)])
def test_codes_are_drawn_as_transformers_draws_them(temperature: float, top_k: int, guidance_scale: float) -> None:
    """Chi-square of 40,000 draws against the probabilities of transformers' own processors."""
    generator = torch.Generator().manual_seed(3)
    logits = torch.randn(2 if guidance_scale > 1 else 1, 1, 24, generator=generator) * 2
    options = sampling.SamplingOptions(1.0, 0, guidance_scale, temperature, top_k)
    scores = logits[:, 0]
    ids = torch.zeros(1, 1, dtype=torch.long)
    if guidance_scale > 1:
        scores = ClassifierFreeGuidanceLogitsProcessor(guidance_scale)(ids, scores)
    scores = TemperatureLogitsWarper(temperature)(ids, scores)
    if top_k:
        scores = TopKLogitsWarper(top_k)(ids, scores)
    expected = scores.softmax(dim=-1)[0].double().numpy()
    draws = torch.rand(40_000, generator=generator)[:, None]
    many = logits.repeat_interleave(len(draws), dim=0)
    drawn = sampling.draw_codes(many, draws, options)[:, 0]
    counts = np.bincount(drawn.numpy(), minlength=24)
    assert not counts[expected == 0].any()
    possible = expected > 0
    assert chisquare(counts[possible], expected[possible] / expected.sum() * len(draws)).pvalue > 1e-3
    # the test sees a temperature that is off by a tenth
    other = sampling.draw_codes(many, draws, replace(options, temperature=1.1 * temperature))[:, 0]
    counts = np.bincount(other.numpy(), minlength=24)
    assert chisquare(counts[possible], expected[possible] / expected.sum() * len(draws)).pvalue < 1e-6


def test_codes_are_drawn_at_the_ends_of_the_interval() -> None:
    logits = torch.tensor([[[-torch.inf, 0.0, 0.0, -torch.inf]]])
    options = sampling.SamplingOptions(1.0, 0, 1.0, 1.0, 0)
    for uniform, code in ((0.0, 1), (0.4999, 1), (0.5001, 2), (1 - 2**-24, 2)):
        assert int(sampling.draw_codes(logits, torch.tensor([[uniform]]), options)) == code


def test_generate_depends_on_prompt_and_guidance(shared: MusicGen) -> None:
    plain, guided = greedy(shared, PROMPTS[:2], 0.4, guidance_scale=1.0), greedy(shared, PROMPTS[:2], 0.4)
    assert not np.array_equal(plain, guided)
    assert not np.array_equal(guided[0], guided[1])


def manual_logits(model: MusicGen, sequence: torch.Tensor, prompt: str, guidance_scale: float) -> torch.Tensor:
    """Guided logits of the last step, [K, V], from uncached forwards with and without text."""
    states = torch.from_numpy(model.encode_text([prompt])[0])[None]
    text = {"input_ids": model._tokenize([prompt])[0]} if model.melody_rate_hz else {"encoder_outputs": (states,)}
    both = []
    for mask in (torch.ones(1, states.shape[1]), torch.zeros(1, states.shape[1])):
        with torch.no_grad():
            output = model.model(**text, attention_mask=mask.long(), decoder_input_ids=sequence, use_cache=False)
        both.append(output.logits[:, -1])
    return both[1] + guidance_scale * (both[0] - both[1])


def greedy_reference(
    model: MusicGen, prompt: str, frames: int, context: torch.Tensor, guidance_scale: float
) -> np.ndarray:
    """Greedy decoding with delay pattern and guidance, without cache."""
    codebooks, special = model.codebooks, model.special_token
    codes = torch.full((codebooks, frames), -1, dtype=torch.int64)
    codes[:, : context.shape[1]] = context
    sequence = torch.full((codebooks, frames + max(model.delays) + 1), special)
    for k, shift in enumerate(model.delays):
        sequence[k, shift + 1 : shift + 1 + frames] = codes[k]
    for step in range(1, sequence.shape[1]):
        if (sequence[:, step] == -1).any():
            best = manual_logits(model, sequence[:, :step], prompt, guidance_scale).argmax(dim=-1)
            sequence[:, step] = torch.where(sequence[:, step] == -1, best, sequence[:, step])
    rows = [sequence[k, s + 1 : s + 1 + frames] for k, s in enumerate(model.delays)]
    return torch.stack(rows).numpy()


def test_generate_greedy_equals_the_reference(shared: MusicGen) -> None:
    expected = greedy_reference(shared, PROMPTS[0], 15, torch.zeros(shared.codebooks, 0, dtype=torch.int64), 3.0)
    assert np.array_equal(greedy(shared, PROMPTS[:1], 0.3)[0], expected)


def test_generate_beyond_the_window_continues_from_the_overlap(shared: MusicGen) -> None:
    """Window 25, overlap 10: frames from 25 on continue frames 15 to 24 as a prompt."""
    codes = greedy(shared, PROMPTS[:1], 0.7)[0]
    assert np.array_equal(codes[:, :25], greedy(shared, PROMPTS[:1], 0.5)[0])
    context = torch.from_numpy(codes[:, 15:25].astype(np.int64))
    expected = greedy_reference(shared, PROMPTS[0], 20, context, 3.0)
    assert np.array_equal(codes[:, 25:], expected[:, 10:])


@pytest.mark.parametrize(
    ("guidance_scale", "cuts"),
    [
        (3.0, (3, 25, 41)),
        pytest.param(3.0, (1, 2, 4, 17, 24, 26, 39, 40, 49), marks=pytest.mark.slow),
        pytest.param(1.0, (1, 2, 3, 17, 24, 25, 26, 40, 49), marks=pytest.mark.slow),
    ],
)
def test_generate_from_tokens_equals_the_uninterrupted_piece(
    shared: MusicGen, guidance_scale: float, cuts: tuple[int, ...]
) -> None:
    """55 frames in windows of 25 with an overlap of 10: cut in the first window, at and between its successors."""
    whole = greedy(shared, PROMPTS[:2], 1.1, guidance_scale)
    for there in cuts:
        rest = shared.generate_tokens(
            PROMPTS[:2],
            (55 - there) / 50,
            seed=1,
            guidance_scale=guidance_scale,
            temperature=0,
            start=whole[:, :, :there],
        )
        assert np.array_equal(rest, whole[:, :, there:]), there


def test_generate_from_tokens_hears_every_code_of_the_last_frame(shared: MusicGen) -> None:
    """In the delay pattern the last frame's higher codebooks come after the first new code; none may be lost."""
    start = np.random.default_rng(0).integers(0, 32, (shared.codebooks, 12)).astype(np.int64)
    expected = greedy_reference(shared, PROMPTS[0], 24, torch.from_numpy(start), 3.0)[:, 12:]
    codes = shared.generate_tokens(PROMPTS[:1], 0.24, seed=0, temperature=0, start=start[None])[0]
    assert np.array_equal(codes, expected)
    changed = start.copy()
    late = [shift > 0 for shift in shared.delays]
    changed[late, -1] = (changed[late, -1] + 7) % 32
    others = shared.generate_tokens(PROMPTS[:1], 0.24, seed=0, temperature=0, start=changed[None])[0]
    assert np.array_equal(others[0, :1], codes[0, :1])  # predicted before these codes are read
    assert not np.array_equal(others, codes)


def test_generate_never_exceeds_the_window(shared: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    positions = []
    step = Decoder.step

    def watch(self: Decoder, tokens: torch.Tensor) -> torch.Tensor:
        positions.append(int(self.position[0]))
        return step(self, tokens)

    monkeypatch.setattr(Decoder, "step", watch)
    shared.generate_tokens(PROMPTS[:1], 1.26, seed=0)
    # 25 frames, then 15, 15 and 8 new ones after 10 that are there, each with the steps of the delays
    before, delays = positions[0], max(shared.delays)
    spans = [(0, 25), (10, 25), (10, 25), (10, 18)]
    expected = [frame for first, last in spans for frame in range(first, last + delays)]
    assert [position - before for position in positions] == expected


def test_generate_reports_progress_in_frames_of_all_pieces(shared: MusicGen) -> None:
    calls: list[tuple[int, int]] = []
    shared.generate_tokens(PROMPTS[:2], 0.7, seed=0, progress=lambda done, total: calls.append((done, total)))
    assert {total for _, total in calls} == {70}
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1] == (70, 70)


def test_generate_from_tokens_reports_progress_of_the_new_frames(shared: MusicGen) -> None:
    calls: list[tuple[int, int]] = []
    start = np.zeros((1, shared.codebooks, 20), np.int16)
    shared.generate_tokens(PROMPTS[:1], 0.3, seed=0, start=start, progress=lambda *done: calls.append(done))
    assert {total for _, total in calls} == {15}
    assert calls[0][0] == 1
    assert calls[-1] == (15, 15)


def test_generate_restores_modes_and_codec(modifiable: MusicGen) -> None:
    modifiable.enable_training()
    modes = [module.training for module in modifiable.model.modules()]
    modifiable.generate(PROMPTS[:1], 0.2, seed=0)
    assert [module.training for module in modifiable.model.modules()] == modes
    assert "decode" not in modifiable.model.audio_encoder.__dict__


def test_generate_that_fails_restores_the_codec(modifiable: MusicGen) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        modifiable.generate(PROMPTS[:1], 0.5, seed=0, progress=stop)
    assert "decode" not in modifiable.model.audio_encoder.__dict__


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seconds": -3.0}, "length -3.0 s"),
        ({"seconds": 0.0}, "above 0"),
        ({"seconds": float("nan")}, "length nan"),
        ({"guidance_scale": 0.5}, "guidance_scale 0.5"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"top_k": -1}, "top-k -1"),
    ],
)
def test_generate_invalid_options_raises_usage_error(shared: MusicGen, change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        shared.generate(PROMPTS[:1], **({"seconds": 1.0, "seed": 0} | change))
