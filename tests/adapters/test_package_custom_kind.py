"""The kind that docs/adapters.md makes, through everything: a new kind is one class."""

from __future__ import annotations

import re
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import adapter_designs, non_music_models
from fixtures.adapter_designs import adamw, logits, stir, train
from peft import get_peft_model

import talim.adapters as adapters
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.designs import expression
from talim.designs.kinds import KINDS
from talim.errors import UsageError

DOC = Path(__file__).parents[2] / "docs" / "adapters.md"
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


def test_it_is_attached_counted_and_trained(echo: type[adapters.Kind], base: MusicGen) -> None:
    before = logits(base)
    base.enable_training()
    model = adapters.attach(base.model, DESIGN, base.sites(), dropout=0.0)
    torch.testing.assert_close(logits(base), before, atol=1e-5, rtol=0)
    trained = adapters.trainable_parameters(model)
    config = model.peft_config["adapter"]
    assert isinstance(config, adapters.AdapterConfig)
    assert (
        sum(weight.numel() for weight in trained)
        == config.parameters()
        == adapter_designs.counted(base, DESIGN)
    )
    starts = [weight.clone() for weight in trained]
    losses = train(base, adamw(model), 4)
    assert losses[-1] < losses[0]
    assert not any(torch.equal(weight, start) for weight, start in zip(trained, starts, strict=True))


def test_it_is_saved_and_loaded(
    echo: type[adapters.Kind], base: MusicGen, fresh: Fresh, tmp_path: Path
) -> None:
    plain = logits(base)
    model = adapters.attach(base.model, DESIGN, base.sites())
    stir(model)
    taught = logits(base)
    assert (taught - plain).abs().max() > 0.1
    adapters.save(model, tmp_path / "own", base=adapter_designs.base_facts(base))
    assert adapters.read_info(tmp_path / "own")["expression"] == DESIGN
    other = fresh(layers=adapter_designs.LAYERS)
    adapters.load(other, tmp_path / "own", name="again")
    assert torch.equal(logits(other), taught)
    KINDS.pop("echo")
    with pytest.raises(UsageError, match="must be registered before"):
        adapters.load(fresh(layers=adapter_designs.LAYERS), tmp_path / "own")
    KINDS["echo"] = echo


@pytest.mark.parametrize("guidance", [None, 3.0])
def test_it_decodes_as_it_was_trained(
    echo: type[adapters.Kind], base: MusicGen, guidance: float | None
) -> None:
    stir(adapters.attach(base.model, DESIGN, base.sites()))
    heard = []
    for cached in (True, False):
        steps: list[torch.Tensor] = []
        with sampling.capture_codes(base.model, 4) as caught, sampling.inference_mode(base.model):
            base.model.generate(
                **words(base),
                max_length=30,
                do_sample=False,
                guidance_scale=guidance,
                use_cache=cached,
                logits_processor=[lambda _ids, scores, steps=steps: steps.append(scores.clone()) or scores],
            )
        heard.append(types.SimpleNamespace(tokens=caught[0], scores=torch.stack(steps)))
    assert torch.equal(heard[0].tokens, heard[1].tokens)
    torch.testing.assert_close(heard[0].scores, heard[1].scores, atol=1e-4, rtol=0)


def words(base: MusicGen) -> dict[str, torch.Tensor]:
    ids, mask = base._tokenize(["a", "longer words", "x y z"])
    return {"input_ids": ids, "attention_mask": mask}


def test_it_works_in_a_language_model_and_hears_no_padding(echo: type[adapters.Kind]) -> None:
    model = get_peft_model(
        non_music_models.llama(),
        adapters.AdapterConfig(kind="echo", width=6, target_modules=non_music_models.BLOCKS),
    ).eval()
    stir(model)
    alone, padded = torch.tensor([[5, 6, 7]]), torch.tensor([[0, 0, 5, 6, 7]])
    made = model.generate(alone, max_new_tokens=9, do_sample=False)
    assert torch.equal(made, model.generate(alone, max_new_tokens=9, do_sample=False, use_cache=False))
    mask = (padded != 0).long()
    assert torch.equal(
        model.generate(padded, attention_mask=mask, max_new_tokens=9, do_sample=False)[:, 2:], made
    )


def test_without_its_memory_it_would_not(echo: type[adapters.Kind]) -> None:
    """The test above can fail: the same class, forgetful."""

    class Forgetful(echo):  # type: ignore[misc,valid-type]
        def inside(self, hidden: torch.Tensor, memory: Any, mask: Any) -> torch.Tensor:
            return super().inside(hidden, None, mask)

    KINDS["echo"] = Forgetful
    model = get_peft_model(
        non_music_models.llama(),
        adapters.AdapterConfig(kind="echo", width=6, target_modules=non_music_models.BLOCKS),
    ).eval()
    stir(model)
    ids = torch.tensor([[5, 6, 7]])
    made = [model.generate(ids, max_new_tokens=20, do_sample=False, use_cache=c) for c in (True, False)]
    assert not torch.equal(*made)


def test_every_link_in_the_docs_leads_somewhere() -> None:
    text = DOC.read_text(encoding="utf-8")
    named = re.findall(r"`((?:tests|src|docs)/[\w/]+\.\w+)`", text) + re.findall(r"\]\(([^)#:]+)\)", text)
    assert [name for name in named if not (DOC.parents[1] / name).exists()] == []


def test_every_design_in_the_docs_can_be_read() -> None:
    found = re.findall(r"`([a-z0-9]+@[^`\s]+)`", DOC.read_text(encoding="utf-8"))
    assert len(found) > 5
    for text in found:
        if not text.startswith("echo"):
            expression.Design.parse(text)
