"""Predictors that need no model: golden values computed by hand, properties, and the held-out loss of a real base."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import tiny_nano_mustango
from hypothesis import given, settings
from hypothesis import strategies as st

from talim.backbones.load import load
from talim.corpus.manifest import Clip
from talim.evaluation.evaluate import compare_losses
from talim.evaluation.held_out_loss import per_clip_losses
from talim.progress import Progress
from talim.training import reference_predictors
from talim.training.crops import EncodedClip
from talim.training.reference_predictors import (
    LAST_TOKEN,
    MAX_COPY_WEIGHT,
    SMOOTHING,
    UNIFORM,
    UNIGRAM,
    TokenPredictors,
    fit_copy_weight,
    fit_token_predictors,
    measure_reference_losses,
    mixture,
    repeats,
)

SETTINGS = settings(max_examples=25, deadline=None)


def encoded(targets: np.ndarray, recording: str, width: int = 24, shares: str = "") -> EncodedClip:
    clip = Clip(
        id=recording, file="", recording=recording, performer="unknown", start_seconds=0.0, seconds=1.0, caption="",
        split="train", audio_hash="", source_file="", source_hash="", shares_sound_with=shares,
    )  # fmt: skip
    return EncodedClip(clip, targets, np.ones((3, width), np.float32))


def random_clips(seed: int, count: int = 4, size: int = 6, frames: int = 40) -> list[np.ndarray]:
    """Clips of two codebooks of unequal length, with frequent tokens and repetitions."""
    rng = np.random.default_rng(seed)
    odds = rng.dirichlet(np.ones(size))
    clips = []
    for _ in range(count):
        own = rng.choice(size, (2, int(rng.integers(2, frames))), p=odds)
        for t in range(1, own.shape[1]):
            own[:, t] = np.where(rng.random(2) < 0.5, own[:, t - 1], own[:, t])
        clips.append(own.astype(np.int16))
    return clips


def test_losses_are_those_computed_by_hand() -> None:
    """Half the mass on token 0, a quarter on 1 and 2 each; half of the mixture on the last token."""
    predictors = TokenPredictors(np.array([[0.5, 0.25, 0.25]]), np.array([0.5]), np.array([1.0]))
    found = predictors.losses(np.array([[0, 0, 1, 2, 2]]))
    # the first token has no last one: 1/2; 0 again: 1/4 + 1/2; 1 after 0: 1/8; 2 after 1: 1/8; 2 again: 1/8 + 1/2
    assert found[LAST_TOKEN][0] == pytest.approx(-math.log(1 / 2 * 3 / 4 * 1 / 8 * 1 / 8 * 5 / 8) / 5, abs=1e-12)
    assert found[UNIGRAM][0] == pytest.approx(-math.log(1 / 2 * 1 / 2 * 1 / 4 * 1 / 4 * 1 / 4) / 5, abs=1e-12)
    assert found[UNIFORM][0] == pytest.approx(math.log(3), abs=1e-12)


def test_weight_of_the_last_token_is_the_one_computed_by_hand() -> None:
    """Three repeats and one change, all of unigram probability p: the loss is least at weight (3/4 - p) / (1 - p)."""
    p = 0.2
    weight = fit_copy_weight(np.full(5, p), np.array([np.nan, 1, 1, 1, 0]))
    assert weight == pytest.approx((3 / 4 - p) / (1 - p), abs=1e-9)
    assert fit_copy_weight(np.full(4, p), np.array([np.nan, 0, 0, 0])) == 0.0
    assert fit_copy_weight(np.full(4, p), np.array([np.nan, 1, 1, 1])) == MAX_COPY_WEIGHT
    assert fit_copy_weight(np.full(1, p), np.array([np.nan])) == 0.0


def test_unigram_is_counted_over_all_training_clips_with_the_fitted_smoothing() -> None:
    clips = [np.array([[0, 0, 1]]), np.array([[0, 2]])]
    fitted = fit_token_predictors(clips, ["a", "b"], 4)
    s = fitted.smoothing[0]
    assert s in SMOOTHING
    assert fitted.probabilities[0] == pytest.approx(np.array([3 + s, 1 + s, 1 + s, s]) / (5 + 4 * s))
    # each clip from the other one: of the first, 0 0 1 with counts 1 0 1 0 of 2; of the second, 0 2 with 2 1 0 0 of 3
    by_hand = {
        each: -2 * math.log((1 + each) / (2 + 4 * each)) - math.log(each / (2 + 4 * each))
        - math.log((2 + each) / (3 + 4 * each)) - math.log(each / (3 + 4 * each))
        for each in SMOOTHING
    }  # fmt: skip
    assert s == min(by_hand, key=lambda each: by_hand[each])


@given(st.integers(0, 10_000))
@SETTINGS
def test_mixture_is_never_worse_than_its_parts_on_what_it_was_fitted_to(seed: int) -> None:
    rng = np.random.default_rng(seed)
    tokens = random_clips(seed, 1)[0][0]
    unigram, repeated = rng.uniform(0.01, 0.9, len(tokens)), repeats(tokens)

    def loss(weight: float) -> float:
        return float(-np.log(mixture(unigram, repeated, weight)).sum())

    best = fit_copy_weight(unigram, repeated)
    assert 0 <= best <= MAX_COPY_WEIGHT
    assert all(loss(best) <= loss(weight) + 1e-9 for weight in np.linspace(0, MAX_COPY_WEIGHT, 50))


@given(st.integers(0, 10_000))
@SETTINGS
def test_predictors_are_distributions_and_the_order_of_clips_changes_nothing(seed: int) -> None:
    clips, names = random_clips(seed, 7), [f"recording {n // 2}" for n in range(7)]
    fitted = fit_token_predictors(clips, names, 6)
    assert fitted.probabilities.sum(axis=1) == pytest.approx(1.0)
    assert (fitted.probabilities > 0).all()
    for last in range(6):  # of every token after any other: the mixture adds up to one
        after = (np.arange(6) == last).astype(float)
        assert mixture(fitted.probabilities[0], after, fitted.copy_weights[0]).sum() == pytest.approx(1.0)
    order = np.random.default_rng(seed).permutation(7)
    again = fit_token_predictors([clips[n] for n in order], [names[n] for n in order], 6)
    assert again.probabilities == pytest.approx(fitted.probabilities)
    assert again.copy_weights == pytest.approx(fitted.copy_weights, abs=1e-6)


def test_scored_clips_decide_nothing_and_better_knowledge_has_a_lower_loss() -> None:
    """On music that repeats its tokens: uniform above unigram above last token, these at the entropies."""
    rng = np.random.default_rng(0)
    odds = np.array([0.6, 0.2, 0.1, 0.05, 0.05])

    def perform() -> np.ndarray:
        row = rng.choice(5, 4000, p=odds)
        for t in range(1, len(row)):
            row[t] = row[t - 1] if rng.random() < 0.7 else row[t]
        return row[None]

    fitted = fit_token_predictors([perform() for _ in range(6)], list("abcdef"), 5)
    assert fitted.copy_weights[0] == pytest.approx(0.7, abs=0.02)
    losses = fitted.losses(perform())
    entropy = -(odds * np.log(odds)).sum()
    assert losses[UNIGRAM][0] == pytest.approx(entropy, abs=0.05)
    stays = 0.7 + 0.3 * odds
    conditional = -(odds * (stays * np.log(stays))).sum()  # after each token: it again, or another one
    conditional -= sum(odds[a] * 0.3 * odds[b] * np.log(0.3 * odds[b]) for a in range(5) for b in range(5) if a != b)
    assert losses[LAST_TOKEN][0] == pytest.approx(conditional, abs=0.05)
    assert losses[UNIFORM][0] > losses[UNIGRAM][0] > losses[LAST_TOKEN][0]


@pytest.mark.parametrize(
    ("clips", "note"),
    [
        (random_clips(1, 5), reference_predictors.ONE_RECORDING),
        (random_clips(1, 1), reference_predictors.ONE_CLIP),
        ([np.array([[3], [1]])], reference_predictors.ONE_CLIP),  # one frame: its halves are nothing and itself
    ],
)
def test_one_training_recording_is_a_named_fallback(clips: list[np.ndarray], note: str) -> None:
    fitted = fit_token_predictors(clips, ["only"] * len(clips), 6)
    assert fitted.note == note
    assert all(np.isfinite(rows).all() for rows in fitted.losses(np.array([[5, 5, 0], [0, 1, 2]])).values())
    order = list(reversed(range(len(clips))))
    again = fit_token_predictors([clips[n] for n in order], ["only"] * len(clips), 6)
    assert again.copy_weights == pytest.approx(fitted.copy_weights, abs=1e-6)
    assert fit_token_predictors(random_clips(1, 4), ["a", "a", "b", "b"], 6).note == ""


def test_tokens_outside_of_the_codebook_and_no_clips_are_refused() -> None:
    with pytest.raises(ValueError, match="tokens 0 to 6; the codebooks have 0 to 5"):
        fit_token_predictors([np.array([[0, 6]])], ["a"], 6)
    with pytest.raises(ValueError, match="no training clips"):
        fit_token_predictors([], [], 6)


def test_a_base_that_is_the_unigram_has_the_unigrams_loss(tiny_base: Path) -> None:
    """Same tokens, mask and weighting: a real base's logits are set to the unigram's; clips are padded."""
    backbone: Any = load(str(tiny_base), precision="fp32", device="cpu")
    backbone.model.eval()
    rng = np.random.default_rng(0)
    training, held_out = (
        [encoded(rng.integers(0, 64, (4, int(n))).astype(np.int16), f"{side} {n % 3}") for n in rng.integers(3, 30, 7)]
        for side in ("training", "held out")
    )
    references = measure_reference_losses(training, held_out, backbone, 3)
    names = [clip.clip.sound_group for clip in training]
    unigram = fit_token_predictors([clip.targets for clip in training], names, backbone.codebook_size).probabilities
    decoder = backbone.model.decoder
    with torch.no_grad():
        norm = decoder.model.decoder.layer_norm
        norm.weight.zero_()
        norm.bias.zero_()
        norm.bias[0] = 1.0
        for head, row in zip(decoder.lm_heads, unigram, strict=True):
            head.weight.zero_()
            head.weight[:, 0] = torch.from_numpy(np.log(row))
    losses = per_clip_losses(backbone, held_out, 3, Progress(), "")
    assert losses == pytest.approx(references.losses[UNIGRAM], abs=1e-6)
    assert references.losses[UNIFORM] == pytest.approx(np.full((7, 4), math.log(64)))
    recordings = [clip.clip.sound_group for clip in held_out]
    known = compare_losses(losses, losses, recordings, references=references)
    best = known["reference_predictors"]["losses"]["unigram"]
    assert known["base_loss"]["mean"] == pytest.approx(best["mean"], abs=1e-6)
    assert known["base_loss"]["per_part"] == pytest.approx(best["per_part"], abs=1e-6)
    assert known["reference_predictors"]["unit"] == "nats per token"


def test_copies_of_one_sound_count_once() -> None:
    rng = np.random.default_rng(3)
    held_out = [rng.integers(0, 6, (2, 20)) for _ in range(3)]
    fitted = fit_token_predictors(random_clips(3), list("aabb"), 6)
    rows = np.stack([fitted.losses(clip)[UNIGRAM] for clip in held_out])
    references = reference_predictors.ReferenceLosses({UNIGRAM: rows}, {})
    copied = reference_predictors.ReferenceLosses({UNIGRAM: np.concatenate([rows, rows[:1]])}, {})
    once = compare_losses(rows, rows, ["a", "b", "c"], references=references)
    twice = compare_losses(copied.losses[UNIGRAM], copied.losses[UNIGRAM], ["a", "b", "c", "a"], references=copied)
    for found in (once, twice):
        assert found["reference_predictors"]["losses"][UNIGRAM]["n_recordings"] == 3
    first, second = (found["reference_predictors"]["losses"][UNIGRAM]["mean"] for found in (once, twice))
    assert first == pytest.approx(second)


@pytest.fixture(scope="module")
def mustango(tmp_path_factory: pytest.TempPathFactory) -> Any:
    torch.set_num_threads(1)
    backbone: Any = load(str(tiny_nano_mustango.write(tmp_path_factory.mktemp("base"))), precision="fp32", device="cpu")
    backbone.model.eval()
    return backbone


def latents(backbone: Any, rng: np.random.Generator, mean: np.ndarray, spread: np.ndarray, frames: int) -> np.ndarray:
    noise = rng.standard_normal((mean.shape[0], frames, mean.shape[1]))
    return (mean[:, None] + spread[:, None] * noise).astype(np.float32)


def test_constant_and_linear_predictions_have_the_errors_of_theory(mustango: Any) -> None:
    """Of independent normal latents: a^2 + s^2 variance, and variance / (a^2 variance + s^2), with a^2 + s^2 = 1."""
    rng = np.random.default_rng(0)
    channels, bands = mustango.mel_vae.channels, mustango.mel_vae.bands
    mean, spread = rng.normal(0, 2, (channels, bands)), rng.uniform(0.2, 1.5, (channels, bands))
    clips = [encoded(latents(mustango, rng, mean, spread, 300), f"r{n}", 16) for n in range(6)]
    found = measure_reference_losses(clips[:4], clips[4:], mustango, 2).losses
    power = np.array([float(mustango.schedule.alphas_cumprod[level]) for level in (100, 300, 500, 700, 900)])
    variance = spread.ravel()[:, None] ** 2
    assert found["constant"].mean(axis=0) == pytest.approx((power + (1 - power) * variance).mean(axis=0), rel=0.03)
    linear = (variance / (power * variance + 1 - power)).mean(axis=0)
    assert found["linear"].mean(axis=0) == pytest.approx(linear, rel=0.03)
    assert (found["linear"].mean(axis=0) < found["constant"].mean(axis=0) + 1e-3).all()
    other = -mean  # another constant is worse, at each level
    shifted = [encoded(latents(mustango, rng, other, spread, 300), "x", 16)]
    assert (measure_reference_losses(shifted, clips[4:], mustango, 2).losses["constant"] > found["constant"]).all()


def test_a_base_that_predicts_the_constant_has_the_constants_loss(
    mustango: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same noise, mask and weighting, with clips of unequal length in a batch."""
    rng = np.random.default_rng(1)
    shape = mustango.mel_vae.channels, mustango.mel_vae.bands
    clips = [encoded(rng.normal(1, 1, (shape[0], n, shape[1])).astype(np.float32), f"r{n}", 16) for n in (4, 8, 6)]
    mean, _ = reference_predictors.latent_mean_and_variance([clips[0].targets, clips[1].targets])
    expected = measure_reference_losses(clips[:2], clips, mustango, 3).losses["constant"]

    class Constant(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.unused = torch.nn.Parameter(torch.zeros(1))  # which names the device

        def forward(self, noisy: torch.Tensor, levels: torch.Tensor, *_: Any) -> torch.Tensor:
            scale = (1 - mustango.schedule.alphas_cumprod[levels]).sqrt()[:, None, None, None]
            return (-scale * torch.tensor(mean, dtype=torch.float32)[None, :, None]).expand_as(noisy)

    monkeypatch.setattr(mustango, "model", Constant().eval())
    found = per_clip_losses(mustango, clips, 3, Progress(), "")
    assert found == pytest.approx(expected, abs=1e-6)


def test_mean_and_variance_of_latents_are_numpys() -> None:
    rng = np.random.default_rng(2)
    clips = [rng.normal(3, 2, (2, n, 5)).astype(np.float32) for n in (3, 11)]
    joined = np.concatenate(clips, axis=1).astype(np.float64)
    mean, variance = reference_predictors.latent_mean_and_variance(clips)
    assert mean == pytest.approx(joined.mean(axis=1))
    assert variance == pytest.approx(joined.var(axis=1), rel=1e-6)
