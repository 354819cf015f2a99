"""Cached decoding equals one full forward pass for every design; state is bound to the cache."""

from __future__ import annotations

import copy
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import talim.adapters as adapters
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.design import streaming
from talim.design.adapter_kinds import KINDS
from talim.errors import TalimError

SITES = ("conditioner", "all", "shallow", "middle", "deep", "layers[0-1]", "post")
DESIGNS = [f"{kind}@{site}:width8" for kind in KINDS for site in SITES]
DESIGNS += [
    "conv@shallow:width8+transformer@deep:width6",
    "transformer@post:width8+conv@all:width5+linear@conditioner:width4",
    "linear@all:width4+full@layers[2]",
    "full@all",
    "full@post+full@conditioner",
    "lora@all:r3",
    "dora@deep:r2",
    "ia3@all",
]
# Fast tests have every kind at every type of module, and mixtures at single blocks.
SLOW = {f"{kind}@{site}:width8" for kind in KINDS for site in ("shallow", "middle", "deep", "layers[0-1]")}
BY_SITE = [pytest.param(each, marks=pytest.mark.slow if each in SLOW else ()) for each in DESIGNS]
PROMPTS = ["a", "longer words", "x y z"]
TOLERANCE = 1e-4
Fresh = Callable[..., MusicGen]


def randomize_adapter(model: nn.Module, seed: int = 0, scale: float = 0.3) -> None:
    """Random weights: an untrained adapter changes nothing, so nothing would show."""
    generator = torch.Generator().manual_seed(seed)
    for weight in adapters.trainable_parameters(model):
        with torch.no_grad():
            weight.copy_(weight + torch.randn(weight.shape, generator=generator) * scale)


@contextmanager
def recorded_calls(model: Any) -> Iterator[list[dict[str, Any]]]:
    """Every call that generate() makes of the model, with its logits."""
    calls: list[dict[str, Any]] = []

    def record(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if len(calls) == 1 and torch.equal(calls[0]["decoder_input_ids"], kwargs["decoder_input_ids"]):
            calls.clear()  # generate() runs its first forward twice and continues from the second
        calls.append(kwargs | {"logits": output.logits.detach().clone()})

    handle = model.register_forward_hook(record, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def generate(base: MusicGen, steps: int, guidance_scale: float | None = 3.0, **arguments: Any) -> torch.Tensor:
    ids, mask = base._tokenize(PROMPTS)
    with sampling.capture_codes(base.model, 4) as caught, sampling.inference_mode(base.model):
        base.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_length=steps,
            do_sample=False,
            guidance_scale=guidance_scale,
            **arguments,
        )
    return caught[0]


def full_forward(base: MusicGen, calls: list[dict[str, Any]]) -> torch.Tensor:
    """Logits [rows, S, V] of the calls' whole input in one forward without a cache."""
    tokens = torch.cat([call["decoder_input_ids"] for call in calls], -1)
    with torch.no_grad(), sampling.inference_mode(base.model):
        if base.melody_rate_hz:
            conditions = {"encoder_hidden_states": calls[0]["encoder_hidden_states"]}
        else:
            conditions = {name: calls[0][name] for name in ("encoder_outputs", "attention_mask")}
        return base.model(**conditions, decoder_input_ids=tokens, use_cache=False).logits


def streamed_logits(calls: list[dict[str, Any]]) -> torch.Tensor:
    return torch.cat([call["logits"] for call in calls], 1)


def attach_frozen(fresh: Fresh, design: str, seed: int = 0, melody: bool = False) -> tuple[MusicGen, Any]:
    base = fresh(layers=3, melody=melody)
    model = adapters.attach(base.model, design, base.sites())
    randomize_adapter(model, seed)
    model.requires_grad_(False)
    return base, model


def check_streaming(fresh: Fresh, design: str, steps: int, melody: bool = False) -> None:
    base, model = attach_frozen(fresh, design, melody=melody)
    with recorded_calls(base.model) as calls:
        tokens = generate(base, steps, **_melody(base))
    assert len(calls) >= steps - 2
    assert all(call["decoder_input_ids"].shape[-1] == 1 for call in calls[1:])  # decoded with a cache
    full = full_forward(base, calls)
    with adapters.disabled(model):
        if melody:  # the first call's conditions may hold what a conditioner did
            with recorded_calls(base.model) as plain_calls:
                generate(base, 6, **_melody(base))
            calls_of_base = [calls[0] | {"encoder_hidden_states": plain_calls[0]["encoder_hidden_states"]}, *calls[1:]]
        plain = full_forward(base, calls_of_base if melody else calls)
    assert (full - plain).abs().max() > 0.1
    torch.testing.assert_close(streamed_logits(calls), full, atol=TOLERANCE, rtol=0)
    assert torch.equal(generate(base, steps, use_cache=False, **_melody(base)), tokens)


def _melody(base: MusicGen) -> dict[str, torch.Tensor]:
    """A melody for each prompt, where the base takes one."""
    notes = torch.tensor([[0, 7, 11], [4, 4, 2], [9, 0, 0]])
    return {"input_features": torch.eye(12)[notes]} if base.melody_rate_hz else {}


@pytest.mark.parametrize("design", BY_SITE)
def test_cached_decoding_equals_one_full_forward(fresh: Fresh, design: str) -> None:
    check_streaming(fresh, design, steps=40)


MELODY_DESIGNS = [f"{kind}@all:width8" for kind in KINDS]
MELODY_DESIGNS += ["transformer@post:width8+conv@conditioner:width5", "linear@all:width4+full@layers[2]", "lora@all:r3"]


@pytest.mark.parametrize("design", MELODY_DESIGNS)
def test_cached_decoding_after_a_melody_and_text_equals_one_full_forward(fresh: Fresh, design: str) -> None:
    """The first call holds melody, text and music; the later ones music only."""
    check_streaming(fresh, design, steps=40, melody=True)


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_cached_decoding_after_a_melody_and_text_equals_one_full_forward_at_all_sites(
    fresh: Fresh, design: str
) -> None:
    check_streaming(fresh, design, steps=60, melody=True)


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_cached_decoding_of_300_steps_equals_one_full_forward(fresh: Fresh, design: str) -> None:
    check_streaming(fresh, design, steps=300)


CONTEXT_DESIGNS = ["conv@all:width8", "transformer@post:width8"]


@pytest.mark.parametrize("design", CONTEXT_DESIGNS)
def test_cached_decoding_without_state_differs(fresh: Fresh, design: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, _ = attach_frozen(fresh, design)

    def fresh_state(cache: Any, key: Any, past: Any) -> streaming.StreamingState:
        return streaming.StreamingState()

    monkeypatch.setattr(streaming, "get_state", fresh_state)
    with recorded_calls(base.model) as calls:
        generate(base, 40)
    assert (streamed_logits(calls) - full_forward(base, calls)).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("design", CONTEXT_DESIGNS)
@pytest.mark.parametrize("guidance_scale", [None, 3.0])
def test_cached_decoding_after_an_audio_prompt_equals_one_full_forward(
    fresh: Fresh, design: str, guidance_scale: float | None
) -> None:
    base, _ = attach_frozen(fresh, design)
    prompt = torch.randint(32, (3 * 4, 11), generator=torch.Generator().manual_seed(1))
    with recorded_calls(base.model) as calls:
        generate(base, 40, guidance_scale, decoder_input_ids=prompt)
    assert calls[0]["decoder_input_ids"].shape[-1] > 10
    torch.testing.assert_close(streamed_logits(calls), full_forward(base, calls), atol=TOLERANCE, rtol=0)


QUICKLY_CONTINUED = (
    "conv@all:width8",
    "transformer@post:width8+conv@all:width5+linear@conditioner:width4",
    "lora@all:r3",
)


@pytest.mark.parametrize(
    "design", [pytest.param(each, marks=() if each in QUICKLY_CONTINUED else pytest.mark.slow) for each in DESIGNS]
)
def test_continuation_of_a_generated_piece_equals_the_uninterrupted_one(fresh: Fresh, design: str) -> None:
    """Token by token, with guidance, within the window and beyond it: adapters find the state of the phrase."""
    base, _ = attach_frozen(fresh, design)
    whole = base.generate_tokens(PROMPTS[:2], 0.64, seed=0, temperature=0)
    for there in (3, 20, 27):
        rest = base.generate_tokens(PROMPTS[:2], (32 - there) / 50, seed=0, temperature=0, start=whole[:, :, :there])
        assert np.array_equal(rest, whole[:, :, there:]), there


@pytest.mark.parametrize("design", CONTEXT_DESIGNS)
def test_generate_repeated_or_after_an_aborted_one_is_unchanged(fresh: Fresh, design: str) -> None:
    base, _ = attach_frozen(fresh, design)
    expected = generate(base, 30)
    assert torch.equal(generate(base, 30), expected)

    class Aborted(Exception):  # noqa: N818
        pass

    def stop(*arguments: Any, **named: Any) -> None:
        raise Aborted

    with pytest.raises(Aborted):
        generate(base, 30, logits_processor=[stop])
    assert torch.equal(generate(base, 30), expected)


@pytest.mark.parametrize("design", CONTEXT_DESIGNS)
def test_state_is_freed_with_the_cache(fresh: Fresh, design: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, _ = attach_frozen(fresh, design)
    alive: list[weakref.ref[streaming.StreamingState]] = []
    real = streaming.StreamingState

    def tracked() -> streaming.StreamingState:
        state = real()
        alive.append(weakref.ref(state))
        return state

    monkeypatch.setattr(streaming, "StreamingState", tracked)
    generate(base, 12)
    gc.collect()
    assert alive
    assert all(state() is None for state in alive)


def test_several_adapters_switched_between_generations_decode_exactly(fresh: Fresh) -> None:
    base, model = attach_frozen(fresh, "conv@all:width8")
    adapters.attach(base.model, "transformer@post:width6", base.sites(), name="second")
    randomize_adapter(model, seed=3)
    model.requires_grad_(False)
    outputs = []
    for scales in ({"adapter": 1.0}, {"second": 1.0}, {"adapter": 0.5, "second": 1.2}):
        adapters.set_adapter_scales(model, scales)
        with recorded_calls(base.model) as calls:
            outputs.append(generate(base, 30))
        torch.testing.assert_close(streamed_logits(calls), full_forward(base, calls), atol=1e-4, rtol=0)
    assert not any(torch.equal(a, b) for a, b in itertools.pairwise(outputs))


def test_enabling_adapters_during_generation_raises_talim_error(fresh: Fresh) -> None:
    base, model = attach_frozen(fresh, "conv@all:width8")
    model.disable_adapter_layers()

    def switch(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        model.enable_adapter_layers()
        return scores

    with pytest.raises(TalimError, match="between generations"):
        generate(base, 12, logits_processor=[switch])


def test_copied_and_reordered_caches_carry_their_own_state(fresh: Fresh) -> None:
    base, _ = attach_frozen(fresh, "conv@all:width8+transformer@all:width8")
    states = base.model.text_encoder(*base._tokenize(PROMPTS)).last_hidden_state
    tokens = torch.randint(32, (12, 9), generator=torch.Generator().manual_seed(0))

    def step(cache: Any, ids: torch.Tensor) -> Any:
        with torch.no_grad(), sampling.inference_mode(base.model):
            return base.model(encoder_outputs=(states,), decoder_input_ids=ids, past_key_values=cache, use_cache=True)

    first = step(None, tokens[:, :6])
    twin = copy.deepcopy(first.past_key_values)
    first_logits, twin_logits = (step(cache, tokens[:, 6:]).logits for cache in (first.past_key_values, twin))
    assert torch.equal(first_logits, twin_logits)
    torch.testing.assert_close(first_logits, step(None, tokens).logits[:, 6:], atol=1e-4, rtol=0)
    rows = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11])  # two prompts swapped
    again = step(None, tokens[:, :6]).past_key_values
    again.reorder_cache(torch.tensor([1, 0, 2]))
    with torch.no_grad(), sampling.inference_mode(base.model):
        swapped = base.model(
            encoder_outputs=(states[[1, 0, 2]],),
            decoder_input_ids=tokens[rows][:, 6:],
            past_key_values=again,
            use_cache=True,
        ).logits
    torch.testing.assert_close(swapped, first_logits[rows], atol=1e-4, rtol=0)
    with pytest.raises(TalimError, match="cannot be cropped"):
        again.crop(3)


def test_conditioner_output_does_not_depend_on_text_padding(fresh: Fresh) -> None:
    """A short prompt's logits are the same alone and in a padded batch."""
    base, _ = attach_frozen(fresh, "transformer@conditioner:width8+conv@conditioner:width6")
    ids, mask = base._tokenize(PROMPTS)
    tokens = torch.randint(32, (12, 5), generator=torch.Generator().manual_seed(0))

    def logits(rows: slice, length: int) -> torch.Tensor:
        with torch.no_grad(), sampling.inference_mode(base.model):
            return base.model(
                input_ids=ids[rows, :length],
                attention_mask=mask[rows, :length],
                decoder_input_ids=tokens[: 4 * (rows.stop - rows.start)],
            ).logits

    together, alone = logits(slice(0, 3), ids.shape[1]), logits(slice(0, 1), int(mask[0].sum()))
    torch.testing.assert_close(together[:4], alone, atol=1e-5, rtol=0)


def test_conditioner_of_a_melody_base_does_not_see_text_padding(fresh: Fresh) -> None:
    """Its generate() projects the text outside of the model's forward; conditions are melody, text, padding."""
    base, _ = attach_frozen(fresh, "transformer@conditioner:width8+conv@conditioner:width6", melody=True)
    ids, mask = base._tokenize(PROMPTS)
    conditions = []
    for rows, length in ((slice(0, 3), ids.shape[1]), (slice(0, 1), int(mask[0].sum()))):
        with recorded_calls(base.model) as calls, sampling.capture_codes(base.model, 4):
            text = {"input_ids": ids[rows, :length], "attention_mask": mask[rows, :length]}
            base.model.generate(**text, max_length=6, do_sample=False, guidance_scale=3.0)
        conditions.append(calls[0]["encoder_hidden_states"])
    together, alone = conditions
    assert together.shape[1] > alone.shape[1]
    torch.testing.assert_close(together[:1, : alone.shape[1]], alone[:1], atol=1e-5, rtol=0)
    assert not together[0, alone.shape[1] :].any()


def test_conditioner_runs_once_per_generation_until_its_weights_change(fresh: Fresh) -> None:
    base, model = attach_frozen(fresh, "transformer@conditioner:width8")
    (block,) = (m for m in model.modules() if isinstance(m, KINDS["transformer"]))
    runs: list[int] = []
    block.register_forward_hook(lambda *_: runs.append(1))
    generate(base, 30)
    assert len(runs) <= 2
    before = generate(base, 10)
    with torch.no_grad():
        block.up.weight.mul_(-3)  # a changed weight invalidates the cached result
    assert not torch.equal(generate(base, 10), before)
