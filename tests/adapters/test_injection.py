"""Adding adapters to models: configurations, names, refusals, mixed precision, modes."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from fixtures.adapter_designs import randomize_adapter
from transformers import T5Config, T5EncoderModel

import talim.adapters as adapters
from talim.adapters import injection
from talim.backbones.musicgen.backbone import MusicGen
from talim.design.adapter_kinds import KINDS
from talim.errors import TalimError, UsageError


def step(base: MusicGen) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch."""
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(0, 32, (base.codebooks, 20), generator=generator).numpy().astype("int16")
    batch = base.collate([(tokens, base.encode_text(["a long alap"])[0])], [False])
    loss = base.loss(batch)
    weights = {name: p for name, p in base.model.named_parameters() if p.requires_grad}
    return loss.per_item, dict(zip(weights, torch.autograd.grad(loss.mean, list(weights.values())), strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_set_mixed_precision_on_bf16_base_stays_near_float32_results(fresh: Fresh, kind: str) -> None:
    base = fresh("bf16")
    peft = injection.attach(base.model, f"{kind}@all:width16", base.sites(), dropout=0.0)
    randomize_adapter(peft)
    exact, exact_gradients = step(base)
    injection.set_mixed_precision(peft)
    mixed, mixed_gradients = step(base)
    assert not torch.equal(mixed, exact)  # it has an effect
    torch.testing.assert_close(mixed, exact, rtol=0.03, atol=0.03)
    flat = [torch.cat([g.flatten() for g in gradients.values()]) for gradients in (exact_gradients, mixed_gradients)]
    assert torch.nn.functional.cosine_similarity(*flat, dim=0) > 0.98
    assert {weight.dtype for weight in adapters.trainable_parameters(peft)} == {torch.float32}
    assert {gradient.dtype for gradient in mixed_gradients.values()} == {torch.float32}
    injection.set_mixed_precision(peft, False)
    assert torch.equal(step(base)[0], exact)


def test_set_mixed_precision_on_float32_base_or_full_changes_nothing(fresh: Fresh) -> None:
    for precision, design in (("fp32", "conv@all:width16"), ("bf16", "full@all")):
        base = fresh(precision)
        peft = injection.attach(base.model, design, base.sites(), dropout=0.0)
        randomize_adapter(peft)
        exact, _ = step(base)
        injection.set_mixed_precision(peft)
        assert torch.equal(step(base)[0], exact)


Fresh = Callable[..., MusicGen]
DESIGN = "linear@all:2k"


@pytest.mark.parametrize("name", ["decoder", "layers", "0", "down", "talim_blocks", "base_layer", "keys", "a.b", ""])
def test_attach_name_inside_module_paths_raises_usage_error(fresh: Fresh, name: str) -> None:
    base = fresh()
    with pytest.raises(UsageError, match="adapter name"):
        adapters.attach(base.model, DESIGN, base.sites(), name=name)


def test_attach_name_in_use_raises_usage_error(fresh: Fresh) -> None:
    base = fresh()
    adapters.attach(base.model, DESIGN, base.sites(), name="raga")
    with pytest.raises(UsageError, match="already in this model"):
        adapters.attach(base.model, DESIGN, base.sites(), name="raga")


def test_attach_targets_only_the_sites_modules(fresh: Fresh) -> None:
    base = fresh()
    model = adapters.attach(base.model, "linear@layers[1]:1k", base.sites())
    assert model.base_model.targeted_module_names == ["decoder.model.decoder.layers.1"]
    assert adapters.attach(base.model, DESIGN, base.sites(), name="more") is model


def test_adapter_config_of_transformers_model_equals_that_of_backbone(fresh: Fresh) -> None:
    base = fresh()
    of_backbone = adapters.adapter_config(base, "linear@all:5%")
    assert adapters.adapter_config(base.model, "linear@all:5%").to_dict() == of_backbone.to_dict()
    adapters.attach(base.model, DESIGN)
    again = adapters.adapter_config(base.model, "linear@all:5%")
    assert again.to_dict() == of_backbone.to_dict()  # percentages refer to the base without adapters


def test_adapter_config_of_unsupported_model_raises_usage_error() -> None:
    other = T5EncoderModel(T5Config(vocab_size=8, d_model=8, d_kv=4, d_ff=8, num_layers=1, num_heads=2))
    with pytest.raises(UsageError, match="T5EncoderModel arrived"):
        adapters.adapter_config(other, DESIGN)


def test_merge_and_unload_raises_talim_error(fresh: Fresh) -> None:
    base = fresh()
    model = adapters.attach(base.model, DESIGN, base.sites())
    with pytest.raises(TalimError, match="cannot be merged"):
        model.merge_and_unload()


def test_attach_with_kind_options_passes_them_to_the_kind(fresh: Fresh) -> None:
    counts = []
    for kind_options in ({"conv": {"kernel_size": 3}}, None):
        base = fresh()
        model = adapters.attach(base.model, "conv@all:width8", base.sites(), kind_options=kind_options)
        counts.append(sum(weight.numel() for weight in adapters.trainable_parameters(model)))
    taps = (5 - 3) * 8 * 8 * 2 * len(base.model.decoder.model.decoder.layers)
    assert counts[1] - counts[0] == taps


@pytest.mark.parametrize(
    ("kind_options", "message"),
    [({"conv": {"kernel_size": 3}}, "kind_options.conv"), ({"linear": {"kernel_size": 3}}, "no option kernel_size")],
)
def test_attach_with_unusable_kind_options_raises_usage_error(fresh: Fresh, kind_options: dict, message: str) -> None:
    base = fresh()
    with pytest.raises(UsageError, match=message):
        adapters.attach(base.model, "linear@all:1k", base.sites(), kind_options=kind_options)


def test_a_method_that_reads_values_cannot_be_added_without_memory(fresh: Fresh) -> None:
    model = fresh().model.to("meta")
    with pytest.raises(UsageError, match="what shira needs cannot be predicted"):
        adapters.attach(model, "peft:shira@all:r2")
