"""Decoding step by step with a cache equals one full forward, whatever the design; and nothing leaks."""

from __future__ import annotations

import copy
import gc
import itertools
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import nn

import talim.adapters as adapters
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.designs import streaming
from talim.designs.kinds import KINDS
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
PROMPTS = ["a", "longer words", "x y z"]
TOLERANCE = 1e-4
Fresh = Callable[..., MusicGen]


def stir(model: nn.Module, seed: int = 0, scale: float = 0.3) -> None:
    """Random weights: an untrained adapter changes nothing, so nothing would show."""
    generator = torch.Generator().manual_seed(seed)
    for weight in adapters.trainable_parameters(model):
        with torch.no_grad():
            weight.copy_(weight + torch.randn(weight.shape, generator=generator) * scale)


@contextmanager
def watched(model: Any) -> Iterator[list[dict[str, Any]]]:
    """Every call that generate() makes of the model, with the last frame's logits."""
    calls: list[dict[str, Any]] = []

    def note(module: nn.Module, args: Any, kwargs: dict[str, Any], output: Any) -> None:
        if len(calls) == 1 and torch.equal(calls[0]["decoder_input_ids"], kwargs["decoder_input_ids"]):
            calls.clear()  # generate() runs its first forward twice, with two caches; it goes on from the second
        calls.append(kwargs | {"logits": output.logits.detach().clone()})

    handle = model.register_forward_hook(note, with_kwargs=True)
    try:
        yield calls
    finally:
        handle.remove()


def generate(base: MusicGen, steps: int, guidance: float | None = 3.0, **arguments: Any) -> torch.Tensor:
    ids, mask = base._tokenize(PROMPTS)
    with sampling.capture_codes(base.model, 4) as caught, sampling.inference_mode(base.model):
        base.model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_length=steps,
            do_sample=False,
            guidance_scale=guidance,
            **arguments,
        )
    return caught[0]


def full_forward(base: MusicGen, calls: list[dict[str, Any]]) -> torch.Tensor:
    """Logits [rows, S, V] of everything that the calls heard, in one forward without a cache."""
    heard = torch.cat([call["decoder_input_ids"] for call in calls], -1)
    with torch.no_grad(), sampling.inference_mode(base.model):
        return base.model(
            encoder_outputs=calls[0]["encoder_outputs"],
            attention_mask=calls[0]["attention_mask"],
            decoder_input_ids=heard,
            use_cache=False,
        ).logits


def streamed(calls: list[dict[str, Any]]) -> torch.Tensor:
    return torch.cat([call["logits"] for call in calls], 1)


def adapted(fresh: Fresh, design: str, seed: int = 0) -> tuple[MusicGen, Any]:
    base = fresh(layers=3)
    model = adapters.attach(base.model, design, base.sites())
    stir(model, seed)
    model.requires_grad_(False)
    return base, model


def check(fresh: Fresh, design: str, steps: int) -> None:
    base, model = adapted(fresh, design)
    with watched(base.model) as calls:
        tokens = generate(base, steps)
    assert len(calls) >= steps - 2
    assert all(call["decoder_input_ids"].shape[-1] == 1 for call in calls[1:])  # it did decode with a cache
    at_once = full_forward(base, calls)
    with adapters.disabled(model):
        plain = full_forward(base, calls)
    assert (at_once - plain).abs().max() > 0.1
    torch.testing.assert_close(streamed(calls), at_once, atol=TOLERANCE, rtol=0)
    assert torch.equal(generate(base, steps, use_cache=False), tokens)


@pytest.mark.parametrize("design", DESIGNS)
def test_step_by_step_equals_all_at_once(fresh: Fresh, design: str) -> None:
    check(fresh, design, steps=40)


@pytest.mark.slow
@pytest.mark.parametrize("design", DESIGNS)
def test_three_hundred_steps_equal_all_at_once(fresh: Fresh, design: str) -> None:
    check(fresh, design, steps=300)


MIXING = ["conv@all:width8", "transformer@post:width8"]


@pytest.mark.parametrize("design", MIXING)
def test_without_its_memory_it_would_not(fresh: Fresh, design: str, monkeypatch: pytest.MonkeyPatch) -> None:
    base, _ = adapted(fresh, design)

    def forgetful(cache: Any, key: Any, past: int) -> streaming.StreamingState:
        memory = streaming.StreamingState()
        return memory

    monkeypatch.setattr(streaming, "get_state", forgetful)
    with watched(base.model) as calls:
        generate(base, 40)
    assert (streamed(calls) - full_forward(base, calls)).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("design", MIXING)
@pytest.mark.parametrize("guidance", [None, 3.0])
def test_after_a_prompt_of_audio(fresh: Fresh, design: str, guidance: float | None) -> None:
    base, _ = adapted(fresh, design)
    heard = torch.randint(32, (3 * 4, 11), generator=torch.Generator().manual_seed(1))
    with watched(base.model) as calls:
        generate(base, 40, guidance, decoder_input_ids=heard)
    assert calls[0]["decoder_input_ids"].shape[-1] > 10
    torch.testing.assert_close(streamed(calls), full_forward(base, calls), atol=TOLERANCE, rtol=0)


@pytest.mark.parametrize("design", MIXING)
def test_two_generations_in_a_row_and_one_abandoned(fresh: Fresh, design: str) -> None:
    base, _ = adapted(fresh, design)
    expected = generate(base, 30)
    assert torch.equal(generate(base, 30), expected)

    class Enough(Exception):  # noqa: N818
        pass

    def stop(*arguments: Any, **named: Any) -> None:
        raise Enough

    with pytest.raises(Enough):
        generate(base, 30, logits_processor=[stop])
    assert torch.equal(generate(base, 30), expected)


@pytest.mark.parametrize("design", MIXING)
def test_what_it_remembered_is_gone_with_the_cache(
    fresh: Fresh, design: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, _ = adapted(fresh, design)
    alive: list[weakref.ref[streaming.StreamingState]] = []
    real = streaming.StreamingState

    def counted() -> streaming.StreamingState:
        made = real()
        alive.append(weakref.ref(made))
        return made

    monkeypatch.setattr(streaming, "StreamingState", counted)
    generate(base, 12)
    gc.collect()
    assert alive
    assert all(memory() is None for memory in alive)


def test_several_adapters_at_once_and_one_after_the_other(fresh: Fresh) -> None:
    base, model = adapted(fresh, "conv@all:width8")
    adapters.attach(base.model, "transformer@post:width6", base.sites(), name="second")
    stir(model, seed=3)
    model.requires_grad_(False)
    outputs = []
    for chosen in ({"adapter": 1.0}, {"second": 1.0}, {"adapter": 0.5, "second": 1.2}):
        adapters.set_adapter_scales(model, chosen)
        with watched(base.model) as calls:
            outputs.append(generate(base, 30))
        torch.testing.assert_close(streamed(calls), full_forward(base, calls), atol=1e-4, rtol=0)
    assert not any(torch.equal(one, two) for one, two in itertools.pairwise(outputs))


def test_switching_half_way_is_refused(fresh: Fresh) -> None:
    base, model = adapted(fresh, "conv@all:width8")
    model.disable_adapter_layers()

    def switch(ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        model.enable_adapter_layers()
        return scores

    with pytest.raises(TalimError, match="between generations"):
        generate(base, 12, logits_processor=[switch])


def test_a_copied_cache_goes_its_own_way(fresh: Fresh) -> None:
    base, _ = adapted(fresh, "conv@all:width8+transformer@all:width8")
    states = base.model.text_encoder(*base._tokenize(PROMPTS)).last_hidden_state
    tokens = torch.randint(32, (12, 9), generator=torch.Generator().manual_seed(0))

    def step(cache: Any, now: torch.Tensor) -> Any:
        with torch.no_grad(), sampling.inference_mode(base.model):
            return base.model(
                encoder_outputs=(states,), decoder_input_ids=now, past_key_values=cache, use_cache=True
            )

    first = step(None, tokens[:, :6])
    twin = copy.deepcopy(first.past_key_values)
    one, other = (step(cache, tokens[:, 6:]).logits for cache in (first.past_key_values, twin))
    assert torch.equal(one, other)
    torch.testing.assert_close(one, step(None, tokens).logits[:, 6:], atol=1e-4, rtol=0)
    rows = torch.tensor([4, 5, 6, 7, 0, 1, 2, 3, 8, 9, 10, 11])  # two prompts change places
    again = step(None, tokens[:, :6]).past_key_values
    again.reorder_cache(torch.tensor([1, 0, 2]))
    with torch.no_grad(), sampling.inference_mode(base.model):
        swapped = base.model(
            encoder_outputs=(states[[1, 0, 2]],),
            decoder_input_ids=tokens[rows][:, 6:],
            past_key_values=again,
            use_cache=True,
        ).logits
    torch.testing.assert_close(swapped, one[rows], atol=1e-4, rtol=0)
    with pytest.raises(TalimError, match="cannot be cut"):
        again.crop(3)


def test_padding_of_a_prompt_reaches_no_word(fresh: Fresh) -> None:
    """The conditioner sees all words at once, but a short prompt's answer must not depend on its neighbours."""
    base, _ = adapted(fresh, "transformer@conditioner:width8+conv@conditioner:width6")
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


def test_a_conditioner_runs_once_a_generation(fresh: Fresh) -> None:
    base, model = adapted(fresh, "transformer@conditioner:width8")
    (block,) = (m for m in model.modules() if isinstance(m, KINDS["transformer"]))
    runs: list[int] = []
    block.register_forward_hook(lambda *_: runs.append(1))
    generate(base, 30)
    assert len(runs) <= 2
    before = generate(base, 10)
    with torch.no_grad():
        block.up.weight.mul_(-3)  # a changed weight is noticed, even with the same words
    assert not torch.equal(generate(base, 10), before)
