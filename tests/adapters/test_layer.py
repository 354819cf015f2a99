"""AdapterLayer: outputs, attributes and modes of the wrapped module; skip connections of a U-Net."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from fixtures.adapter_designs import logits, randomize_adapter

import talim.adapters as adapters
from talim.adapters.config import AdapterConfig
from talim.adapters.layer import AdapterLayer
from talim.backbones.musicgen.backbone import MusicGen


def test_adapter_in_down_block_changes_the_skip_connection(fresh_unet: Callable[[], Any]) -> None:
    base = fresh_unet()
    plain = skip_states(base)
    model = adapters.attach(base.model, "conv@down:2k", base.sites())
    torch.testing.assert_close(skip_states(base), plain, atol=1e-5, rtol=0)  # still the identity
    randomize_adapter(model)
    outputs: list[torch.Tensor] = []
    site = next(m for name, m in base.model.named_modules() if name.endswith("down_blocks.0.attentions3.0"))
    handle = site.register_forward_hook(lambda _module, _inputs, output: outputs.append(output.detach()))
    adapted = skip_states(base)
    handle.remove()
    assert not torch.allclose(adapted, plain, atol=1e-3)
    torch.testing.assert_close(adapted, outputs[0])


def skip_states(base: Any) -> torch.Tensor:
    """Skip connection into the first layer of the last up block, [B, C, T, F]."""
    block = base.model.unet.up_blocks[-1]
    inputs_seen: list[torch.Tensor] = []
    handle = block.resnets[0].register_forward_pre_hook(lambda _module, inputs: inputs_seen.append(inputs[0].detach()))
    logits(base)
    handle.remove()
    width = base.model.unet.config.channels[0]
    return inputs_seen[0][:, -width:]


def test_forward_of_tuple_output_changes_only_the_hidden_states() -> None:
    class Pair(torch.nn.Linear):
        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, str]:
            return super().forward(x), "rest"

    config = AdapterConfig(blocks=[{"module": "m", "kind": "linear", "features": 4, "width": 2}])
    layer = AdapterLayer(Pair(4, 4), "raga", config, "m")
    torch.nn.init.ones_(layer.talim_blocks["raga"][0].up.bias)  # type: ignore[index,union-attr]
    x = torch.zeros(1, 2, 4)
    hidden, rest = layer(x)
    assert rest == "rest"
    torch.testing.assert_close(hidden, layer.base_layer(x)[0] + 1)


def test_attach_adopts_the_training_mode_of_the_module(fresh: Callable[..., MusicGen]) -> None:
    base = fresh()
    adapters.attach(base.model, "linear@all:2k", base.sites(), name="calm")
    assert not any(module.training for module in base.model.modules())
    base.enable_training()
    adapters.attach(base.model, "linear@all:2k", base.sites(), name="eager")
    layer = base.model.decoder.model.decoder.layers[0]
    assert layer.talim_blocks["eager"].training
    assert not base.model.text_encoder.training
    assert layer.embed_dim == 16  # attributes of the block are still there
    with pytest.raises(AttributeError):
        _ = layer.no_such_attribute


@pytest.mark.parametrize("device", ["mps", "cuda", "cpu"])
def test_mixed_precision_is_autocast_of_the_device_that_computes(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The states say that they are on a GPU, which is not here; autocast is watched, and is off for float32."""

    class Elsewhere(torch.Tensor):
        @property
        def device(self) -> torch.device:  # type: ignore[override]
            return torch.device(device)

    entered: list[tuple[str, torch.dtype]] = []

    def autocast(kind: str, dtype: torch.dtype) -> Any:
        entered.append((kind, dtype))
        return nullcontext()

    config = AdapterConfig(blocks=[{"module": "m", "kind": "linear", "features": 4, "width": 2}])
    layer: Any = AdapterLayer(torch.nn.Linear(4, 4), "raga", config, "m")
    layer.mixed_precision = True
    monkeypatch.setattr(torch, "autocast", autocast)
    block = layer.talim_blocks["raga"][0]
    for dtype in (torch.bfloat16, torch.float32):
        residual = layer._residual(block, torch.ones(1, 2, 4, dtype=dtype).as_subclass(Elsewhere), None, None)
        assert residual.dtype == dtype
    assert entered == [(device, torch.bfloat16)]
