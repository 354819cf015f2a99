"""A U-Net's skip connections carry what an adapter on the way down made, as docs/mustango.md says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from fixtures.adapter_designs import logits, stir

import talim.adapters as adapters


def test_the_way_up_meets_the_adapted_state(fresh_unet: Callable[[], Any]) -> None:
    base = fresh_unet()
    plain = skipped(base)
    model = adapters.attach(base.model, "conv@down:2k", base.sites())
    torch.testing.assert_close(skipped(base), plain, atol=1e-5, rtol=0)  # it changes nothing yet
    stir(model)
    made: list[torch.Tensor] = []
    site = next(m for name, m in base.model.named_modules() if name.endswith("down_blocks.0.attentions3.0"))
    handle = site.register_forward_hook(lambda _module, _inputs, output: made.append(output.detach()))
    met = skipped(base)
    handle.remove()
    assert not torch.allclose(met, plain, atol=1e-3)
    torch.testing.assert_close(met, made[0])


def skipped(base: Any) -> torch.Tensor:
    """What the highest level's first layer on the way up takes out of the skip connection [B, C, T, F]."""
    block = base.model.unet.up_blocks[-1]
    met: list[torch.Tensor] = []
    handle = block.resnets[0].register_forward_pre_hook(
        lambda _module, inputs: met.append(inputs[0].detach())
    )
    logits(base)
    handle.remove()
    width = base.model.unet.config.channels[0]
    return met[0][:, -width:]
