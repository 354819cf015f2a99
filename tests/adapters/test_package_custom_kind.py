"""The documented custom kind: counting, training, saving, streaming, padding."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import adapter_designs, non_music_models
from fixtures.adapter_designs import adamw, logits, randomize_adapter, train
from peft import get_peft_model

import talim.adapters as adapters
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.design import expression
from talim.design.adapter_kinds import KINDS
from talim.errors import UsageError

DOC = Path(__file__).parents[2] / "docs" / "guides" / "custom-kinds.md"
DESIGN = "echo@conditioner:1k+echo@all:4k+linear@post:width4"
Fresh = Callable[..., MusicGen]


@pytest.fixture
def echo() -> Iterator[type[adapters.Kind]]:
    """The class in the docs, registered for one test."""
    blocks = re.findall(r"```python\n(.*?)```", DOC.read_text(encoding="utf-8"), flags=re.DOTALL)
    (code,) = (block for block in blocks if "register(" in block)
    assert len(code.splitlines()) < 40
    names: dict[str, Any] = {}
    exec(code, names)
    yield names["Echo"]
    del KINDS["echo"]
    expression.BOTTLENECK_KINDS.remove("echo")


@pytest.fixture
def base(fresh: Fresh) -> MusicGen:
    return fresh(layers=adapter_designs.LAYERS)


def test_custom_kind_is_counted_and_trained(echo: type[adapters.Kind], base: MusicGen) -> None:
    before = logits(base)
    base.enable_training()
    model = adapters.attach(base.model, DESIGN, base.sites(), dropout=0.0)
    torch.testing.assert_close(logits(base), before, atol=1e-5, rtol=0)
    trained = adapters.trainable_parameters(model)
    config = model.peft_config["adapter"]
    assert isinstance(config, adapters.AdapterConfig)
    assert sum(weight.numel() for weight in trained) == config.parameters() == adapter_designs.counted(base, DESIGN)
    starts = [weight.clone() for weight in trained]
    losses = train(base, adamw(model), 4)
    assert losses[-1] < losses[0]
    assert not any(torch.equal(weight, start) for weight, start in zip(trained, starts, strict=True))


def test_custom_kind_is_saved_and_loaded_if_registered(
    echo: type[adapters.Kind], base: MusicGen, fresh: Fresh, tmp_path: Path
) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, DESIGN, base.sites())
    randomize_adapter(model)
    adapted = logits(base)
    assert (adapted - plain).abs().max() > 0.1
    adapters.save(model, tmp_path / "own", base=adapter_designs.base_facts(base))
    assert adapters.read_info(tmp_path / "own")["design"] == DESIGN
    reloaded = fresh(layers=adapter_designs.LAYERS)
    adapters.load(reloaded, tmp_path / "own", name="again")
    assert torch.equal(logits(reloaded), adapted)
    KINDS.pop("echo")
    with pytest.raises(UsageError, match="must be registered before"):
        adapters.load(fresh(layers=adapter_designs.LAYERS), tmp_path / "own")
    KINDS["echo"] = echo


@pytest.mark.parametrize("guidance_scale", [None, 3.0])
def test_custom_kind_cached_decoding_equals_uncached(
    echo: type[adapters.Kind], base: MusicGen, guidance_scale: float | None
) -> None:
    randomize_adapter(adapters.attach(base.model, DESIGN, base.sites()))
    results = []
    for cached in (True, False):
        steps: list[torch.Tensor] = []
        with sampling.capture_codes(base.model, 4) as caught, sampling.inference_mode(base.model):
            base.model.generate(
                **text_inputs(base),
                max_length=30,
                do_sample=False,
                guidance_scale=guidance_scale,
                use_cache=cached,
                logits_processor=[lambda _ids, scores, steps=steps: steps.append(scores.clone()) or scores],
            )
        results.append(types.SimpleNamespace(tokens=caught[0], scores=torch.stack(steps)))
    assert torch.equal(results[0].tokens, results[1].tokens)
    torch.testing.assert_close(results[0].scores, results[1].scores, atol=1e-4, rtol=0)


def text_inputs(base: MusicGen) -> dict[str, torch.Tensor]:
    ids, mask = base._tokenize(["a", "longer words", "x y z"])
    return {"input_ids": ids, "attention_mask": mask}


def test_custom_kind_in_a_language_model_ignores_padding(echo: type[adapters.Kind]) -> None:
    model = get_peft_model(
        non_music_models.llama(), adapters.AdapterConfig(kind="echo", width=6, target_modules=non_music_models.BLOCKS)
    ).eval()
    randomize_adapter(model)
    alone, padded = torch.tensor([[5, 6, 7]]), torch.tensor([[0, 0, 5, 6, 7]])
    tokens = model.generate(alone, max_new_tokens=9, do_sample=False)
    assert torch.equal(tokens, model.generate(alone, max_new_tokens=9, do_sample=False, use_cache=False))
    mask = (padded != 0).long()
    assert torch.equal(model.generate(padded, attention_mask=mask, max_new_tokens=9, do_sample=False)[:, 2:], tokens)


def test_custom_kind_without_state_decodes_differently(echo: type[adapters.Kind]) -> None:
    """Control for the test above."""

    class Stateless(echo):  # type: ignore[misc,valid-type]
        def bottleneck_forward(self, hidden: torch.Tensor, state: Any, mask: Any) -> torch.Tensor:
            return super().bottleneck_forward(hidden, None, mask)

    KINDS["echo"] = Stateless
    model = get_peft_model(
        non_music_models.llama(), adapters.AdapterConfig(kind="echo", width=6, target_modules=non_music_models.BLOCKS)
    ).eval()
    randomize_adapter(model)
    ids = torch.tensor([[5, 6, 7]])
    tokens = [model.generate(ids, max_new_tokens=20, do_sample=False, use_cache=c) for c in (True, False)]
    assert not torch.equal(*tokens)
