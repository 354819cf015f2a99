"""The broad corpus: equal seeds give equal samples, no clipping, and no facts of a tradition."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from research.acceptance import tonality
from research.pretraining.nano_musicgen import broad_corpus
from talim.metrics import pitch


@pytest.mark.parametrize("seed", range(30))
def test_render_piece_is_finite_and_not_clipped(seed: int) -> None:
    piece = broad_corpus.render_piece(seed, 2.0)
    assert piece.samples.shape == (32000,)
    assert piece.samples.dtype == np.float32
    assert np.isfinite(piece.samples).all()
    assert np.abs(piece.samples).max() <= 0.981
    assert len(piece.caption.encode()) <= 250


def test_render_piece_depends_on_the_seed() -> None:
    first, again, other = (broad_corpus.render_piece(seed, 2.0) for seed in (3, 3, 4))
    assert np.array_equal(first.samples, again.samples)
    assert first.caption == again.caption
    assert not np.array_equal(first.samples, other.samples)


def test_render_piece_pitches_leave_the_equal_tempered_grid() -> None:
    fractions = []
    for seed in range(40):
        piece = broad_corpus.render_piece(seed, 4.0)
        track = pitch.track_pitch(piece.samples, 16000)
        if "bpm" not in piece.caption and track.voiced.mean() > 0.3:
            fractions.append(tonality.on_grid_fraction(track))
    assert len(fractions) >= 5
    assert np.mean(fractions) < 0.85  # of western performances it is 0.99


def test_render_piece_levels_vary() -> None:
    levels = [float(np.sqrt(np.mean(broad_corpus.render_piece(seed, 2.0).samples ** 2))) for seed in range(40)]
    assert min(levels) < 0.03
    assert max(levels) > 0.09


def test_broad_corpus_imports_no_facts_of_a_tradition() -> None:
    tree = ast.parse(Path(broad_corpus.__file__).read_text(encoding="utf-8"))
    modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    names = {name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in (a.name for a in node.names)}
    allowed = {"talim.synthesis", "talim.synthesis.western_instruments", "talim.synthesis.instruments"}
    assert {name for name in {*modules, *names} if name.startswith("talim")} <= allowed
