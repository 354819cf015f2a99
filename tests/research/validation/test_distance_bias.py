"""The page of distances of one law, on small sets of random vectors."""

from __future__ import annotations

import json

import numpy as np
import pytest

from research.validation import distance_bias
from talim.evaluation.protocol import EMBEDDINGS
from talim.metrics import embeddings


@pytest.fixture
def vectors() -> dict[str, dict[str, np.ndarray]]:
    rng = np.random.default_rng(0)
    dims = {name: embeddings.load(name).dims for name in EMBEDDINGS}
    return {
        slug: {name: rng.normal(shift, 1, (12, dims[name])) * embeddings.typical_spread(name) for name in EMBEDDINGS}
        for slug, shift in zip(distance_bias.TRADITIONS, (0.0, 1.0), strict=True)
    }


def test_page_shows_the_bias_of_few_clips_and_that_the_used_distance_has_none(
    vectors: dict[str, dict[str, np.ndarray]],
) -> None:
    rows = distance_bias.law_rows(vectors, 40, (2, 10))
    for row in rows[::2]:  # of two clips
        before, used, error = float(row[2].split()[0]), float(row[3].split()[0]), float(row[3].split()[2])
        assert before > 30
        assert abs(used) < 4 * error
    text = distance_bias.page(vectors, 2, (2,))
    assert text.count("| timbre | 2 |") == 1
    assert all(line.count("|") in (7, 8) for line in text.splitlines() if line.startswith("|"))


def test_spreads_are_those_of_all_performances_and_none_is_next_to_zero(
    vectors: dict[str, dict[str, np.ndarray]],
) -> None:
    for slug in distance_bias.TRADITIONS:
        vectors[slug]["timbre"][:, 0] = 0.0
    found = json.loads(distance_bias.spreads(vectors))
    timbre = np.vstack([vectors[slug]["timbre"] for slug in distance_bias.TRADITIONS]).std(0)
    assert found["timbre"][1:] == pytest.approx(timbre[1:], rel=1e-3)
    assert found["timbre"][0] == pytest.approx(0.05 * np.median(timbre), rel=1e-3)
    assert all(len(found[name]) == embeddings.load(name).dims for name in EMBEDDINGS)
