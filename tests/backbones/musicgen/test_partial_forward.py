"""Frozen and trained parts of the decoder against the whole model."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from fixtures import released_musicgen

from talim.backbones.load import load
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.protocol import Batch, CachedBatch
from talim.errors import TalimError

LAYERS = 4


@pytest.fixture(scope="module", params=["mono", "stereo", "one width", "melody", "melody, one width"])
def deep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MusicGen:
    """Four layers; for text states as wide as the decoder there is no projection."""
    folder = tmp_path_factory.mktemp("bases") / "four"
    more = {"stereo": {"channels": 2}, "one width": {"text_width": 16}, "melody": {"melody": True}}
    more["melody, one width"] = more["melody"] | more["one width"]
    more = more.get(request.param, {})
    return load(released_musicgen.write(folder, layers=LAYERS, **more), precision="fp32", device="cpu")  # type: ignore[return-value]


DROPPED = [False, True, False]


def items_of(model: MusicGen, frames: tuple[int, ...] = (12, 7, 9)) -> list[tuple[np.ndarray, ...]]:
    """Clips of unequal length with captions and melodies of unequal length."""
    rng = np.random.default_rng(3)
    tokens = [rng.integers(0, 32, (model.codebooks, n)).astype(np.int16) for n in frames]
    text = model.encode_text(["sitar, slow", "a faster one with drums", "ney"])
    melodies = [rng.integers(0, 12, n).astype(np.int8) for n in (3, 5, 9)]  # which some models ignore
    return list(zip(tokens, text, melodies, strict=True))


def batch_of(model: MusicGen, frames: tuple[int, ...] = (12, 7, 9)) -> Batch:
    """These clips; the second one's condition is dropped."""
    return model.collate(items_of(model, frames), DROPPED)  # type: ignore[arg-type]


@pytest.mark.parametrize("layers", range(1, LAYERS + 1))
def test_loss_from_frozen_activations_equals_the_whole_model(deep: MusicGen, layers: int) -> None:
    batch = batch_of(deep)
    with torch.no_grad():
        whole = deep.loss(batch)
        hidden = deep.frozen_activations(batch, layers)
        assert hidden.shape == (3, *deep.frozen_activation_shape(12, batch.states.shape[1]))
        cut = deep.loss(CachedBatch(**vars(batch), hidden=hidden, layers=layers))
        elsewhere = deep.loss(CachedBatch(**vars(batch), hidden=hidden.flip(-1), layers=layers))
    torch.testing.assert_close(cut.per_item, whole.per_item, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(elsewhere.per_item, whole.per_item, rtol=1e-4)


def test_frozen_activations_of_a_clip_do_not_depend_on_the_batch(deep: MusicGen) -> None:
    batch = batch_of(deep)
    together = deep.frozen_activations(batch, 2)
    for row, item in enumerate(items_of(deep)):
        alone = deep.frozen_activations(deep.collate([item], [DROPPED[row]]), 2)  # type: ignore[list-item]
        assert alone.shape[1:] == deep.frozen_activation_shape(item[0].shape[1], len(item[1]))
        torch.testing.assert_close(alone[0], together[row, : alone.shape[1]], rtol=1e-5, atol=1e-5)


def test_frozen_activations_of_a_dropped_condition_ignore_the_caption(deep: MusicGen) -> None:
    tokens = np.random.default_rng(1).integers(0, 32, (deep.codebooks, 9)).astype(np.int16)
    (first,) = deep.encode_text(["raga Yaman, slow"])
    second = first[::-1].copy()  # where the text precedes the music, only its length counts
    states = [deep.frozen_activations(deep.collate([(tokens, text)], [True]), 3) for text in (first, second)]
    conditioned = deep.frozen_activations(deep.collate([(tokens, first)], [False]), 3)
    torch.testing.assert_close(states[0], states[1], rtol=1e-6, atol=1e-6)
    assert (states[0] - conditioned).abs().max() > 1e-3


def test_frozen_activations_with_dropout_raises_talim_error(deep: MusicGen) -> None:
    model = copy.deepcopy(deep)
    batch = batch_of(model)
    model.model.decoder.train()
    model.model.decoder.model.decoder.layers[1].dropout = 0.1
    with pytest.raises(TalimError, match="enable_training"):
        model.frozen_activations(batch, 2)
    model.enable_training()
    first, again = model.frozen_activations(batch, 2), model.frozen_activations(batch, 2)
    assert torch.equal(first, again)
    assert not first.requires_grad
