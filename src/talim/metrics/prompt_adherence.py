"""Does the output have what the prompt asks for: each output against its own prompt and against the others'.

Conventions: `fit` is float [n, n]: fit[i, j] says how well output i has what prompt j asks for, higher is better, NaN
where it cannot be told; `asked` [n] is what each prompt asks for, prompts that ask the same are no contrast. Only the
order within a row matters, so that any measure may serve: log probabilities of modes, tempo gaps, timbre distances.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np


def prompt_preference(fit: np.ndarray, asked: Sequence[Hashable]) -> np.ndarray:
    """For each output the share of the other prompts that fit it less than its own, [n]; a tie counts half.

    Range 0 to 1, higher follows the prompt more; 0.5 is what shuffled prompts give, real clips with their own labels
    give the most to be hoped for. NaN where no other prompt asks for anything else. Source: own definition; the mean is
    the area under the ROC curve (Hanley and McNeil 1982) of own against shuffled prompts, one output at a time.
    """
    fit = np.asarray(fit, float)
    if fit.ndim != 2 or fit.shape != (len(asked), len(asked)):
        raise ValueError(f"{len(asked)} prompts need a square of fits, not an array of shape {fit.shape}")
    found = np.full(len(asked), np.nan)
    for row, own in enumerate(asked):
        others = [n for n, value in enumerate(asked) if value != own and np.isfinite(fit[row, n])]
        if others and np.isfinite(fit[row, row]):
            gap = fit[row, row] - fit[row, others]
            found[row] = float(np.mean((gap > 0) + 0.5 * (gap == 0)))
    return found


def tempo_fit(heard_bpm: Sequence[float], asked_bpm: Sequence[float]) -> np.ndarray:
    """How near each heard tempo is to each asked one, [n, n]: minus the gap in octaves, half and double forgiven.

    Range -0.5 to 0. Source: Gouyon et al. 2006 (accuracy 2), without its threshold.
    """
    octaves = np.log2(np.asarray(heard_bpm, float))[:, None] - np.log2(np.asarray(asked_bpm, float))[None]
    return -np.abs((octaves + 0.5) % 1.0 - 0.5)


def prototype_fit(outputs: np.ndarray, prototypes: np.ndarray) -> np.ndarray:
    """How near each output [n, d] is to the mean real clip of what each prompt asks for [n, d]: minus their distance.

    For instruments, by timbre; the embedding's unit, each dimension over its spread among the prototypes.
    """
    spread = np.maximum(prototypes.std(0), 1e-6)
    return -np.linalg.norm((outputs[:, None] - prototypes[None]) / spread, axis=2)
