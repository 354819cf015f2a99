"""Prompt adherence: each output compared with its own prompt and with the other outputs' prompts.

Conventions: `fit` is float [n, n]: fit[i, j] says how well output i has what prompt j requests, higher is better, NaN
where it cannot be measured; `labels` [n] are what the prompts request, equal labels are not compared. Only the order
within a row matters, so any measure can be used: log probabilities of modes, tempo differences, timbre distances.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr, ndtri

CHANCE, POWER = 0.5, 0.8  # preference of outputs that ignore their prompts; with which a score is decided
QUANTILE = float(ndtri(0.975))  # of a two-sided test at 5 %


def prompt_preference(fit: np.ndarray, labels: Sequence[Hashable]) -> np.ndarray:
    """For each output the fraction of the other prompts that fit it less than its own, [n]; a tie counts half.

    Range 0 to 1, higher follows the prompt more; shuffled prompts give 0.5, real clips with their own labels the
    highest value to be expected. NaN where no other prompt has another label. Source: own definition; the mean is the
    area under the ROC curve (Hanley and McNeil 1982) of own against shuffled prompts, one output at a time.
    """
    return np.diagonal(_preferences(fit, labels)).copy()


def _preferences(fit: np.ndarray, labels: Sequence[Hashable]) -> np.ndarray:
    """For each output i and prompt j the fraction of the prompts with other labels that fit i less than j, [n, n]."""
    fit = np.asarray(fit, float)
    if fit.ndim != 2 or fit.shape != (len(labels), len(labels)):
        raise ValueError(f"{len(labels)} prompts need a square of fits, not an array of shape {fit.shape}")
    preferences = np.full(fit.shape, np.nan)
    for column, label in enumerate(labels):
        others = fit[:, [n for n, other in enumerate(labels) if other != label]]
        difference = fit[:, [column]] - others
        known = np.isfinite(difference)
        count = known.sum(axis=1)
        won = np.where(known, (difference > 0) + 0.5 * (difference == 0), 0.0).sum(axis=1)
        preferences[:, column] = np.where(count, won / np.maximum(count, 1), np.nan)
    return preferences


@dataclass(frozen=True)
class RecognitionRates:
    """How well labels are recognised in real clips, which bounds what adherence can show.

    `hit` is the mean preference of real clips for their own label, `false_alarm` that for labels which are not theirs;
    `hit_variance` and `chance_variance` are those of one clip with its own and with any label.
    """

    hit: float
    false_alarm: float
    hit_variance: float
    chance_variance: float

    def power(self, prompts: int) -> float:
        """How often (0 to 1) outputs that follow their prompts as real music does are told from outputs that do not.

        By a two-sided test at 5 % of the mean preferences of two models with `prompts` outputs each, independent.
        """
        error = math.sqrt((self.hit_variance + self.chance_variance) / prompts)
        gain = self.hit - CHANCE
        return float(ndtr(gain / error - QUANTILE)) if error else float(gain > 0)

    def prompts_needed(self) -> int | None:
        """Prompts with which the power is 80 %; None where real music does not fit its own labels above chance."""
        gain = self.hit - CHANCE
        if not gain > 0:
            return None
        variance = self.hit_variance + self.chance_variance
        return max(2, math.ceil(variance * ((QUANTILE + float(ndtri(POWER))) / gain) ** 2))


def recognition_rates(fit: np.ndarray, labels: Sequence[Hashable]) -> RecognitionRates | None:
    """How often real clips prefer their own label (hit) and labels that are not theirs (false alarm), with variances.

    `fit` [n, n] is that of real clips to the labels of all of them; rates are 0 to 1, and 0.5 both for a recogniser
    that knows nothing. With n prompts each, a model that follows its prompts as real music does and one that ignores
    them differ by hit - 0.5, with a standard error of ((hit variance + chance variance) / n)^(1/2): `power` is that of
    a two-sided test at 5 %, `prompts_needed` the n with 80 %. None for fewer than two clips with a value.
    Source: own definition; power of a test of two means, Cohen 1988.
    """
    preferences = _preferences(fit, labels)
    same = np.array([[one == other for other in labels] for one in labels])
    own = prompt_preference(fit, labels)
    own, wrong = own[np.isfinite(own)], preferences[~same & np.isfinite(preferences)]
    if own.size < 2:
        return None
    chance = preferences[np.isfinite(preferences)]
    return RecognitionRates(float(own.mean()), float(wrong.mean()), float(own.var(ddof=1)), float(chance.var()))


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
