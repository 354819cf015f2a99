"""What every adapter kind must do, as one table: a new kind is a row in DESIGNS."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import PeftModel, get_peft_model
from peft.config import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

import talim.adapters as adapters
from talim.adapters.config import AdapterConfig
from talim.backbones import sampling
from talim.backbones.backbone import Batch
from talim.backbones.musicgen import MusicGen
from talim.designs import sizing
from talim.designs.expression import kind_names, parse
from talim.designs.kinds import KINDS
from talim.designs.places import select

SITES = ("conditioner", "all", "shallow", "deep", "layers[0]", "post")  # two layers have no middle
BY_KIND = {
    **{kind: f"{kind}@all:4k" for kind in KINDS},
    "lora": "lora@all:6k",
    "dora": "dora@all:6k",
    "ia3": "ia3@all",
    "full": "full@layers[1]",
    "hybrid": "linear@all:2k+full@layers[0]",
}
EVERYWHERE = {
    **{f"{kind}@{site}": f"{kind}@{site}:3k" for kind in KINDS for site in SITES},
    **{f"{kind}@{site}": f"{kind}@{site}:r2" for kind in ("lora", "dora") for site in SITES},
    **{f"{kind}@{site}": f"{kind}@{site}" for kind in ("ia3", "full") for site in SITES},
    "mixture": "conv@shallow:2k+transformer@deep:3k+linear@post:1k",
    "hybrid": "linear@all:2k+full@layers[0]",
    "twice": "linear@all:2k+conv@all:3k",
}
Fresh = Callable[..., MusicGen]


@pytest.fixture(params=BY_KIND)
def design(request: pytest.FixtureRequest) -> str:
    """One design of every kind, where the place does not matter."""
    return BY_KIND[request.param]


@pytest.fixture(params=EVERYWHERE)
def anywhere(request: pytest.FixtureRequest) -> str:
    """Every kind at every site, and mixtures."""
    return EVERYWHERE[request.param]


def is_adapter_weight(name: str) -> bool:
    return any(word in name for word in (".talim_blocks.", ".lora_", ".ia3_"))


def batch_for(base: MusicGen) -> Batch:
    rng = np.random.default_rng(0)
    tokens = [rng.integers(0, 32, (4, frames)).astype(np.int16) for frames in (11, 8)]
    return base.collate(list(zip(tokens, base.describe(["a", "be"]), strict=True)), [False, True])


def logits(base: MusicGen) -> torch.Tensor:
    with torch.no_grad(), sampling.inference(base.model):
        return base.logits(batch_for(base))


def stir(model: nn.Module, seed: int = 0) -> None:
    """Random weights: an untrained adapter changes nothing, so nothing would show."""
    generator = torch.Generator().manual_seed(seed)
    for weight in adapters.trainable_parameters(model):
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.2)


def base_facts(base: MusicGen) -> dict[str, str]:
    return {"name": base.name, "fingerprint": base.fingerprint, "licence": base.licence}


def train(base: MusicGen, optimiser: torch.optim.Optimizer, steps: int) -> list[float]:
    losses = []
    for _ in range(steps):
        optimiser.zero_grad()
        loss = base.loss(batch_for(base)).mean
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def adamw(model: nn.Module) -> torch.optim.AdamW:
    return torch.optim.AdamW(adapters.trainable_parameters(model), lr=3e-3)


def test_the_tables_have_every_kind() -> None:
    assert set(BY_KIND) == {*kind_names(), "hybrid"}
    assert {name.partition("@")[0] for name in EVERYWHERE} >= set(kind_names())


def test_identity_at_the_start(fresh: Fresh, anywhere: str) -> None:
    base = fresh()
    before = logits(base)
    adapters.attach(base.model, anywhere, base.sites())
    torch.testing.assert_close(logits(base), before, atol=1e-5, rtol=0)


def test_parameters_are_exact(fresh: Fresh, anywhere: str) -> None:
    base = fresh()
    expected = 0
    for part in parse(anywhere).parts:
        sites = select(part.site, base.sites())
        if part.size is None:
            expected += sum(sizing.fixed_cost(part.kind, site) for site in sites)
        else:
            widths = sizing.solve(part, sites, base.parameters)
            expected += sizing.total(sizing.cost_of(part.kind), sites, widths)
    model = adapters.attach(base.model, anywhere, base.sites())
    assert sum(weight.numel() for weight in adapters.trainable_parameters(model)) == expected
    config = model.peft_config["adapter"]
    if isinstance(config, AdapterConfig):
        assert config.parameters() == expected


def test_only_adapter_weights_are_trained(fresh: Fresh, design: str) -> None:
    base = fresh()
    base.enable_training()
    model = adapters.attach(base.model, design, base.sites())
    trained = {name for name, weight in model.named_parameters() if weight.requires_grad}
    assert trained
    assert all(is_adapter_weight(name) for name in trained)
    frozen = {n: w.clone() for n, w in model.named_parameters() if n not in trained}
    before = {n: w.clone() for n, w in model.named_parameters() if n in trained}
    losses = train(base, adamw(model), 12)
    now = dict(model.named_parameters())
    assert all(torch.equal(now[name], value) for name, value in frozen.items())
    assert all(not torch.equal(now[name], value) for name, value in before.items())
    assert losses[-1] < losses[0]


def test_save_and_load_under_another_name(fresh: Fresh, anywhere: str, tmp_path: Path) -> None:
    base = fresh()
    plain = logits(base)
    model = adapters.attach(base.model, anywhere, base.sites(), name="first")
    stir(model)
    adapters.save(model, tmp_path / "adapter", "first", base=base_facts(base))
    taught = logits(base)
    assert (taught - plain).abs().max() > 0.1
    other = fresh()
    loaded = adapters.load(other, tmp_path / "adapter", name="second")
    assert torch.equal(logits(other), taught)
    assert adapters.trainable_parameters(loaded) == []
    again = adapters.load(fresh(), tmp_path / "adapter", trainable=True)
    assert len(adapters.trainable_parameters(again)) == len(adapters.trainable_parameters(model))


def test_disabled_is_the_base(fresh: Fresh, anywhere: str) -> None:
    base = fresh()
    plain = logits(base)
    model = adapters.attach(base.model, anywhere, base.sites())
    stir(model)
    taught = logits(base)
    with adapters.disabled(model):
        torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)
    assert torch.equal(logits(base), taught)
    flags = [weight.requires_grad for weight in model.parameters()]
    model.requires_grad_(False)
    with adapters.disabled(model):
        pass
    assert adapters.trainable_parameters(model) == []  # a frozen adapter stays frozen
    assert any(flags)


def test_two_adapters_in_one_model(fresh: Fresh, design: str, tmp_path: Path) -> None:
    outputs = {}
    for seed, name in enumerate(("raga", "makam")):
        base = fresh()
        model = adapters.attach(base.model, design, base.sites(), name=name, seed=seed)
        stir(model, seed)
        outputs[name] = logits(base)
        adapters.save(model, tmp_path / name, name, base=base_facts(base))
    base = fresh()
    adapters.load(base, tmp_path / "raga", name="raga")
    model = adapters.load(base, tmp_path / "makam", name="makam")
    assert torch.equal(logits(base), outputs["makam"])
    model.set_adapter("raga")
    assert torch.equal(logits(base), outputs["raga"])
    model.base_model.set_adapter(["raga", "makam"])
    both = logits(base)
    assert not torch.allclose(both, outputs["raga"], atol=1e-2)
    assert not torch.allclose(both, outputs["makam"], atol=1e-2)
    adapters.save(model, tmp_path / "copy", "raga", base=base_facts(base))
    other = fresh()
    adapters.load(other, tmp_path / "copy")
    assert torch.equal(logits(other), outputs["raga"])
    model.delete_adapter("makam")
    model.set_adapter("raga")
    assert torch.equal(logits(base), outputs["raga"])


def test_unload_gives_the_base_back(fresh: Fresh, design: str) -> None:
    base = fresh()
    plain = logits(base)
    model = adapters.attach(base.model, design, base.sites())
    stir(model)
    model.unload()
    assert not any(isinstance(module, BaseTunerLayer) for module in base.model.modules())
    assert torch.equal(logits(base), plain)
    adapters.attach(base.model, design, base.sites())  # and it can be taught anew
    torch.testing.assert_close(logits(base), plain, atol=1e-5, rtol=0)


def test_bf16_base(fresh: Fresh, design: str) -> None:
    base = fresh("bf16")
    plain = logits(base)
    base.enable_training()
    model = adapters.attach(base.model, design, base.sites())
    assert {weight.dtype for weight in adapters.trainable_parameters(model)} == {torch.float32}
    # `full` computes in float32, and so at the start more exactly than the base
    torch.testing.assert_close(logits(base), plain, atol=0.2 if "full" in design else 1e-6, rtol=0)
    losses = train(base, adamw(model), 6)
    assert losses[-1] < losses[0]
    assert base.generate_tokens(["x"], 0.3, seed=0).shape == (1, 4, 15)


def test_gradient_checkpointing_changes_nothing(fresh: Fresh, design: str) -> None:
    found = []
    for checkpointed in (False, True):
        base = fresh()
        base.enable_training(gradient_checkpointing=checkpointed)
        model = adapters.attach(base.model, design, base.sites(), dropout=0.0)
        stir(model)
        base.loss(batch_for(base)).mean.backward()
        found.append([weight.grad for weight in adapters.trainable_parameters(model)])
    for plain, checkpointed in zip(*found, strict=True):
        assert plain.abs().max() > 0
        torch.testing.assert_close(plain, checkpointed)


def test_configuration_survives_json(fresh: Fresh, design: str) -> None:
    config = adapters.adapter_config(fresh(), design, dropout=0.25, seed=3)
    told = {key: sorted(v) if isinstance(v, set) else v for key, v in config.to_dict().items()}
    copied = PeftConfig.from_peft_type(**json.loads(json.dumps(told)))
    assert type(copied) is type(config)
    assert copied.to_dict() == config.to_dict()


def test_compiled_it_says_the_same(fresh: Fresh, design: str) -> None:
    base = fresh()
    model = adapters.attach(base.model, design, base.sites())
    stir(model)
    model.requires_grad_(False)
    expected = logits(base)
    plain = base.model
    base.model = torch.compile(plain, backend="eager")
    try:
        batch = batch_for(base)
        with torch.no_grad(), sampling.inference(plain):
            torch.testing.assert_close(base.logits(batch), expected, atol=1e-5, rtol=0)
    finally:
        base.model = plain
        torch.compiler.reset()


def test_seeds_decide_the_start(fresh: Fresh, design: str) -> None:
    weights = []
    for seed in (0, 0, 1):
        torch.manual_seed(len(weights))  # whatever else was drawn before
        base = fresh()
        weights.append(adapters.trainable_parameters(adapters.attach(base.model, design, seed=seed)))
    assert all(torch.equal(a, b) for a, b in zip(weights[0], weights[1], strict=True))
    drawn = not design.startswith(("ia3", "full"))  # these start as the base, whatever the seed
    assert drawn != all(torch.equal(a, b) for a, b in zip(weights[0], weights[2], strict=True))


def test_training_resumes_exactly(fresh: Fresh, design: str, tmp_path: Path) -> None:
    whole = fresh()
    whole.enable_training()
    model = adapters.attach(whole.model, design, whole.sites(), dropout=0.0)
    expected = train(whole, adamw(model), 6)
    first = fresh()
    first.enable_training()
    model = adapters.attach(first.model, design, first.sites(), dropout=0.0)
    optimiser = adamw(model)
    begun = train(first, optimiser, 3)
    adapters.save(model, tmp_path / "half", base=base_facts(first))
    torch.save(optimiser.state_dict(), tmp_path / "optimiser.pt")
    second = fresh()
    second.enable_training()
    model = adapters.load(second, tmp_path / "half", trainable=True)
    optimiser = adamw(model)
    optimiser.load_state_dict(torch.load(tmp_path / "optimiser.pt", weights_only=True))
    assert begun + train(second, optimiser, 3) == expected


def test_plain_peft_users(fresh: Fresh, design: str, tmp_path: Path) -> None:
    """Without talim's own save and load: get_peft_model, save_pretrained, from_pretrained."""
    base = fresh()
    model = get_peft_model(base.model, adapters.adapter_config(base.model, design))  # type: ignore[arg-type]
    stir(model)
    taught = logits(base)
    model.save_pretrained(tmp_path / "peft", save_embedding_layers=False)
    for low_memory in (False, True):
        other = fresh()
        again = PeftModel.from_pretrained(other.model, tmp_path / "peft", low_cpu_mem_usage=low_memory)
        assert torch.equal(logits(other), taught)
        assert adapters.trainable_parameters(again) == []
    assert str(tmp_path) not in (tmp_path / "peft" / "adapter_config.json").read_text(encoding="utf-8")
