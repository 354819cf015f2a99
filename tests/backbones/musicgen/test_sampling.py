"""Generation: seeds, batches, guidance, exact lengths, and continuation beyond the window."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.errors import UsageError

PROMPTS = ["ney, slow", "tabla and voice, fast", "x"]


@given(st.floats(0.01, 400), st.sampled_from([20.0, 30.0, 1.0]))
def test_windows_add_up_and_fit(seconds: float, window_seconds: float) -> None:
    plan = sampling.split_into_windows(seconds, 50, window_seconds)
    total = sum(window.new_frames for window in plan)
    assert total - 1 < seconds * 50 <= total + 1e-3
    assert all(window.new_frames > 0 for window in plan)
    assert all(window.context_frames + window.new_frames <= window_seconds * 50 for window in plan)
    assert plan[0].context_frames == 0
    assert all(window.context_frames == int(0.4 * window_seconds * 50) for window in plan[1:])


def test_the_originals_window() -> None:
    assert sampling.split_into_windows(45.0, 50, 30.0) == (
        sampling.GenerationWindow(0, 1500),
        sampling.GenerationWindow(600, 750),
    )
    assert len(sampling.split_into_windows(30.0, 50, 30.0)) == 1


@pytest.mark.parametrize("seconds", [0.02, 0.06, 0.5, 1.3])
def test_lengths_are_exact(shared: MusicGen, seconds: float) -> None:
    pieces = shared.generate(PROMPTS[:2], seconds, seed=1)
    assert [piece.samples.shape for piece in pieces] == [(shared.channels, round(seconds * 800))] * 2
    assert all(np.isfinite(piece.samples).all() for piece in pieces)


def test_seeds(shared: MusicGen) -> None:
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


def test_a_batch_is_its_pieces(shared: MusicGen) -> None:
    together = greedy(shared, PROMPTS, 0.6)
    for row, prompt in zip(together, PROMPTS, strict=True):
        assert np.array_equal(row, greedy(shared, [prompt], 0.6)[0])


def test_prompt_and_guidance_matter(shared: MusicGen) -> None:
    plain, guided = greedy(shared, PROMPTS[:2], 0.4, guidance_scale=1.0), greedy(shared, PROMPTS[:2], 0.4)
    assert not np.array_equal(plain, guided)
    assert not np.array_equal(guided[0], guided[1])


def manual_logits(model: MusicGen, sequence: torch.Tensor, prompt: str, guidance_scale: float) -> torch.Tensor:
    """Guided logits of the last step from one uncached forward each for text and null, [K, V]."""
    states = torch.from_numpy(model.encode_text([prompt])[0])[None]
    both = []
    for mask in (torch.ones(1, states.shape[1]), torch.zeros(1, states.shape[1])):
        with torch.no_grad():
            output = model.model(
                encoder_outputs=(states,),
                attention_mask=mask.long(),
                decoder_input_ids=sequence,
                use_cache=False,
            )
        both.append(output.logits[:, -1])
    return both[1] + guidance_scale * (both[0] - both[1])


def by_hand(model: MusicGen, prompt: str, frames: int, heard: torch.Tensor, guidance_scale: float) -> np.ndarray:
    """Greedy decoding written out: delayed, guided, without any cache."""
    codebooks, special = model.codebooks, model.special
    codes = torch.full((codebooks, frames), -1, dtype=torch.int64)
    codes[:, : heard.shape[1]] = heard
    sequence = torch.full((codebooks, frames + max(model.shifts) + 1), special)
    for k, shift in enumerate(model.shifts):
        sequence[k, shift + 1 : shift + 1 + frames] = codes[k]
    for step in range(1, sequence.shape[1]):
        if (sequence[:, step] == -1).any():
            best = manual_logits(model, sequence[:, :step], prompt, guidance_scale).argmax(dim=-1)
            sequence[:, step] = torch.where(sequence[:, step] == -1, best, sequence[:, step])
    rows = [sequence[k, s + 1 : s + 1 + frames] for k, s in enumerate(model.shifts)]
    return torch.stack(rows).numpy()


def test_generation_equals_decoding_by_hand(shared: MusicGen) -> None:
    expected = by_hand(shared, PROMPTS[0], 15, torch.zeros(shared.codebooks, 0, dtype=torch.int64), 3.0)
    assert np.array_equal(greedy(shared, PROMPTS[:1], 0.3)[0], expected)


def test_continuation_hears_the_overlap_and_starts_a_new_cache(shared: MusicGen) -> None:
    """Window 25, overlap 10: frames 25.. are what the model makes of frames 15..24 as its beginning."""
    made = greedy(shared, PROMPTS[:1], 0.7)[0]
    assert np.array_equal(made[:, :25], greedy(shared, PROMPTS[:1], 0.5)[0])
    heard = torch.from_numpy(made[:, 15:25].astype(np.int64))
    expected = by_hand(shared, PROMPTS[0], 20, heard, 3.0)
    assert np.array_equal(made[:, 25:], expected[:, 10:])


def test_never_more_than_a_window_is_fed(shared: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = []
    generate = type(shared.model).generate

    def watch(self: object, **arguments: object) -> object:
        lengths.append(arguments["max_length"])
        return generate(self, **arguments)

    monkeypatch.setattr(type(shared.model), "generate", watch)
    shared.generate_tokens(PROMPTS[:1], 1.26, seed=0)
    assert lengths == [25 + 4, 25 + 4, 25 + 4, 10 + 8 + 4]  # 25, then 15, 15 and 8 new frames


def test_progress_counts_frames(shared: MusicGen) -> None:
    told: list[tuple[int, int]] = []
    shared.generate_tokens(PROMPTS[:2], 0.7, seed=0, progress=lambda done, total: told.append((done, total)))
    assert {total for _, total in told} == {35}
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1] == (35, 35)


def test_modes_and_codec_are_as_before(own: MusicGen) -> None:
    own.enable_training()
    modes = [module.training for module in own.model.modules()]
    own.generate(PROMPTS[:1], 0.2, seed=0)
    assert [module.training for module in own.model.modules()] == modes
    assert "decode" not in own.model.audio_encoder.__dict__


def test_the_codec_comes_back_after_a_failure(own: MusicGen) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        own.generate(PROMPTS[:1], 0.5, seed=0, progress=stop)
    assert "decode" not in own.model.audio_encoder.__dict__


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seconds": -3.0}, "length -3.0 s"),
        ({"seconds": 0.0}, "above 0"),
        ({"seconds": float("nan")}, "length nan"),
        ({"guidance_scale": 0.5}, "guidance_scale 0.5"),
        ({"temperature": -1.0}, "temperature -1.0"),
        ({"top_k": -1}, "top-k -1"),
    ],
)
def test_nonsense_is_refused(shared: MusicGen, change: dict, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        shared.generate(PROMPTS[:1], **({"seconds": 1.0, "seed": 0} | change))
