"""What any PEFT user can do on any model whose blocks map [B, T, D] to [B, T, D]: see fixtures/strangers.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import strangers
from fixtures.table import stir
from peft import PeftModel, get_peft_model

import talim.adapters as adapters
from talim.designs.kinds import KINDS
from talim.errors import TalimError, UsageError

LANGUAGE = {"llama": strangers.llama, "mistral": strangers.mistral}
IDS = torch.tensor([[5, 6, 7, 8, 2, 3], [9, 3, 2, 1, 4, 8]])
WIDTH = 6


def config_for(kind: str, causal: bool = True, **changes: Any) -> adapters.AdapterConfig:
    return adapters.AdapterConfig(
        **{"kind": kind, "width": WIDTH, "target_modules": strangers.BLOCKS, "causal": causal} | changes
    )


def taught(base: Any, kind: str, **changes: Any) -> PeftModel:
    model = get_peft_model(base, config_for(kind, **changes))
    stir(model)
    return model.eval()


def generate(model: Any, ids: torch.Tensor = IDS, mask: torch.Tensor | None = None, **asked: Any) -> Any:
    mask = torch.ones_like(ids) if mask is None else mask
    return model.generate(input_ids=ids, attention_mask=mask, max_new_tokens=16, do_sample=False, **asked)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("name", LANGUAGE)
def test_it_starts_as_the_base_and_counts_exactly(kind: str, name: str) -> None:
    base = LANGUAGE[name]()
    plain = base(IDS).logits
    model = get_peft_model(base, config_for(kind))
    torch.testing.assert_close(model(IDS).logits, plain, atol=1e-5, rtol=0)
    counted = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    assert counted == 2 * KINDS[kind].parameters_of(16, WIDTH)


@pytest.mark.parametrize("asked", [{}, {"num_beams": 3}, {"cache_implementation": "static"}], ids=str)
@pytest.mark.parametrize("name", LANGUAGE)
def test_cached_generation_equals_uncached(kind: str, name: str, asked: dict[str, Any]) -> None:
    base = LANGUAGE[name]()
    beams = {"num_beams": asked.get("num_beams", 1)}
    plain = generate(base, **beams)
    model = taught(base, kind)
    made = generate(model, **asked)
    assert torch.equal(made, generate(model, use_cache=False, **beams))
    assert not torch.equal(made, plain)


@pytest.mark.parametrize("name", LANGUAGE)
def test_a_padded_batch_equals_each_alone(kind: str, name: str) -> None:
    """Left padding of three words, and then decoding with a cache."""
    model = taught(LANGUAGE[name](), kind)
    alone = generate(model, IDS[:1, :3])
    padded = torch.cat([torch.cat([torch.zeros(1, 3, dtype=torch.long), IDS[:1, :3]], 1), IDS[1:]])
    together = generate(model, padded, (padded != 0).long())
    assert torch.equal(together[0, 6:], alone[0, 3:])
    assert torch.equal(together[1], generate(model, IDS[1:])[0])


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_padding_is_not_heard_in_one_forward(kind: str, attention: str) -> None:
    base = strangers.mistral()
    base.set_attn_implementation(attention)
    model = taught(base, kind)
    padded = torch.cat([torch.zeros(1, 4, dtype=torch.long), IDS[:1]], 1)
    positions = torch.tensor([[0, 0, 0, 0, *range(6)]])
    heard = model(padded, attention_mask=(padded != 0).long(), position_ids=positions).logits[:, 4:]
    torch.testing.assert_close(heard, model(IDS[:1]).logits, atol=1e-4, rtol=0)


def test_gradients_with_a_cache_and_with_checkpointing(kind: str) -> None:
    """transformers hands a cache to every layer unless told otherwise, and none while it checkpoints."""
    found, ids = [], IDS.repeat(1, 3)  # longer than a stretch of an excitation
    for cached, checkpointed in ((False, False), (True, False), (True, True)):
        model = taught(strangers.llama(), kind).train()
        if checkpointed:
            model.gradient_checkpointing_enable()
        model(input_ids=ids, labels=ids, use_cache=cached).loss.backward()
        found.append([weight.grad for weight in adapters.trainable_parameters(model)])
    for plain, *others in zip(*found, strict=True):
        assert plain.abs().max() > 0
        for other in others:
            torch.testing.assert_close(other, plain, atol=1e-5, rtol=1e-4)


def test_an_encoder_of_speech(kind: str, tmp_path: Path) -> None:
    encoder, heard = strangers.whisper_encoder(), torch.randn(2, 8, 40)
    plain = encoder(heard).last_hidden_state
    model = get_peft_model(encoder, config_for(kind, causal=False, target_modules=r"layers\.\d+"))
    torch.testing.assert_close(model(heard).last_hidden_state, plain, atol=1e-5, rtol=0)
    stir(model)
    said = model(heard).last_hidden_state
    assert (said - plain).abs().max() > 0.1
    model.save_pretrained(tmp_path)
    again = PeftModel.from_pretrained(strangers.whisper_encoder(), tmp_path)
    torch.testing.assert_close(again(heard).last_hidden_state, said, atol=1e-5, rtol=0)
    block = next(module for module in model.modules() if isinstance(module, KINDS[kind]))
    states = torch.randn(1, 10, 16)
    later = torch.cat([states[:, :6], states[:, 6:] + 1], 1)
    assert torch.equal(block(states)[:, :6], block(later)[:, :6]) != block.mixes_frames


def test_an_adapter_that_looks_ahead_does_not_decode_step_by_step(kind: str) -> None:
    model = taught(strangers.llama(), kind, causal=False)
    made = generate(model, use_cache=False)
    if KINDS[kind].mixes_frames:
        with pytest.raises(TalimError, match="looks at later frames"):
            generate(model)
    else:
        assert torch.equal(generate(model), made)
    assert model(IDS).logits.isfinite().all()  # one forward is no decoding, cache or not


def test_where_no_cache_is_heard_nothing_can_be_remembered(kind: str) -> None:
    inside = config_for(kind, target_modules=r".*\.mlp")
    if KINDS[kind].mixes_frames:
        with pytest.raises(UsageError, match=r"LlamaMLP is not given the cache .*whole decoder blocks"):
            get_peft_model(strangers.llama(), inside)
        return
    model = get_peft_model(strangers.llama(), inside)
    stir(model)
    assert torch.equal(generate(model), generate(model, use_cache=False))


@pytest.mark.parametrize("missing", ["kind", "width", "target_modules"])
def test_an_incomplete_configuration_says_what_it_needs(missing: str) -> None:
    with pytest.raises(UsageError, match="kind .* is unknown" if missing == "kind" else "needs kind, width"):
        adapters.AdapterConfig(**{"kind": "conv", "width": 6, "target_modules": "a", missing: None})
    with pytest.raises(UsageError, match="has no setting depth"):
        get_peft_model(strangers.llama(), config_for("conv", settings={"depth": 2}))


def test_settings_reach_the_kind() -> None:
    model = get_peft_model(strangers.llama(), config_for("conv", settings={"kernel": 2, "dilations": [1]}))
    counted = sum(weight.numel() for weight in adapters.trainable_parameters(model))
    assert counted == 2 * KINDS["conv"].parameters_of(16, WIDTH, kernel=2, dilations=(1,))
