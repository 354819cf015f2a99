"""Contract of every adapter kind in training, in files and under torch.compile; see fixtures/adapter_designs.py."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from fixtures import adapter_designs
from fixtures.adapter_designs import adamw, base_facts, batch_for, logits, randomize_adapter, train
from peft import PeftModel, get_peft_model
from peft.config import PeftConfig

import talim.adapters as adapters
from talim.backbones.musicgen import sampling
from talim.backbones.musicgen.backbone import MusicGen
from talim.design.expression import kind_names

Fresh = Callable[..., MusicGen]


@pytest.fixture(params=adapter_designs.BY_KIND)
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def design(kind: str) -> str:
    return adapter_designs.BY_KIND[kind]


def test_training_changes_only_adapter_weights(fresh: Fresh, design: str) -> None:
    base = fresh()
    base.enable_training()
    model = adapters.attach(base.model, design, base.sites(), dropout=0.0)
    flags = {name: weight.requires_grad for name, weight in model.named_parameters()}
    before = {name: weight.clone() for name, weight in model.named_parameters()}
    losses = train(base, adamw(model), 4)
    for name, weight in model.named_parameters():
        assert torch.equal(weight, before[name]) != flags[name], name
    assert losses[-1] < losses[0]


def test_training_on_bf16_base_keeps_float32_adapter_weights(fresh: Fresh, kind: str, design: str) -> None:
    """Adapter weights are float32 in training; generation works on top."""
    base = fresh("bf16")
    plain = logits(base)
    base.enable_training()
    model = adapters.attach(base.model, design, base.sites(), dropout=0.0)
    assert {weight.dtype for weight in adapters.trainable_parameters(model)} == {torch.float32}
    # `full` and DoRA's norms compute in float32, more exactly than the base
    exact = kind not in ("full", "hybrid", "dora")
    torch.testing.assert_close(logits(base), plain, atol=1e-6 if exact else 0.2, rtol=0)
    losses = train(base, adamw(model), 4)
    assert losses[-1] < losses[0]
    assert base.generate_tokens(["x"], 0.3, seed=0).shape == (1, 4, 15)


def test_gradient_checkpointing_gives_the_same_gradients(fresh: Fresh, design: str) -> None:
    gradients = []
    for checkpointed in (False, True):
        base = fresh()
        base.enable_training(gradient_checkpointing=checkpointed)
        model = adapters.attach(base.model, design, base.sites(), dropout=0.0)
        randomize_adapter(model)
        base.loss(batch_for(base)).mean.backward()
        gradients.append([weight.grad for weight in adapters.trainable_parameters(model)])
    for plain, checkpointed in zip(*gradients, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(plain, checkpointed)


COMPILED = {kind: adapter_designs.BY_KIND[kind] for kind in kind_names()} | {
    "mixture": adapter_designs.MIXTURES["everywhere"]
}


QUICKLY_COMPILED = ("mixture", "dora")  # the mixture has all kinds of talim's own


@pytest.mark.parametrize(
    ("kind", "training"),
    [
        *(pytest.param(kind, False, marks=() if kind in QUICKLY_COMPILED else pytest.mark.slow) for kind in COMPILED),
        pytest.param("mixture", True, marks=pytest.mark.slow),
    ],
)
def test_compiled_model_gives_the_same_logits(fresh: Fresh, kind: str, training: bool) -> None:
    """As one graph without breaks; DoRA, which has breaks, is in the table of expected errors."""
    base = fresh(layers=1)
    model = adapters.attach(base.model, COMPILED[kind], base.sites(), dropout=0.0)
    randomize_adapter(model)
    expected, plain = logits(base), base.model
    base.model = torch.compile(plain, backend="eager", fullgraph=True)
    expected_error = adapter_designs.REFUSED["one graph"].get(kind)
    try:
        with torch.set_grad_enabled(training), sampling.inference_mode(plain):
            if expected_error:
                with pytest.raises(expected_error[0], match=expected_error[1]):
                    base.logits(batch_for(base))
                return
            compiled = base.logits(batch_for(base))
    finally:
        base.model = plain
        torch.compiler.reset()
    assert compiled.requires_grad == training
    torch.testing.assert_close(compiled.detach(), expected, atol=1e-5, rtol=0)


def test_attach_seed_determines_initial_weights(fresh: Fresh, kind: str, design: str) -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(weights))  # independent of the global state
        weights.append(adapters.trainable_parameters(adapters.attach(fresh().model, design, seed=seed)))
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    assert adapter_designs.DRAWN[kind] != all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


def test_training_resumed_from_saved_adapter_equals_uninterrupted(fresh: Fresh, design: str, tmp_path: Path) -> None:
    whole = fresh()
    whole.enable_training()
    model = adapters.attach(whole.model, design, whole.sites(), dropout=0.0)
    expected = train(whole, adamw(model), 4)
    first = fresh()
    first.enable_training()
    model = adapters.attach(first.model, design, first.sites(), dropout=0.0)
    optimiser = adamw(model)
    first_losses = train(first, optimiser, 2)
    adapters.save(model, tmp_path / "half", base=base_facts(first))
    torch.save(optimiser.state_dict(), tmp_path / "optimiser.pt")
    second = fresh()
    second.enable_training()
    model = adapters.load(second, tmp_path / "half", trainable=True)
    optimiser = adamw(model)
    optimiser.load_state_dict(torch.load(tmp_path / "optimiser.pt", weights_only=True))
    assert first_losses + train(second, optimiser, 2) == expected


def test_adapter_config_survives_json(fresh: Fresh, design: str) -> None:
    config = adapters.adapter_config(fresh(), design, dropout=0.25, seed=3)
    values = {key: sorted(v) if isinstance(v, set) else v for key, v in config.to_dict().items()}
    copied = PeftConfig.from_peft_type(**json.loads(json.dumps(values)))
    assert type(copied) is type(config)
    assert copied.to_dict() == config.to_dict()


def test_plain_peft_save_and_load_gives_the_same_output(fresh: Fresh, design: str, tmp_path: Path) -> None:
    """Without talim's own save and load: get_peft_model, save_pretrained, from_pretrained."""
    base = fresh()
    model = get_peft_model(base.model, adapters.adapter_config(base.model, design))  # type: ignore[arg-type]
    randomize_adapter(model)
    adapted = logits(base)
    model.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    for low_memory in (False, True):
        reloaded = fresh()
        again = PeftModel.from_pretrained(reloaded.model, tmp_path / "peft", low_cpu_mem_usage=low_memory)
        assert torch.equal(logits(reloaded), adapted)
        assert adapters.trainable_parameters(again) == []
    assert str(tmp_path) not in (tmp_path / "peft" / "adapter_config.json").read_text(encoding="utf-8")
