"""Diversity of a set of clips.

Conventions: a set is float [n, d], one row per clip, in some embedding.
"""

from __future__ import annotations

import numpy as np
from scipy.spatial.distance import cdist

from talim.metrics.distribution_distances import median_bandwidth


def effective_sample_count(rows: np.ndarray, reference: np.ndarray) -> float:
    """Effective number of different clips, by the Vendi score: 1 if all are alike, n if nothing is shared.

    Range 1 to n, higher is more diverse; unit: pieces; compare sets of equal n. The kernel is Gaussian, its width half
    the median distance within the real `reference`, so that sets are measured on one scale. ValueError without rows.
    Source: Friedman and Dieng 2023.
    """
    rows = np.asarray(rows, float)
    if rows.ndim != 2 or len(rows) == 0:
        raise ValueError(f"diversity needs rows [n, d], not an array of shape {rows.shape}")
    width = 0.5 * median_bandwidth(np.asarray(reference, float))
    kernel = np.exp(-0.5 * (cdist(rows, rows) / width) ** 2) / len(rows)
    eigenvalues = np.clip(np.linalg.eigvalsh(kernel), 1e-12, None)
    return float(np.exp(-(eigenvalues * np.log(eigenvalues)).sum()))
