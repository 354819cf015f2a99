"""The decoder against transformers' own: greedy tokens and logits, for every kind of adapter at every site."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import adapter_designs

import talim.adapters as adapters
from talim.adapters import injection
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.backbones.musicgen.decoding import Beginning, Decoder, decoder, fused_steps, linear_products
from talim.backbones.musicgen.decoding.adapter_steps import AdapterStep

BaseWith = Callable[..., MusicGen]
PROMPTS = ["slow", "a lively dance with drums and a long caption", "ney"]
DESIGNS = [
    pytest.param(row.values[0][1], marks=row.marks, id=row.values[0][1])
    for row in adapter_designs.ROWS
    if row.values[0][0] == "musicgen"
]


def by_transformers(base: MusicGen, prompts: list[str], seconds: float, guidance_scale: float = 3.0) -> np.ndarray:
    """Greedy tokens of transformers' generate(), one prompt at a time."""
    options = sampling.SamplingOptions(seconds, 0, guidance_scale, 0.0)
    windows = sampling.split_into_windows(seconds, base.frame_rate_hz, base.window_seconds)
    rows = [
        sampling.generate_codes(
            base.model, base._conditions([p], None, guidance_scale > 1), 1, windows, options, base.delays
        )
        for p in prompts
    ]
    return torch.cat(rows).numpy()


def greedy(base: MusicGen, prompts: list[str], seconds: float, guidance_scale: float = 3.0) -> np.ndarray:
    tokens = base.generate_tokens(prompts, seconds, seed=0, guidance_scale=guidance_scale, temperature=0)
    assert base._kept_decoder is not None  # it was this decoder that did it
    return tokens


@pytest.fixture(scope="module")
def tokens_without_adapter(base_with: BaseWith) -> np.ndarray:
    return by_transformers(base_with(), PROMPTS, 0.8)


@pytest.mark.parametrize("design", DESIGNS)
def test_greedy_tokens_equal_transformers_with_every_design(
    base_with: BaseWith, tokens_without_adapter: np.ndarray, design: str
) -> None:
    """In windows of 25 frames with an overlap of 10, so that adapters also begin from given frames."""
    base = base_with(design)
    expected = by_transformers(base, PROMPTS, 0.8)
    assert np.array_equal(greedy(base, PROMPTS, 0.8), expected)
    assert np.array_equal(greedy(base, PROMPTS[1:2], 0.8), expected[1:2])
    assert not np.array_equal(tokens_without_adapter, expected)  # the adapter is heard


def test_greedy_tokens_of_adapters_that_are_not_compiled_equal_transformers(
    base_with: BaseWith, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with large adapters, in bf16 and on a GPU; those of these bases are small."""
    monkeypatch.setattr(fused_steps, "MOST_WEIGHTS", 0)
    base = base_with("conv@all:width8+transformer@deep:width8+linear@post:width4")
    assert np.array_equal(greedy(base, PROMPTS, 0.8), by_transformers(base, PROMPTS, 0.8))
    adapter = base._kept_decoder[1].layers[0].adapters[0]  # type: ignore[index]
    assert type(adapter).__name__ == "ConvStep"


@pytest.mark.slow
@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
@pytest.mark.parametrize("design", [pytest.param(row.values[0], id=row.id) for row in DESIGNS])
def test_greedy_tokens_of_300_steps_equal_transformers(base_with: BaseWith, design: str, guidance_scale: float) -> None:
    base = base_with(design)
    base.window_seconds = 6.0
    expected = by_transformers(base, PROMPTS, 5.94, guidance_scale)  # 297 frames, 300 steps with the delays
    assert np.array_equal(greedy(base, PROMPTS, 5.94, guidance_scale), expected)
    assert np.array_equal(greedy(base, PROMPTS[1:2], 5.94, guidance_scale), expected[1:2])


@pytest.mark.parametrize("kind", adapter_designs.BY_KIND)
def test_greedy_tokens_of_a_melody_model_equal_transformers(base_with: BaseWith, kind: str) -> None:
    base = base_with(adapter_designs.BY_KIND[kind], melody=True)
    assert np.array_equal(greedy(base, PROMPTS, 0.7), by_transformers(base, PROMPTS, 0.7))


@pytest.mark.parametrize("guidance_scale", [1.0, 3.0])
def test_greedy_tokens_of_a_stereo_model_equal_transformers(base_with: BaseWith, guidance_scale: float) -> None:
    base = base_with("conv@all:width8+transformer@post:width8", channels=2)
    expected = by_transformers(base, PROMPTS, 0.7, guidance_scale)
    assert np.array_equal(greedy(base, PROMPTS, 0.7, guidance_scale), expected)


def logits_in_steps(base: MusicGen) -> torch.Tensor:
    """Logits [B, K, S, V] of `batch_for`, one step after the other."""
    batch = adapter_designs.batch_for(base)
    with torch.no_grad(), sampling.inference_mode(base.model):
        decoder, steps = Decoder(base.model), base._steps(batch)
        rows, _, count = steps.shape
        decoder.allocate(rows, count, False, batch.states.shape[1])
        empty = torch.zeros(base.codebooks, 0, dtype=torch.long)
        beginnings = []
        for row, (states, mask) in enumerate(zip(batch.states, batch.states_mask, strict=True)):
            length = int(mask.sum()) or len(mask)
            text = base._text_states(states[:length], bool(mask.any()))
            text = torch.nn.functional.pad(text, (0, 0, 0, len(mask) - length))
            beginnings.append(Beginning(row, empty, text[None], mask[None]))
        decoder.begin(beginnings)
        return torch.stack([decoder.step(steps[..., step]) for step in range(count)], dim=2)


@pytest.mark.parametrize("kind", adapter_designs.BY_KIND)
def test_logits_of_steps_equal_one_full_pass(base_with: BaseWith, kind: str) -> None:
    base = base_with(adapter_designs.BY_KIND[kind])
    expected, found = adapter_designs.logits(base), logits_in_steps(base)
    for row, frames in enumerate(adapter_designs.batch_for(base).target_mask.sum(dim=1).tolist()):
        torch.testing.assert_close(found[row, :, :frames], expected[row, :, :frames], atol=1e-4, rtol=0)


@pytest.mark.parametrize("kind", ["conv", "transformer"])
def test_every_state_of_an_adapter_is_needed(base_with: BaseWith, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A state that is lost on the way changes the tokens, so that the comparisons above can fail."""
    base = base_with(f"{kind}@all:width8")
    expected = greedy(base, PROMPTS, 0.8)
    adapter = base._kept_decoder[1].layers[1].adapters[0]  # type: ignore[index]
    for name in adapter.buffers:
        begin = type(adapter).step

        def lose(self: AdapterStep, states: torch.Tensor, moment: Any, lost: str = name, step: Any = begin) -> Any:
            result = step(self, states, moment)
            getattr(self, lost).zero_()
            return result

        with monkeypatch.context() as patch:
            patch.setattr(type(adapter), "step", lose)
            assert not np.array_equal(greedy(base, PROMPTS, 0.8), expected), name
    assert np.array_equal(greedy(base, PROMPTS, 0.8), expected)


def test_scales_switches_and_new_weights_are_followed(base_with: BaseWith) -> None:
    base = base_with("conv@all:width8")
    peft: Any = injection.find_peft_model(base.model)
    for scale in (1.0, 0.4, 0.0, 1.0):
        adapters.set_adapter_scales(peft, {"adapter": scale})
        assert np.array_equal(greedy(base, PROMPTS, 0.4), by_transformers(base, PROMPTS, 0.4)), scale
    with injection.disabled(peft):
        plain = greedy(base, PROMPTS, 0.4)
        assert np.array_equal(plain, by_transformers(base_with(), PROMPTS, 0.4))
    with torch.no_grad():
        adapters.trainable_parameters(base.model)[-1].add_(1.0)
    changed = greedy(base, PROMPTS, 0.4)
    assert np.array_equal(changed, by_transformers(base, PROMPTS, 0.4))
    assert not np.array_equal(changed, plain)


@pytest.mark.parametrize("designs", [("conv@all:width8", "linear@deep:width4"), ("lora@all:r2", "lora@deep:r4")])
def test_two_adapters_with_scales_equal_transformers(base_with: BaseWith, designs: tuple[str, str]) -> None:
    base = base_with(designs[0])
    peft = adapters.attach(base.model, designs[1], base.sites(), name="second")
    adapter_designs.randomize_adapter(base.model, seed=1)
    adapters.set_adapter_scales(peft, {"adapter": 0.5, "second": 1.2})
    assert np.array_equal(greedy(base, PROMPTS, 0.8), by_transformers(base, PROMPTS, 0.8))


def test_the_decoder_is_read_again_only_where_something_changed(base_with: BaseWith) -> None:
    base = base_with("linear@all:width4")
    greedy(base, PROMPTS, 0.1)
    first = base._kept_decoder[1]  # type: ignore[index]
    greedy(base, PROMPTS, 0.2)
    assert base._kept_decoder[1] is first  # type: ignore[index]
    adapters.set_adapter_scales(injection.find_peft_model(base.model), {"adapter": 0.5})  # type: ignore[arg-type]
    greedy(base, PROMPTS, 0.1)
    assert base._kept_decoder[1] is not first  # type: ignore[index]


def test_bf16_logits_are_as_near_to_float32_as_those_of_transformers(base_with: BaseWith) -> None:
    exact = adapter_designs.logits(base_with("conv@all:width8"))
    base = base_with("conv@all:width8", precision="bf16")
    frames = adapter_designs.batch_for(base).target_mask.sum(dim=1).min()

    def error(logits: torch.Tensor) -> float:
        return float((logits.float() - exact)[:, :, :frames].square().mean().sqrt())

    assert 0 < error(logits_in_steps(base)) < 1.3 * error(adapter_designs.logits(base))


def test_what_the_decoder_cannot_compute_is_left_to_transformers_and_said(
    base_with: BaseWith, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_with()
    expected = greedy(base, PROMPTS, 0.4)
    sampled = base.generate_tokens(PROMPTS, 0.4, seed=3)
    base.model.decoder.model.decoder.layers[1].fc1.register_forward_hook(lambda *_: None)
    capsys.readouterr()
    left = base.generate_tokens(PROMPTS, 0.4, seed=0, temperature=0)
    assert base._kept_decoder is None
    assert np.array_equal(left, expected)
    assert "decoded by transformers, one piece after the other, as decoder.model.decoder.layers.1.fc1 has a hook" in (
        capsys.readouterr().err
    )
    alone = base.generate_tokens(PROMPTS[1:2], 0.4, seed=[4])
    assert np.array_equal(base.generate_tokens(PROMPTS, 0.4, seed=3)[1], alone[0])
    assert not np.array_equal(sampled[0], sampled[1])


def test_without_memory_for_a_copy_of_the_weights_it_is_said_and_the_tokens_are_the_same(
    base_with: BaseWith, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    base = base_with("linear@all:width4")
    expected = greedy(base, PROMPTS, 0.4)
    base._kept_decoder = None
    monkeypatch.setattr(decoder, "FREE_MEMORY_USED", 1e-12)
    assert np.array_equal(greedy(base, PROMPTS, 0.4), expected)
    assert "no memory for a copy of the weights" in capsys.readouterr().err


def test_int8_is_followed_when_it_is_switched(base_with: BaseWith) -> None:
    base = base_with()
    exact = logits_in_steps(base)
    greedy(base, PROMPTS, 0.1)
    base.int8 = True
    greedy(base, PROMPTS, 0.1)
    assert isinstance(base._kept_decoder[1].head, linear_products.Int8Product)  # type: ignore[index]
    with torch.no_grad(), sampling.inference_mode(base.model):
        quantised = Decoder(base.model, int8=True)
        quantised.allocate(1, 4, False, 2)
        states = torch.zeros(1, 2, 16)
        quantised.begin([Beginning(0, torch.zeros(4, 0, dtype=torch.long), states, torch.zeros(1, 2).bool())])
        first = quantised.step(torch.full((1, 4), base.special_token))
    assert first.shape[1:] == exact[:, :, 0].shape[1:]
    base.enable_training()
    assert base._kept_decoder is None
