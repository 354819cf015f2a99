"""Tests of talim.backbones.mustango.weight_names: names of the released files, aliases, unfitting weights."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from talim.backbones.mustango import weight_names
from talim.errors import TalimError


def test_diffusion_weights_drops_aliases_and_unused_keys() -> None:
    shared = torch.arange(6.0)
    released = {
        "text_encoder.shared.weight": shared,
        "text_encoder.encoder.embed_tokens.weight": shared.clone(),
        "FME.translation_bias": torch.ones(2),
        "PE.pe": torch.zeros(3),
        "unet.conv_in.weight": torch.zeros(1),
    }
    weights = weight_names.diffusion_weights(released, "ldm")
    assert set(weights) == {
        "text_encoder.shared.weight",
        "chord_embedding_layer.FME.translation_bias",
        "unet.conv_in.weight",
    }
    assert torch.equal(weights["chord_embedding_layer.FME.translation_bias"], torch.ones(2))


def test_diffusion_weights_aliases_that_differ_raise_talim_error() -> None:
    released = {"text_encoder.shared.weight": torch.zeros(2), "text_encoder.encoder.embed_tokens.weight": torch.ones(2)}
    with pytest.raises(TalimError, match="differ, but they are one weight"):
        weight_names.diffusion_weights(released, "ldm")


@pytest.mark.parametrize(
    ("released", "renamed"),
    [
        ("encoder.mid.block_1.conv1.weight", "encoder.mid_block.resnets.0.conv1.weight"),
        ("encoder.mid.attn_1.proj_out.bias", "encoder.mid_block.attentions.0.to_out.0.bias"),
        ("encoder.down.2.block.1.nin_shortcut.weight", "encoder.down_blocks.2.resnets.1.conv_shortcut.weight"),
        ("encoder.down.0.downsample.conv.weight", "encoder.down_blocks.0.downsamplers.0.conv.weight"),
        # the released file counts from the finest level, diffusers from the coarsest
        ("decoder.up.0.block.2.norm1.weight", "decoder.up_blocks.2.resnets.2.norm1.weight"),
        ("decoder.up.2.upsample.conv.weight", "decoder.up_blocks.0.upsamplers.0.conv.weight"),
        ("decoder.norm_out.weight", "decoder.conv_norm_out.weight"),
        ("quant_conv.weight", "quant_conv.weight"),
    ],
)
def test_vae_vocoder_weights_renames_for_diffusers(released: str, renamed: str) -> None:
    vae, vocoder = weight_names.vae_vocoder_weights({released: torch.zeros(1), "vocoder.ups.0.bias": torch.ones(1)}, 3)
    assert set(vae) == {renamed}
    assert set(vocoder) == {"upsampler.0.bias"}


def test_vae_vocoder_weights_makes_attention_convolutions_linear() -> None:
    kernel = torch.randn(4, 4, 1, 1)
    vae, _ = weight_names.vae_vocoder_weights({"encoder.mid.attn_1.q.weight": kernel}, 3)
    assert torch.equal(vae["encoder.mid_block.attentions.0.to_q.weight"], kernel[:, :, 0, 0])


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ({"weight": torch.zeros(2, 3)}, r"w lacks 1 weight \(bias\)"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(2), "x": torch.zeros(1)}, r"w has 1 weight \(x\)"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(2)}, r"w: weight has the shape \[3, 2\], expected \[2, 3\]"),
    ],
)
def test_check_weights_that_do_not_fit_raises_talim_error(weights: dict, message: str) -> None:
    with pytest.raises(TalimError, match=message):
        weight_names.check_weights(nn.Linear(3, 2), weights, "w")


def test_load_weights_assigns_to_a_module_without_memory() -> None:
    with torch.device("meta"):
        module = nn.Linear(3, 2)
    weight_names.load_weights(module, {"weight": torch.ones(2, 3)}, "w", given=["bias"])
    assert torch.equal(module.weight, torch.ones(2, 3))
    assert module.bias.is_meta
