"""Every causal language model type of transformers: exact cached decoding with adapters, or refused with a sentence."""

from __future__ import annotations

import copy
import re
from typing import Any

import pytest
import torch
from fixtures import small_causal_models
from peft import get_peft_model

import talim.adapters as adapters
from talim.errors import TalimError, UsageError

NEEDS_A_SECOND_MODEL = "its configuration is of a whole model with images or sound; the text part is its own type"
NOT_BUILT = {
    "blt": "generate of transformers does not run its nested configurations",
    "cohere_compass_text": "its rotary settings need a released configuration",
    "dots3_note": "its sound and image parts have fixed sizes of 77 million parameters",
    "dots3_note_text": "its sound and image parts have fixed sizes of 77 million parameters",
    "fuyu": NEEDS_A_SECOND_MODEL,
    "gemma3": NEEDS_A_SECOND_MODEL,
    "gemma3n": "its image part needs timm",
    "gemma4_assistant": "it runs only beside another model",
    "gemma4_unified": NEEDS_A_SECOND_MODEL,
    "gemma4_unified_assistant": "it runs only beside another model",
    "got_ocr2": NEEDS_A_SECOND_MODEL,
    "moshi": "its depth decoder runs inside generate on codes of its own codec",
    "moss_transcribe_diarize": NEEDS_A_SECOND_MODEL,
    "musicgen": "four codebooks a row; test_forward_context.py is about this model",
    "musicgen_melody": "four codebooks a row; the decoder is that of musicgen",
    "qwen4_exp": "its sparse attention needs sizes of a released configuration",
    "qwen4_exp_text": "its sparse attention needs sizes of a released configuration",
    "xlm": "its blocks are no modules",
    "xlstm": "its cache has fixed sizes of a released configuration",
    "zamba": "its attention needs sizes of a released configuration",
    "zamba2": "its shared blocks need a released configuration",
}
REFUSED = {
    "deepseek_v4": "adapter with context needs hidden states",
    "gemma3n_text": "adapter with context needs hidden states",
    "hrm_text": "runs several times in one step",
    "hy_v4": "adapter with context needs hidden states",
    "openai-gpt": "is not given the cache of a decoding model",
    "prophetnet": "33 frames in a row for 11 positions: this model runs 3 streams",
    "reformer": "in its argument past_buckets_states",
    "rwkv": "in its argument state",
    "xlnet": "in its argument mems",
}
BASE_IS_NOT_EXACT = {"cpmant"}  # cached and uncached decoding of the plain base differ
BASE_HEARS_PADDING = {  # absolute positions count the padding
    "bart",
    "bigbird_pegasus",
    "blenderbot",
    "blenderbot-small",
    "cpmant",
    "git",
    "marian",
    "mbart",
    "mvp",
    "pegasus",
    "plbart",
    "trocr",
    "whisper",
}
TOLERANCE = 2e-4
PROMPT, STEPS = 11, 10


def decode(model: Any, tokens: torch.Tensor, padded: int = 0, **arguments: Any) -> torch.Tensor:
    """Logits [B, S, V] of greedy decoding; `padded` frames of the first row are padding."""
    mask = torch.ones_like(tokens)
    mask[0, :padded] = 0
    found = model.generate(
        input_ids=tokens * mask,
        attention_mask=mask,
        max_new_tokens=STEPS,
        min_new_tokens=STEPS,
        do_sample=False,
        return_dict_in_generate=True,
        output_logits=True,
        pad_token_id=0,
        **arguments,
    )
    return torch.stack(found.logits, 1)


def adapted(model: Any) -> Any:
    """A convolution and a transformer with random weights behind every decoder block."""
    blocks = "|".join(map(re.escape, small_causal_models.decoder_blocks(model)))
    peft_model = get_peft_model(model, adapters.AdapterConfig(kind="conv", width=6, target_modules=blocks))
    peft_model.add_adapter("second", adapters.AdapterConfig(kind="transformer", width=6, target_modules=blocks))
    peft_model.base_model.set_adapter(["default", "second"])  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, weight in peft_model.named_parameters():
            if "talim_" in name:
                weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)
    return peft_model.eval()


def difference(first: torch.Tensor, second: torch.Tensor) -> float:
    return float((first - second).abs().max())


def test_list_of_types_that_are_not_built_is_not_out_of_date() -> None:
    types = set(small_causal_models.TYPES)
    assert set(NOT_BUILT) <= types
    assert set(REFUSED) <= types
    assert len(types) - len(NOT_BUILT) > 160


@pytest.mark.slow
@pytest.mark.parametrize("model_type", [name for name in small_causal_models.TYPES if name not in NOT_BUILT])
def test_cached_decoding_equals_uncached_or_is_refused(model_type: str) -> None:
    check_type(model_type)


@pytest.mark.parametrize("model_type", ["llama", "gpt_neox", "mamba", "qwen3_next", "nemotron_h", "bart", "rwkv"])
def test_cached_decoding_of_one_type_per_kind_of_cache_equals_uncached_or_is_refused(model_type: str) -> None:
    check_type(model_type)


def test_streams_in_one_row_are_refused_with_and_without_a_cache() -> None:
    model = adapted(small_causal_models.small_model("prophetnet"))
    tokens = torch.randint(2, 64, (2, PROMPT), generator=torch.Generator().manual_seed(1))
    for use_cache in (True, False):
        with pytest.raises(TalimError, match=r"layers\.0 is given .* runs 3 streams one after the other.* kind linear"):
            decode(model, tokens, use_cache=use_cache)


def check_type(model_type: str) -> None:
    base = small_causal_models.small_model(model_type)
    tokens = torch.randint(2, 64, (2, PROMPT), generator=torch.Generator().manual_seed(1))
    plain = decode(base, tokens)
    base_is_exact = difference(plain, decode(base, tokens, use_cache=False)) < TOLERANCE
    base_ignores_padding = difference(decode(base, tokens, 3)[:1], decode(base, tokens[:1, 3:])) < TOLERANCE
    if model_type in REFUSED:
        with pytest.raises((TalimError, UsageError), match=REFUSED[model_type]):
            decode(adapted(copy.deepcopy(base)), tokens)
        return
    assert base_is_exact == (model_type not in BASE_IS_NOT_EXACT)
    assert base_ignores_padding == (model_type not in BASE_HEARS_PADDING)
    model = adapted(base)
    cached = decode(model, tokens)
    assert difference(cached[:, 0], plain[:, 0]) > 1e-3
    if base_is_exact:
        assert difference(cached, decode(model, tokens, use_cache=False)) < TOLERANCE
    if base_ignores_padding:
        assert difference(decode(model, tokens, 3)[:1], decode(model, tokens[:1, 3:])) < TOLERANCE
