"""The U-Net: parameter count, masks, odd shapes, gradient checkpointing."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D
from fixtures import released_mustango
from golden_mustango.structure import RELEASED_UNET
from torch import Tensor, nn

from talim.backbones.mustango.unet import MusicTransformer, MusicUNet
from talim.backbones.mustango.unet_config import UNetConfig
from talim.errors import TalimError


@pytest.fixture(scope="module")
def unet() -> MusicUNet:
    torch.manual_seed(0)
    output = MusicUNet(UNetConfig.of(released_mustango.UNET)).eval()
    released_mustango.randomize_adapter(output)
    return output


def inputs(frames: int = 8, bands: int = 4, batch: int = 2, seed: int = 0) -> list[Tensor]:
    source = torch.Generator().manual_seed(seed)
    width = released_mustango.WIDTH
    sample = torch.randn(batch, 8, frames, bands, generator=source)
    tokens = [torch.randn(batch, length, width, generator=source) for length in (5, 50, 20)]
    return [sample, torch.arange(batch) * 400 + 10, *tokens]


def masks(batch: int = 2) -> list[Tensor]:
    return [torch.ones(batch, length, dtype=torch.bool) for length in (5, 50, 20)]


def test_released_unet_has_its_parameter_count() -> None:
    with torch.device("meta"):
        output = MusicUNet(UNetConfig.of(RELEASED_UNET))
    assert sum(weight.numel() for weight in output.parameters()) == 1_413_192_008
    assert len(output.state_dict()) == 1518
    assert sum(isinstance(part, MusicTransformer) for part in output.modules()) == 48


def test_norm_epsilons_equal_the_reference(unet: MusicUNet) -> None:
    for part in unet.modules():
        if isinstance(part, MusicTransformer):
            assert part.norm.eps == 1e-6
            assert {norm.eps for norm in part.modules() if isinstance(norm, nn.LayerNorm)} == {1e-5}
        elif isinstance(part, ResnetBlock2D):
            assert part.norm1.eps == part.norm2.eps == 1e-5
    assert unet.conv_norm_out.eps == 1e-5


@torch.no_grad()
@pytest.mark.parametrize(("frames", "bands"), [(1, 1), (3, 2), (13, 7), (16, 16)])
def test_forward_keeps_any_latent_size(unet: MusicUNet, frames: int, bands: int) -> None:
    given = inputs(frames, bands)
    output = unet(*given)
    assert output.shape == given[0].shape
    assert torch.isfinite(output).all()


@torch.no_grad()
@pytest.mark.parametrize("turn", [0, 1, 2], ids=["text", "beats", "chords"])
def test_forward_ignores_masked_tokens(unet: MusicUNet, turn: int) -> None:
    given, seen = inputs(), masks()
    seen[turn][:, 3:] = False
    first = unet(*given, *seen)
    changed = list(given)
    changed[2 + turn] = given[2 + turn].clone()
    changed[2 + turn][:, 3:] += 5
    assert torch.equal(unet(*changed, *seen), first)
    changed[2 + turn][:, :3] += 5
    assert (unet(*changed, *seen) - first).abs().max() > 1e-3


@torch.no_grad()
def test_forward_without_masked_tokens_is_equal(unet: MusicUNet) -> None:
    given, seen = inputs(), masks()
    seen[0][:, 3:] = False
    shorter = [*given[:2], given[2][:, :3], *given[3:]]
    short_masks = [seen[0][:, :3], *seen[1:]]
    assert torch.allclose(unet(*given, *seen), unet(*shorter, *short_masks), atol=1e-5)


@torch.no_grad()
def test_forward_of_a_fully_masked_row_attends_by_scores(unet: MusicUNet) -> None:
    """Adding -10000 to every score only changes rounding; a much larger bias would erase them."""
    given, seen = inputs(), masks()
    seen[1][:] = False
    assert torch.allclose(unet(*given, *seen), unet(*given), atol=1e-2)


@torch.no_grad()
def test_upsampling_repeats_values(unet: MusicUNet) -> None:
    up: Any = unet.up_blocks[0]
    sampler = up.upsamplers[0]
    hidden = torch.randn(1, 32, 3, 2)
    repeated = hidden.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert torch.allclose(sampler(hidden, output_size=(6, 4)), sampler.conv(repeated), atol=1e-6)


def test_gradient_checkpointing_gives_equal_gradients_to_all_contexts(unet: MusicUNet) -> None:
    gradients = []
    for on in (False, True):
        unet.set_checkpointing(on)
        given = [tensor.requires_grad_() if tensor.is_floating_point() else tensor for tensor in inputs()]
        unet.zero_grad()
        unet(*given, *masks()).square().mean().backward()
        weights = [weight.grad.clone() for weight in unet.parameters() if weight.grad is not None]
        gradients.append([*[token.grad for token in given[2:]], *weights])
    unet.set_checkpointing(False)
    for plain, again in zip(*gradients, strict=True):
        assert torch.allclose(plain, again, atol=1e-6)
    assert all(gradient.abs().max() > 0 for gradient in gradients[1][:3])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dual_cross_attention": True}, "dual_cross_attention"),
        ({"mid_block_type": "UNetMidBlock2DCrossAttn"}, "mid_block_type"),
        ({"down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"]}, "CrossAttnDownBlock2DMusic"),
        ({"up_block_types": ["UpBlock2D"]}, "1 values for 2 levels"),
        ({"attention_head_dim": [2]}, "1 values for 2 levels"),
    ],
)
def test_config_of_unsupported_unet_raises_talim_error(change: dict[str, Any], message: str) -> None:
    with pytest.raises(TalimError, match=message):
        UNetConfig.of(released_mustango.UNET | change)


def test_config_incomplete_names_the_missing_key() -> None:
    config = {key: value for key, value in released_mustango.UNET.items() if key != "in_channels"}
    with pytest.raises(TalimError, match="in_channels"):
        UNetConfig.of(config)
