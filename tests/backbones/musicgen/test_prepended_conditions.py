"""The decoder of MusicGen-melody on a batch, with adapters, against transformers' own forward on each clip."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import released_musicgen
from fixtures.adapter_designs import BY_KIND, randomize_adapter

import talim.adapters as adapters
from talim.backbones.load import load
from talim.backbones.musicgen import prepended_conditions, sampling
from talim.backbones.musicgen.melody import MusicGenMelody
from talim.backbones.protocol import CachedBatch

CAPTIONS = ["sitar, slow", "a faster one with drums", "ney"]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> MusicGenMelody:
    """Three layers (do not modify)."""
    folder = released_musicgen.write(tmp_path_factory.mktemp("bases") / "tiny", layers=3, melody=True)
    return load(folder, precision="fp32", device="cpu")  # type: ignore[return-value]


@pytest.fixture
def base(shared: MusicGenMelody) -> MusicGenMelody:
    return copy.deepcopy(shared)


def items_of(model: MusicGenMelody) -> list[Any]:
    """Clips, captions and melodies of unequal length; the last one has no melody."""
    rng = np.random.default_rng(3)
    tokens = [rng.integers(0, 32, (model.codebooks, n)).astype(np.int16) for n in (12, 7, 9)]
    melodies = [rng.integers(0, 12, n).astype(np.int8) for n in (3, 9)]
    text = model.encode_text(CAPTIONS)
    return [(tokens[0], text[0], melodies[0]), (tokens[1], text[1], melodies[1]), (tokens[2], text[2])]


def own_logits(model: MusicGenMelody, item: Any, caption: str, dropped: bool) -> torch.Tensor:
    """transformers' forward of one clip, [K, S, V]; a melody too long is cut before, as it warns of it otherwise."""
    ids, mask = model._tokenize([caption])
    steps = model._steps(model.collate([item], [dropped]))
    melody = {}
    if len(item) == 3 and not dropped:
        classes = torch.from_numpy(item[2][: model.melody_frames].astype(np.int64))
        melody = {"input_features": torch.nn.functional.one_hot(classes, 12).float()[None]}
    with torch.no_grad(), sampling.inference_mode(model.model):
        logits = model.model(
            input_ids=ids,
            attention_mask=mask * (not dropped),
            decoder_input_ids=steps.reshape(-1, steps.shape[-1]),
            use_cache=False,
            **melody,
        ).logits
    return logits[:, -steps.shape[-1] :]


@pytest.mark.parametrize("design", ["", *BY_KIND.values()])
def test_logits_of_a_batch_equal_transformers_forward_of_each_clip(base: MusicGenMelody, design: str) -> None:
    """Rows of unequal length, with a melody, a long one, none and a dropped one; adapters see music alone in both."""
    if design:
        randomize_adapter(adapters.attach(base.model, design, base.sites()))
    dropped = [False, False, True]
    with torch.no_grad(), sampling.inference_mode(base.model):
        together = base.logits(base.collate(items_of(base), dropped))
    for row, (item, caption) in enumerate(zip(items_of(base), CAPTIONS, strict=True)):
        expected = own_logits(base, item, caption, dropped[row])
        found = together[row][:, : expected.shape[1]]
        torch.testing.assert_close(found, expected, atol=1e-5 if not design else 1e-4, rtol=1e-5)


def test_loss_equals_transformers_own(shared: MusicGenMelody) -> None:
    """With labels in transformers' layout, the delayed codes, over the steps where every codebook has one."""
    item = items_of(shared)[0]
    logits = own_logits(shared, item, CAPTIONS[0], False)
    codes = torch.from_numpy(item[0].astype(np.int64))
    frames = codes.shape[1]
    expected = [
        torch.nn.functional.cross_entropy(logits[k, shift : shift + frames], codes[k])
        for k, shift in enumerate(shared.delays)
    ]
    with torch.no_grad():
        loss = shared.loss(shared.collate([item], [False]))
    torch.testing.assert_close(loss.parts, torch.stack(expected), atol=1e-5, rtol=0)


@pytest.mark.parametrize("kind", ["linear", "conv", "transformer"])
def test_adapter_leaves_conditions_alone_and_begins_at_the_music(base: MusicGenMelody, kind: str) -> None:
    """A block's output on conditions and music is the base's on the conditions, and that on the music by itself."""
    model = adapters.attach(base.model, f"{kind}@all:width8", base.sites())
    randomize_adapter(model)
    base.model.eval()
    layer: Any = base.model.decoder.model.decoder.layers[1]
    hidden = torch.randn(2, 20, 16, generator=torch.Generator().manual_seed(1))
    before = torch.arange(20)[None] < torch.tensor([[7], [11]])
    with torch.no_grad():
        found = layer.forward_after(hidden, prepended=before)
        for row, count in enumerate((7, 11)):
            alone = layer.forward_after(hidden[row : row + 1, count:])
            assert torch.equal(found[row, :count], hidden[row, :count])
            torch.testing.assert_close(found[row, count:], alone[0], atol=1e-6, rtol=1e-5)
            everywhere = layer.forward_after(hidden[row : row + 1])
            if kind != "linear":
                assert (everywhere[0, count:] - alone[0]).abs().max() > 1e-3


@pytest.mark.parametrize("kind", ["linear", "conv", "transformer", "full", "lora"])
def test_gradients_equal_with_and_without_checkpointing(base: MusicGenMelody, kind: str) -> None:
    """The conditions are known also when activations are computed again."""
    model = adapters.attach(base.model, BY_KIND[kind], base.sites(), dropout=0.0)
    randomize_adapter(model)
    batch, gradients = base.collate(items_of(base), [False, False, True]), []
    for checkpointed in (False, True):
        base.enable_training(gradient_checkpointing=checkpointed)
        model.zero_grad()
        base.loss(batch).mean.backward()
        gradients.append([p.grad.clone() for p in adapters.trainable_parameters(model) if p.grad is not None])
    assert len(gradients[0]) == len(adapters.trainable_parameters(model))
    for plain, again in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, again, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("kind", ["linear", "conv", "transformer"])
def test_loss_from_frozen_activations_with_an_adapter_equals_the_whole(base: MusicGenMelody, kind: str) -> None:
    """An adapter on the last frozen layer, and rows of which the shortest text has the longest music."""
    model = adapters.attach(base.model, f"{kind}@layers[1-2]:width8+{kind}@post:width4", base.sites())
    randomize_adapter(model)
    base.model.eval()
    items, drop = items_of(base), [False, True, False]
    batch = base.collate(items, drop)
    alone = [base.frozen_activations(base.collate([item], [d]), 2)[0] for item, d in zip(items, drop, strict=True)]
    hidden = torch.nn.utils.rnn.pad_sequence(alone, batch_first=True)  # as the cache on disk gives them
    with torch.no_grad():
        cut = base.loss(CachedBatch(**vars(batch), hidden=hidden, layers=2))
        whole = base.loss(batch)
    torch.testing.assert_close(cut.per_item, whole.per_item, rtol=1e-5, atol=1e-6)


def test_condition_rows_are_melody_then_text(shared: MusicGenMelody) -> None:
    batch = shared.collate(items_of(shared), [False, False, False])
    rows = prepended_conditions.condition_rows(shared.model, batch)
    assert [len(row) for row in rows] == [7 + len(item[1]) for item in items_of(shared)]
    assert len({len(row) for row in rows}) == 3
    chroma = shared.model.audio_enc_to_dec_proj(torch.eye(12))
    short = items_of(shared)[0][2]
    assert torch.equal(rows[0][:7], chroma[np.resize(short, 7).astype(np.int64)])  # repeated
    assert torch.equal(rows[1][:7], chroma[items_of(shared)[1][2][:7].astype(np.int64)])  # cut
    assert torch.equal(rows[2][:7], chroma[[0] * 7])  # the null melody
