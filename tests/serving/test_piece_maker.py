"""Batches of served pieces: each as it is alone, tagged, with progress."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import talim
from talim.errors import UsageError
from talim.generation.sources import GenerationSource, load_source
from talim.serving.generation_queue import CancelledWorkError, QueuedPiece
from talim.serving.piece_maker import PieceMaker, resolved_options


def piece(prompt: str, seed: int, seconds: float, options: dict[str, float]) -> QueuedPiece:
    return QueuedPiece(prompt, seconds, seed, options, "client")


@pytest.fixture(scope="module")
def source(tiny_base: Path) -> GenerationSource:
    return GenerationSource(str(tiny_base), precision="fp32")


def test_pieces_of_a_batch_equal_those_made_alone(source: GenerationSource) -> None:
    options = resolved_options(source.base, {"top_k": 20})
    maker = PieceMaker(load_source(source), source)
    fractions: list[float] = []
    wanted = [piece("slow flute", 3, 1.0, options), piece("drums", 4, 0.6, options)]
    sounds = {index: clip.read() for index, clip in maker(wanted, fractions.append)}
    assert [sounds[n].seconds for n in range(2)] == pytest.approx([1.0, 0.6], abs=0.05)
    for index, one in enumerate(wanted):
        (alone,) = talim.generate(source, one.prompt, seconds=one.seconds, seed=one.seed, top_k=20)
        assert np.array_equal(alone.samples, sounds[index].samples)
        assert sounds[index].tags["ai_generated"] == "AI-generated"
        assert (sounds[index].tags["prompt"], sounds[index].tags["seed"]) == (one.prompt, str(one.seed))
    assert fractions
    assert all(0 <= fraction <= 1 for fraction in fractions)


def test_making_ends_where_nobody_waits(source: GenerationSource) -> None:
    maker = PieceMaker(load_source(source), source)

    def given_up(_fraction: float) -> None:
        raise CancelledWorkError

    with pytest.raises(CancelledWorkError):
        list(maker([piece("x", 0, 1.0, resolved_options(source.base, {}))], given_up))


def test_resolved_options_of_another_family_raise(source: GenerationSource) -> None:
    assert resolved_options(source.base, {"temperature": 0.5})["temperature"] == 0.5
    with pytest.raises(UsageError, match="--sampler is no option"):
        resolved_options(source.base, {"sampler": "ddpm"})
