"""The decoder's two halves are the whole, cut at any depth."""

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


@pytest.fixture(scope="module", params=["mono", "stereo", "one width"])
def deep(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> MusicGen:
    """Four layers; with text states as wide as the decoder there is no projection between the two."""
    folder = tmp_path_factory.mktemp("bases") / "four"
    more = {"stereo": {"channels": 2}, "one width": {"text_width": 16}}.get(request.param, {})
    return load(released_musicgen.write(folder, layers=LAYERS, **more), precision="fp32", device="cpu")  # type: ignore[return-value]


def batch_of(model: MusicGen, frames: tuple[int, ...] = (12, 7, 9)) -> Batch:
    """Clips of unequal length with captions of unequal length; the second one's words are dropped."""
    rng = np.random.default_rng(3)
    tokens = [rng.integers(0, 32, (model.codebooks, n)).astype(np.int16) for n in frames]
    said = model.encode_text(["sitar, slow", "a faster one with drums", "ney"])
    return model.collate(list(zip(tokens, said, strict=True)), [False, True, False])


@pytest.mark.parametrize("layers", range(1, LAYERS + 1))
def test_cut_at_any_depth_the_loss_is_the_same(deep: MusicGen, layers: int) -> None:
    batch = batch_of(deep)
    with torch.no_grad():
        whole = deep.loss(batch)
        hidden = deep.frozen_activations(batch, layers)
        assert hidden.shape == (3, *deep.frozen_activation_shape(12))
        cut = deep.loss(CachedBatch(**vars(batch), hidden=hidden, layers=layers))
        elsewhere = deep.loss(CachedBatch(**vars(batch), hidden=hidden.flip(-1), layers=layers))
    torch.testing.assert_close(cut.per_item, whole.per_item, rtol=1e-6, atol=1e-6)
    assert not torch.allclose(elsewhere.per_item, whole.per_item, rtol=1e-4)


def test_a_clip_alone_has_the_states_that_it_has_in_a_batch(deep: MusicGen) -> None:
    batch = batch_of(deep)
    together = deep.frozen_activations(batch, 2)
    for row, frames in enumerate((12, 7, 9)):
        words = int(batch.states_mask[row].sum()) or 1
        one = Batch(
            batch.targets[row : row + 1, :, :frames],
            batch.target_mask[row : row + 1, :frames],
            batch.states[row : row + 1, :words],
            batch.states_mask[row : row + 1, :words],
        )
        alone = deep.frozen_activations(one, 2)
        torch.testing.assert_close(alone[0], together[row, : alone.shape[1]], rtol=1e-5, atol=1e-6)


def test_without_words_the_caption_does_not_matter(deep: MusicGen) -> None:
    tokens = np.random.default_rng(1).integers(0, 32, (deep.codebooks, 9)).astype(np.int16)
    one, other = deep.encode_text(["raga Yaman", "something else, and longer"])
    states = [deep.frozen_activations(deep.collate([(tokens, said)], [True]), 3) for said in (one, other)]
    heard = deep.frozen_activations(deep.collate([(tokens, one)], [False]), 3)
    torch.testing.assert_close(states[0], states[1], rtol=1e-6, atol=1e-6)
    assert (states[0] - heard).abs().max() > 1e-3


def test_dropout_in_the_frozen_layers_is_refused(deep: MusicGen) -> None:
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
