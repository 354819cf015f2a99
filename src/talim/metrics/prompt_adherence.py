"""Prompt adherence: each output compared with its own prompt and with the other outputs' prompts.

Conventions: `fit` is float [n, n]: fit[i, j] says how well output i has what prompt j requests, higher is better, NaN
where it cannot be measured; `labels` [n] are what the prompts request, equal labels are not compared. Only the order
within a row matters, so any measure can be used: log probabilities of modes, tempo differences, timbre distances.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def prompt_preference(fit: np.ndarray, labels: Sequence[Hashable]) -> np.ndarray:
    """For each output the fraction of the other prompts that fit it less than its own, [n]; a tie counts half.

    Range 0 to 1, higher follows the prompt more; shuffled prompts give 0.5, real clips with their own labels the
    highest value to be expected. NaN where no other prompt has another label. Source: own definition; the mean is the
    area under the ROC curve (Hanley and McNeil 1982) of own against shuffled prompts, one output at a time.
    """
    fit = np.asarray(fit, float)
    if fit.ndim != 2 or fit.shape != (len(labels), len(labels)):
        raise ValueError(f"{len(labels)} prompts need a square of fits, not an array of shape {fit.shape}")
    preference = np.full(len(labels), np.nan)
    for row, label in enumerate(labels):
        others = [n for n, other in enumerate(labels) if other != label and np.isfinite(fit[row, n])]
        if others and np.isfinite(fit[row, row]):
            difference = fit[row, row] - fit[row, others]
            preference[row] = float(np.mean((difference > 0) + 0.5 * (difference == 0)))
    return preference


def tempo_fit(output_bpm: Sequence[float], prompt_bpm: Sequence[float]) -> np.ndarray:
    """Minus the difference of each output's tempo to each prompt's in octaves, [n, n]; half and double count as equal.

    Range -0.5 to 0. Source: Gouyon et al. 2006 (accuracy 2), without its threshold.
    """
    octaves = np.log2(np.asarray(output_bpm, float))[:, None] - np.log2(np.asarray(prompt_bpm, float))[None]
    return -np.abs((octaves + 0.5) % 1.0 - 0.5)


def prototype_fit(outputs: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """Minus the distance of each output [n, d] to each prompt's prototype [n, d], a mean real clip: [n, n].

    In the embedding's unit, each dimension divided by its spread among the prototypes.
    """
    spread = np.maximum(prototypes.std(0), 1e-6)
    return -np.linalg.norm((outputs[:, None] - prototypes[None]) / spread, axis=2)
