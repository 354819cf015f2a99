"""Adapters in models of transformers as they are used: compiled, checkpointed, encoder-decoder, batched, pickled."""

from __future__ import annotations

import copy
import io
import pickle
from typing import Any

import pytest
import torch
from fixtures import small_causal_models
from peft import get_peft_model
from transformers import (
    BartConfig,
    BartForConditionalGeneration,
    ContinuousBatchingConfig,
    GenerationConfig,
    StaticCache,
    T5Config,
    T5ForConditionalGeneration,
)

import talim.adapters as adapters

TOLERANCE = 1e-4
TOKENS = torch.randint(2, 64, (2, 14), generator=torch.Generator().manual_seed(1))


def randomize(model: Any) -> Any:
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "talim_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return model


def adapted(base: Any, modules: str) -> Any:
    """A convolution and a transformer with random weights behind the modules, both active."""
    model = get_peft_model(base, adapters.AdapterConfig(kind="conv", width=6, target_modules=modules))
    model.add_adapter("second", adapters.AdapterConfig(kind="transformer", width=6, target_modules=modules))
    model.base_model.set_adapter(["default", "second"])  # type: ignore[arg-type]
    return randomize(model).eval()


@pytest.fixture
def llama() -> Any:
    return adapted(small_causal_models.small_model("llama"), r"model\.layers\.\d+")


@pytest.mark.slow
def test_compiled_steps_on_a_static_cache_are_one_graph_and_equal_one_full_pass(llama: Any) -> None:
    """The second generation and every later step recompile nothing."""
    torch.compiler.reset()
    torch._dynamo.utils.counters.clear()
    step = torch.compile(llama, fullgraph=True, backend="eager")
    try:
        with torch.no_grad(), torch._dynamo.config.patch(error_on_recompile=True):
            full = llama(TOKENS, use_cache=False).logits
            for _ in range(2):
                cache = StaticCache(llama.config, max_cache_len=20)
                logits = [llama(TOKENS[:, :6], past_key_values=cache).logits]
                for index in range(6, TOKENS.shape[1]):
                    logits.append(step(TOKENS[:, index : index + 1], past_key_values=cache).logits)
                torch.testing.assert_close(torch.cat(logits, 1), full, atol=TOLERANCE, rtol=0)
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    finally:
        torch.compiler.reset()


def test_adapters_switched_before_the_backward_pass_of_a_checkpoint_give_the_same_gradients() -> None:
    """A checkpoint repeats its forward pass in the backward pass, with the adapter that was active then."""
    base, gradients = small_causal_models.small_model("llama"), []
    for checkpointed in (False, True):
        config = adapters.AdapterConfig(kind="conv", width=6, target_modules=r"model\.layers\.\d+")
        model = get_peft_model(copy.deepcopy(base), config)
        model.add_adapter("reference", copy.deepcopy(config))
        randomize(model).train()
        if checkpointed:
            model.gradient_checkpointing_enable({"use_reentrant": False})
            model.enable_input_require_grads()
        first = model(TOKENS, use_cache=False).logits.square().mean()
        model.set_adapter("reference")
        second = model(TOKENS, use_cache=False).logits.square().mean()
        for name, weight in model.named_parameters():  # a frozen weight would be given no gradient
            if "talim_" in name:
                weight.requires_grad_(True)
        (first + 2 * second).backward()
        gradients.append({name: w.grad for name, w in model.named_parameters() if "talim_" in name})
    plain, checkpointed_ones = gradients
    for name, gradient in plain.items():
        assert gradient is not None
        torch.testing.assert_close(checkpointed_ones[name], gradient, atol=1e-6, rtol=1e-5)
    assert any("reference" in name and gradient.abs().max() > 1e-4 for name, gradient in plain.items())
    assert any("default" in name and gradient.abs().max() > 1e-4 for name, gradient in plain.items())


def t5() -> tuple[Any, str]:
    config = T5Config(
        vocab_size=64, d_model=32, d_kv=8, d_ff=48, num_layers=2, num_heads=4, pad_token_id=0, eos_token_id=None
    )
    config.decoder_start_token_id = 0
    return T5ForConditionalGeneration(config), r"decoder\.block\.\d+"


def bart() -> tuple[Any, str]:
    config = BartConfig(
        vocab_size=64,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=4,
        decoder_attention_heads=4,
        encoder_ffn_dim=48,
        decoder_ffn_dim=48,
        max_position_embeddings=64,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=None,
        forced_eos_token_id=None,
        decoder_start_token_id=1,
    )
    return BartForConditionalGeneration(config), r"model\.decoder\.layers\.\d+"


@pytest.mark.parametrize("build", [t5, bart])
@pytest.mark.parametrize("num_beams", [1, 3])
def test_cached_generate_of_an_encoder_decoder_model_equals_uncached(build: Any, num_beams: int) -> None:
    torch.manual_seed(0)
    base, modules = build()
    mask = torch.ones_like(TOKENS)
    mask[0, 9:] = 0

    def logits(model: Any, **arguments: Any) -> torch.Tensor:
        found = model.generate(
            input_ids=TOKENS * mask,
            attention_mask=mask,
            max_new_tokens=12,
            min_new_tokens=12,
            do_sample=False,
            num_beams=num_beams,
            return_dict_in_generate=True,
            output_logits=True,
            **arguments,
        )
        return torch.stack(found.logits, 1)

    plain = logits(base.eval())
    model = adapted(base, modules)
    cached = logits(model)
    assert (cached - plain).abs().max() > 1e-3
    torch.testing.assert_close(cached, logits(model, use_cache=False), atol=TOLERANCE, rtol=0)


def test_generate_batch_with_several_requests_in_a_row_is_refused(llama: Any) -> None:
    settings = GenerationConfig(max_new_tokens=4, do_sample=False, pad_token_id=0, eos_token_id=-1)
    # without these the cache takes most of the machine's free memory, and attention masks for 8192 tokens
    sizes = ContinuousBatchingConfig(page_size=16, num_blocks=16, max_batch_tokens=64)
    requests = [TOKENS[0].tolist(), TOKENS[1, :7].tolist()]
    found = llama.generate_batch(inputs=requests, generation_config=settings, continuous_batching_config=sizes)
    assert len(found) == len(requests)
    for output in found.values():
        assert "one row of several sequences" in output.error
        assert output.generated_tokens == []


def test_pickled_model_and_cache_continue_the_generation(llama: Any) -> None:
    file = io.BytesIO()
    torch.save(llama, file)
    file.seek(0)
    twins = [pickle.loads(pickle.dumps(llama)), torch.load(file, weights_only=False), copy.deepcopy(llama)]
    with torch.no_grad():
        full = llama(TOKENS, use_cache=False).logits
        cache = llama(TOKENS[:, :6], use_cache=True).past_key_values
        for twin in twins:
            assert torch.equal(twin(TOKENS, use_cache=False).logits, full)
            logits = twin(TOKENS[:, 6:], past_key_values=pickle.loads(pickle.dumps(cache))).logits
            torch.testing.assert_close(logits, full[:, 6:], atol=TOLERANCE, rtol=0)
