"""Losses that need no model, on the same tokens or latents as a held-out loss and with the same weighting.

For bases of tokens, in nats per token and for each codebook: a uniform guess; the unigram (the frequency of each token
in the training recordings); and the unigram mixed with "the same token again". Smoothing and mixture weight are those
with which each training recording is best predicted from the others, so the scored clips decide nothing. For bases of
latents, as squared error at each noise level: the best constant prediction, and the best linear one. A model that does
not end below the best of these has not been shown to know more of the music than how often its sounds occur.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.optimize import brentq

from talim.training import batches

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.training.crops import EncodedClip

UNIFORM, UNIGRAM, LAST_TOKEN = "uniform", "unigram", "last_token"
CONSTANT, LINEAR = "constant", "linear"
SMOOTHING = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # added to every count
MAX_COPY_WEIGHT = 0.999  # a token that is not repeated stays possible
FOLDS = 5
ONE_RECORDING = "only one training recording: smoothing and mixture weight were fitted between its clips"
ONE_CLIP = "only one training clip: smoothing and mixture weight were fitted between its halves"


@dataclass(frozen=True)
class ReferenceLosses:
    """Losses [clips, K] of the predictors by name, and how they were fitted (for scores.json)."""

    losses: Mapping[str, np.ndarray]
    fit: Mapping[str, Any]


@dataclass(frozen=True)
class TokenPredictors:
    """Probabilities of tokens float64 [K, V], and the weight of the last token in the mixture, 0 to 1, float64 [K]."""

    probabilities: np.ndarray
    copy_weights: np.ndarray
    smoothing: np.ndarray  # [K], added to every count
    note: str = ""  # what the fit had to do without

    def losses(self, tokens: np.ndarray) -> dict[str, np.ndarray]:
        """Cross-entropy in nats per token of each predictor on tokens int [K, T]: the mean over T, float64 [K].

        A clip's first token has no last one, so the mixture gives it the unigram's probability.
        """
        unigram = np.take_along_axis(self.probabilities, tokens.astype(np.int64), axis=1)
        mixed = mixture(unigram, repeats(tokens), self.copy_weights[:, None])
        size = self.probabilities.shape[1]
        return {
            UNIFORM: np.full(len(tokens), np.log(size)),
            UNIGRAM: -np.log(unigram).mean(axis=1),
            LAST_TOKEN: -np.log(mixed).mean(axis=1),
        }


def repeats(tokens: np.ndarray) -> np.ndarray:
    """For tokens [..., T]: 1 where the token is the last one again, 0 where it is not, NaN at the first."""
    first = np.full((*tokens.shape[:-1], 1), np.nan)
    return np.concatenate([first, tokens[..., 1:] == tokens[..., :-1]], axis=-1)


def mixture(unigram: np.ndarray, repeated: np.ndarray, weight: np.ndarray | float) -> np.ndarray:
    """(1 - weight) * unigram + weight * repeated; the unigram alone where `repeated` is NaN."""
    return np.where(np.isnan(repeated), unigram, (1 - weight) * unigram + weight * np.nan_to_num(repeated))


def fit_token_predictors(clips: Sequence[np.ndarray], recordings: Sequence[str], codebook_size: int) -> TokenPredictors:
    """Predictors from the training clips, int [K, T] each, and the recording that each belongs to.

    Smoothing and mixture weight of each codebook minimise the loss on training recordings predicted from the others,
    in at most five folds. With one recording the folds are its clips, with one clip its halves, and `note` says so.
    ValueError for no clips, and for a token that is not below `codebook_size`.
    """
    if not clips:
        raise ValueError("no training clips")
    highest, lowest = max(int(clip.max()) for clip in clips), min(int(clip.min()) for clip in clips)
    if lowest < 0 or highest >= codebook_size:
        raise ValueError(f"tokens {lowest} to {highest}; the codebooks have 0 to {codebook_size - 1}")
    parts, folds, note = _folds(clips, recordings)
    whole = _counts(clips, codebook_size)
    smoothing, weights = np.ones(len(whole)), np.zeros(len(whole))
    if len(set(folds)) > 1:
        smoothing, weights = _fit(parts, np.array(folds), codebook_size)
    smoothed = whole + smoothing[:, None]
    return TokenPredictors(smoothed / smoothed.sum(axis=1, keepdims=True), weights, smoothing, note)


def _counts(clips: Sequence[np.ndarray], size: int) -> np.ndarray:
    """How often each token occurs, float64 [K, V]."""
    return np.stack([np.bincount(row, minlength=size) for row in np.concatenate(clips, axis=1)]).astype(np.float64)


def _folds(clips: Sequence[np.ndarray], recordings: Sequence[str]) -> tuple[list[np.ndarray], list[int], str]:
    """The clips, the fold of each, and what they had to do without; the order of the clips changes nothing."""
    names, note = list(recordings), ""
    if len(set(names)) == 1 and len(clips) > 1:
        order = sorted(range(len(clips)), key=lambda n: (clips[n].shape[1], clips[n].tobytes()))
        names, note = [f"{order.index(n):09d}" for n in range(len(clips))], ONE_RECORDING
    elif len(clips) == 1:
        half = clips[0].shape[1] // 2
        clips = [part for part in (clips[0][:, :half], clips[0][:, half:]) if part.size]
        names, note = [str(n) for n in range(len(clips))], ONE_CLIP
    fold_of = {name: n % FOLDS for n, name in enumerate(sorted(set(names)))}
    return list(clips), [fold_of[name] for name in names], note


def _fit(clips: Sequence[np.ndarray], folds: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Smoothing [K] and mixture weight [K] with the lowest loss on folds that are predicted from the others."""
    groups = [[clip for clip, own in zip(clips, folds, strict=True) if own == fold] for fold in sorted(set(folds))]
    counts = [_counts(group, size) for group in groups]
    whole = np.sum(counts, axis=0)
    repeated = np.concatenate([repeats(clip) for group in groups for clip in group], axis=1)  # [K, N]
    smoothing, weights = [], []
    for k, row in enumerate(repeated):
        # of each token, in the order of the folds: its count in the other folds, and how many tokens these have
        tokens = [np.concatenate([clip[k] for clip in group]) for group in groups]
        others = [whole[k] - own[k] for own in counts]
        seen = np.concatenate([other[own] for other, own in zip(others, tokens, strict=True)])
        total = np.concatenate([np.full(len(own), other.sum()) for other, own in zip(others, tokens, strict=True)])
        unigrams = [(seen + each) / (total + each * size) for each in SMOOTHING]
        losses = [-np.log(unigram).sum() for unigram in unigrams]
        best = int(np.argmin(losses))
        smoothing.append(SMOOTHING[best])
        weights.append(fit_copy_weight(unigrams[best], row))
    return np.array(smoothing), np.array(weights)


def fit_copy_weight(unigram: np.ndarray, repeated: np.ndarray) -> float:
    """The weight of the last token, 0 to 0.999, with which tokens [N] have the lowest loss in a mixture.

    `unigram` are the probabilities that the unigram gives to the tokens, `repeated` as `repeats` returns them. The loss
    is convex in the weight, so where its slope is 0 it has its one minimum.
    """
    known = ~np.isnan(repeated)
    gain, unigram = (repeated - unigram)[known], unigram[known]

    def slope(weight: float) -> float:
        return -float((gain / (unigram + weight * gain)).sum())

    if not gain.size or slope(0.0) >= 0:
        return 0.0
    if slope(MAX_COPY_WEIGHT) <= 0:
        return MAX_COPY_WEIGHT
    return float(brentq(slope, 0.0, MAX_COPY_WEIGHT))  # pyright: ignore[reportArgumentType] (a number without full_output)


def measure_reference_losses(
    training: Sequence[EncodedClip], clips: Sequence[EncodedClip], backbone: Backbone, batch_size: int
) -> ReferenceLosses:
    """The losses [clips, K] of all predictors on held-out `clips`, fitted on `training`, in the base's unit of loss."""
    if backbone.target_kind == "tokens":
        return _token_losses(training, clips, backbone.codebook_size)
    return _latent_losses(training, clips, backbone, batch_size)


def _token_losses(training: Sequence[EncodedClip], clips: Sequence[EncodedClip], codebook_size: int) -> ReferenceLosses:
    fitted = fit_token_predictors(
        [clip.targets for clip in training], [clip.clip.sound_group for clip in training], codebook_size
    )
    rows = [fitted.losses(clip.targets) for clip in clips]
    fit = {"copy_weights": fitted.copy_weights.tolist(), "smoothing": fitted.smoothing.tolist()}
    return ReferenceLosses(
        {name: np.stack([row[name] for row in rows]) for name in rows[0]},
        {**_amount(training), **fit, "codebook_size": codebook_size, "note": fitted.note},
    )


def _amount(training: Sequence[EncodedClip]) -> dict[str, int]:
    """What the predictors were fitted on."""
    return {
        "recordings": len({clip.clip.sound_group for clip in training}),
        "frames": sum(clip.targets.shape[1] for clip in training),
    }


def latent_mean_and_variance(latents: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance over all frames of latents [C, T, F], of each channel and band: float64 [C, F] each."""
    count = sum(clip.shape[1] for clip in latents)
    mean = np.sum([clip.sum(axis=1, dtype=np.float64) for clip in latents], axis=0) / count
    squares = [((clip - mean[:, None]) ** 2).sum(axis=1, dtype=np.float64) for clip in latents]
    return mean, np.sum(squares, axis=0) / count


def _latent_losses(
    training: Sequence[EncodedClip], clips: Sequence[EncodedClip], backbone: Backbone, batch_size: int
) -> ReferenceLosses:
    """Squared errors of the velocity, with the noise of the held-out loss.

    At a noise level the velocity is a * noise - s * latents, with s * s + a * a = 1, and the model is given
    noisy = a * latents + s * noise. Of all constants -s * mean has the least error. The best linear prediction from
    the noisy value itself is (a * noisy - x) / s with x = mean + gain * (noisy - a * mean), where
    gain = a * variance / (a * a * variance + s * s).
    """
    import torch

    from talim.backbones.mustango import diffusion

    mean_and_variance = latent_mean_and_variance([clip.targets for clip in training])
    mean, variance = (torch.tensor(each, dtype=torch.float32)[None, :, None] for each in mean_and_variance)
    schedule = diffusion.make_scheduler("ddpm")

    def scales(noisy: Any, levels: Any) -> tuple[Any, Any]:
        power = schedule.alphas_cumprod.to(noisy.device)[levels][:, None, None, None]
        return power.sqrt(), (1 - power).sqrt()

    def constant(noisy: Any, levels: Any, *_: Any) -> Any:
        _, noise_scale = scales(noisy, levels)
        return (-noise_scale * mean.to(noisy.device)).expand_as(noisy)

    def linear(noisy: Any, levels: Any, *_: Any) -> Any:
        scale, noise_scale = scales(noisy, levels)
        centre, spread = mean.to(noisy.device), variance.to(noisy.device)
        gain = scale * spread / (scale**2 * spread + noise_scale**2)
        return (scale * noisy - centre - gain * (noisy - scale * centre)) / noise_scale

    predictors: dict[str, Callable[..., Any]] = {CONSTANT: constant, LINEAR: linear}
    losses: dict[str, list[np.ndarray]] = {name: [] for name in predictors}
    with torch.no_grad():
        for _, batch in batches.held_out_batches(clips, backbone, batch_size):
            for name, predict in predictors.items():
                terms = diffusion.validation_errors(predict, schedule, batch)  # pyright: ignore[reportArgumentType]
                losses[name].append(torch.stack([each for each, _ in terms], dim=1).double().cpu().numpy())
    return ReferenceLosses({name: np.concatenate(rows) for name, rows in losses.items()}, _amount(training))
