"""MusicGen as a Backbone: codec, unconditional input, loss, training mode."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import released_musicgen

from talim.audio import Audio
from talim.backbones.frozen_model import FrozenModel
from talim.backbones.load import load
from talim.backbones.musicgen import codec_blocks, prepended_conditions, sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.decoding import Decoder
from talim.backbones.protocol import Batch
from talim.errors import TalimError

PROMPTS = ["sitar, slow", "a faster one with drums"]


def items_of(model: MusicGen, frames: tuple[int, ...] = (12, 7)) -> list[tuple[np.ndarray, ...]]:
    rng = np.random.default_rng(3)
    tokens = [rng.integers(0, 32, (model.codebooks, n)).astype(np.int16) for n in frames]
    melodies = [rng.integers(0, 12, n).astype(np.int8) for n in frames]  # which some models ignore
    return list(zip(tokens, model.encode_text(PROMPTS[: len(frames)]), melodies, strict=True))


def batch_of(model: MusicGen, drop: list[bool] | None = None, frames: tuple[int, ...] = (12, 7)) -> Batch:
    return model.collate(items_of(model, frames), drop or [False] * len(frames))  # type: ignore[arg-type]


def test_encode_computes_float32_in_whole(shared: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    """In TF32, a GPU's default, other tokens would lie in the cache under the same key."""
    codec, convolution = type(shared.model.audio_encoder), torch.backends.cudnn.conv
    encode, during = codec.encode, []

    def watch(*arguments: Any, **named: Any) -> Any:
        during.append(convolution.fp32_precision)
        return encode(*arguments, **named)

    monkeypatch.setattr(codec, "encode", watch)
    before, convolution.fp32_precision = convolution.fp32_precision, "tf32"
    try:
        shared.encode(Audio(released_musicgen.noise(0.1, shared.channels), 800))
    finally:
        convolution.fp32_precision = before
    assert during == ["ieee"]


def test_encode_stereo_interleaves_the_channels_codes(shared: MusicGen) -> None:
    sound = Audio(released_musicgen.noise(1.0, shared.channels), 800)
    codes = shared.encode(sound)
    assert codes.dtype == np.int16
    assert codes.shape == (shared.codebooks, 50)
    for channel in range(shared.channels):
        channel_samples = torch.from_numpy(sound.samples[channel])[None, None]
        with torch.no_grad():
            alone = shared.model.audio_encoder.encode(channel_samples).audio_codes[0, 0]
        assert np.array_equal(codes[channel :: shared.channels], alone.numpy())
    assert len(np.unique(codes)) > 4


def test_encode_stereo_equals_the_audio_prompt_of_transformers(shared: MusicGen) -> None:
    """The decoder prompt that generate() makes of this audio has the same codes."""
    if shared.melody_rate_hz:
        pytest.skip("MusicGen-melody of transformers takes no audio prompt")
    sound = Audio(released_musicgen.noise(0.5, shared.channels), 800)
    values = torch.from_numpy(sound.samples)[None]
    prepare = shared.model._prepare_audio_encoder_kwargs_for_generation
    with torch.no_grad():
        expected = prepare(values, {"padding_mask": torch.ones(1, 1, values.shape[-1])}, "input_values")
    assert np.array_equal(expected["decoder_input_ids"].numpy(), shared.encode(sound))


def test_decode_equals_transformers(shared: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    ids, mask = shared._tokenize(PROMPTS[:1])
    arguments = {"max_length": 30, "do_sample": False, "guidance_scale": 3.0}
    expected = shared.model.generate(input_ids=ids, attention_mask=mask, **arguments)[0].numpy()
    with sampling.capture_codes(shared.model, shared.codebooks) as caught:
        shared.model.generate(input_ids=ids, attention_mask=mask, **arguments)
    ours = shared.decode(caught[0][0].numpy())
    assert ours.rate_hz == 800
    peak = np.abs(expected).max()
    np.testing.assert_allclose(ours.samples, expected / peak if peak > 1 else expected, atol=1e-5)


def test_decode_scales_down_only_clipping_audio(modifiable: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    codes = np.zeros((4, 10), np.int16)
    plain = modifiable.decode(codes).samples
    decode = codec_blocks.decode_blocks

    def louder(*args: Any) -> Iterator[torch.Tensor]:
        for block in decode(*args):
            yield block / np.abs(plain).max() * gain

    monkeypatch.setattr(codec_blocks, "decode_blocks", louder)
    for gain in (0.5, 0.99):
        assert np.abs(modifiable.decode(codes).samples).max() == pytest.approx(gain, rel=1e-4)
    gain = 4.0
    assert np.abs(modifiable.decode(codes).samples).max() == pytest.approx(1.0, rel=1e-5)


def test_encode_any_sample_rate_and_channels(shared: MusicGen) -> None:
    for channels, rate_hz in ((1, 1600), (2, 800), (2, 44100)):
        codes = shared.encode(Audio(released_musicgen.noise(0.5, channels, rate_hz), rate_hz))
        assert codes.shape == (shared.codebooks, 25)


def test_decode_tokens_of_wrong_shape_raises_talim_error(shared: MusicGen) -> None:
    with pytest.raises(TalimError, match="tokens"):
        shared.decode(np.zeros((3, 10), np.int16))


def test_encode_text_does_not_depend_on_the_batch(shared: MusicGen) -> None:
    together, alone = shared.encode_text([*PROMPTS, PROMPTS[0]]), shared.encode_text(PROMPTS[:1])
    assert np.array_equal(together[0], alone[0])
    assert np.array_equal(together[0], together[2])
    assert together[0].dtype == np.float32
    assert together[0].shape == (len(shared.tokenizer(PROMPTS[0])["input_ids"]), 24)
    assert not np.array_equal(together[0][:3], together[1][:3])


def test_the_text_encoder_never_reads_a_row_that_is_masked_throughout(shared: MusicGen) -> None:
    ids = torch.tensor([[5, 7, 9], [5, 7, 9]])
    with torch.no_grad():
        masked, whole = (
            shared.model.text_encoder(input_ids=ids, attention_mask=mask).last_hidden_state
            for mask in (torch.tensor([[0, 0, 0], [1, 1, 0]]), torch.tensor([[1, 1, 1], [1, 1, 0]]))
        )
    assert torch.equal(masked, whole)
    assert not torch.equal(whole[0], whole[1])


def test_the_empty_prompt_is_the_null_condition(shared: MusicGen) -> None:
    tokens, text, _ = items_of(shared)[0]
    (nothing,) = shared.encode_text([" "])
    assert not nothing.any()
    same = text[: len(nothing)]  # a melody model gives a dropped text as many places as it had
    batches = [shared.collate([(tokens, states)], [drop]) for states, drop in ((nothing, False), (same, True))]
    assert not any(batch.states_mask.any() for batch in batches)
    with torch.no_grad():
        empty, dropped = (shared.loss(batch).parts for batch in batches)
        told = shared.loss(shared.collate([(tokens, text)], [False])).parts
    assert torch.equal(empty, dropped)
    assert not torch.equal(empty, told)


def test_the_empty_prompt_generates_as_transformers_does_without_condition(shared: MusicGen) -> None:
    if shared.melody_rate_hz:
        pytest.skip("MusicGen-melody of transformers has no unconditional inputs")
    inputs = shared.model.get_unconditional_inputs(1)
    with torch.no_grad(), sampling.capture_codes(shared.model, shared.codebooks) as caught:
        shared.model.generate(**inputs, do_sample=False, max_length=11 + max(shared.delays))
    ours = shared.generate_tokens([""], 0.2, seed=0, temperature=0)
    assert np.array_equal(ours[0], caught[0][0].numpy())


def test_guidance_is_skipped_where_no_prompt_says_anything(shared: MusicGen, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[bool] = []
    real = Decoder.allocate
    monkeypatch.setattr(Decoder, "allocate", lambda *a: given.append(a[3]) or real(*a))
    unguided = shared.generate_tokens([""], 0.2, seed=1, guidance_scale=1.0)
    assert np.array_equal(shared.generate_tokens(["  "], 0.2, seed=1, guidance_scale=3.0), unguided)
    shared.generate_tokens(["slow"], 0.2, seed=1, guidance_scale=3.0)
    assert given == [False, False, True]


def test_an_empty_prompt_among_others_is_not_changed_by_them(shared: MusicGen) -> None:
    alone = shared.generate_tokens([""], 0.2, seed=0, temperature=0)
    among = shared.generate_tokens(["a faster one with drums", ""], 0.2, seed=0, temperature=0, guidance_scale=3.0)
    assert np.array_equal(among[1], alone[0])
    assert not np.array_equal(among[0], alone[0])


def test_loss_of_random_model_is_near_uniform_with_equal_weights(shared: MusicGen) -> None:
    with torch.no_grad():
        loss = shared.loss(batch_of(shared))
    assert loss.parts.dtype == torch.float32
    assert loss.parts.shape == (shared.codebooks,)
    assert loss.mean == loss.parts.mean()
    assert loss.part_names[-1] == f"codebook {shared.codebooks - 1}"
    assert abs(float(loss.mean) - math.log(32)) < 4
    torch.testing.assert_close((loss.per_item * torch.tensor([[12.0], [7.0]])).sum(0) / 19, loss.parts)


def test_loss_does_not_depend_on_padding(shared: MusicGen) -> None:
    both, alone = batch_of(shared), shared.collate(items_of(shared)[1:], [False])  # type: ignore[arg-type]
    with torch.no_grad():
        padded, single = shared.loss(both), shared.loss(alone)
    torch.testing.assert_close(padded.per_item[1], single.parts, atol=1e-5, rtol=0)


def test_logits_do_not_depend_on_later_frames(shared: MusicGen) -> None:
    """Changing later frames keeps earlier logits."""
    batch = batch_of(shared, frames=(12,))
    with torch.no_grad():
        before = shared.logits(batch)
        batch.targets[..., 6:] = (batch.targets[..., 6:] + 5) % 32
        after = shared.logits(batch)
    assert torch.equal(before[:, :, :7], after[:, :, :7])
    assert not torch.allclose(before[:, :, 7:], after[:, :, 7:], atol=1e-2)


def decoder_inputs(model: MusicGen, call) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Conditions and mask of the decoder's first forward during `call`."""
    seen: list[dict] = []
    hook = model.model.decoder.register_forward_pre_hook(
        lambda module, args, named: seen.append(dict(named)), with_kwargs=True
    )
    with torch.no_grad():
        call()
    hook.remove()
    return seen[0]["encoder_hidden_states"], seen[0].get("encoder_attention_mask")


def test_collate_dropped_condition_equals_guidances_unconditional_input(shared: MusicGen) -> None:
    ids, mask = shared._tokenize(PROMPTS[:1])
    states, mask = decoder_inputs(
        shared, lambda: shared.model.generate(input_ids=ids, attention_mask=mask, max_length=12, guidance_scale=3.0)
    )
    batch = batch_of(shared, drop=[True], frames=(9,))
    if shared.melody_rate_hz:  # the null melody precedes the text, and all of it is seen
        ours, collated_mask, text = prepended_conditions.condition_rows(shared.model, batch)[0][None], None, 7
    else:
        (ours, collated_mask), text = decoder_inputs(shared, lambda: shared.loss(batch)), 0
    assert torch.equal(ours, states[1:])
    assert not ours[:, text:].any()  # zero after the projection: its bias must not leak
    assert states[0, text:].any()
    if collated_mask is not None:
        assert mask is not None
        assert torch.equal(collated_mask, mask[1:])
        assert not collated_mask.any()
    leak = shared.model.enc_to_dec_proj(torch.zeros(1, 24))
    assert leak.abs().max() > 0.1


def test_dropped_condition_in_a_mixed_batch_equals_alone(shared: MusicGen) -> None:
    mixed, plain = batch_of(shared, drop=[False, True]), batch_of(shared)
    empty = Batch(plain.targets, plain.target_mask, torch.zeros(2, 1, 24), torch.zeros(2, 1, dtype=torch.bool))
    if shared.melody_rate_hz:  # a dropped text takes its place among the frames
        empty = batch_of(shared, drop=[True, True])
    with torch.no_grad():
        mixed_logits, null, plain_logits = shared.logits(mixed), shared.logits(empty), shared.logits(plain)
    torch.testing.assert_close(mixed_logits[1], null[1], atol=1e-5, rtol=0)
    torch.testing.assert_close(mixed_logits[0], plain_logits[0], atol=1e-5, rtol=0)
    assert (null[1] - plain_logits[1]).abs().max() > 0.01
    end_token = FrozenModel.encode_text(shared, [""])[0]  # what a text encoder makes of an empty text is something
    tokens = items_of(shared)[1][0]
    with torch.no_grad():
        of_end_token = shared.logits(shared.collate([(tokens, end_token)], [False]))
    assert (of_end_token[0] - null[1, :, :10]).abs().max() > 0.01


def test_loss_in_bf16_is_near_float32_and_float32(shared: MusicGen, released_folder) -> None:
    half = load(released_folder, precision="bf16", device="cpu")
    with torch.no_grad():
        exact, rounded = shared.loss(batch_of(shared)), half.loss(batch_of(shared, drop=[False, False]))
        null = half.loss(batch_of(shared, drop=[True, True]))
    assert rounded.parts.dtype == torch.float32
    torch.testing.assert_close(rounded.parts, exact.parts, atol=0.1, rtol=0)
    assert torch.isfinite(null.parts).all()


def test_enable_training_has_no_dropout_and_no_cache(modifiable: MusicGen) -> None:
    batch = batch_of(modifiable)
    with torch.no_grad():
        without_dropout = modifiable.loss(batch).parts
        modifiable.model.train()
        assert not torch.equal(
            modifiable.loss(batch).parts, without_dropout
        )  # the frozen dropout, as transformers leaves it
        modifiable.enable_training()
        assert modifiable.model.decoder.training
        assert torch.equal(modifiable.loss(batch).parts, without_dropout)
        modifiable.model.train()  # as a PeftModel's train() does
        assert torch.equal(modifiable.loss(batch).parts, without_dropout)
    assert modifiable.config.decoder.use_cache is False


def test_gradient_checkpointing_gives_the_same_gradients(modifiable: MusicGen) -> None:
    batch, layers = batch_of(modifiable), modifiable.model.decoder.model.decoder.layers
    gradients = []
    for checkpointed in (False, True):
        modifiable.enable_training(gradient_checkpointing=checkpointed)
        assert layers[0].gradient_checkpointing is checkpointed
        weight = layers[0].fc1.weight.requires_grad_(True)
        weight.grad = None
        modifiable.loss(batch).mean.backward()
        assert weight.grad is not None
        gradients.append(weight.grad.clone())
    assert gradients[0].abs().max() > 0
    torch.testing.assert_close(gradients[0], gradients[1])


def test_loss_without_text_projection_in_bf16(tmp_path) -> None:
    """Without enc_to_dec_proj the text states are cast at the decoder."""
    model = load(released_musicgen.write(tmp_path / "tiny", text_width=16), precision="bf16", device="cpu")
    assert not hasattr(model.model, "enc_to_dec_proj")
    batch = batch_of(model)  # type: ignore[arg-type]
    with torch.no_grad():
        assert torch.isfinite(model.loss(batch).parts).all()
    assert len(model.generate(PROMPTS, 0.2, seed=0)) == 2


def test_batch_to_moves_all_tensors(shared: MusicGen) -> None:
    moved = batch_of(shared).to("meta")
    assert {t.device.type for t in (moved.targets, moved.target_mask, moved.states, moved.states_mask)} == {"meta"}
