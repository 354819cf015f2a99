"""The mistakes that are easy to make in this U-Net, one by one, each made on purpose in a loaded module."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from diffusers.models.activations import GEGLU
from diffusers.models.attention_processor import Attention
from diffusers.models.embeddings import Timesteps
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor, nn
from torch.nn import functional as F

from talim.backbones.mustango import unet
from talim.backbones.mustango.unet import CrossAttentionContext, MusicBlock, MusicTransformer

Mutation = Callable[[nn.Module], contextlib.AbstractContextManager[None]]
INTERPOLATE = F.interpolate


@contextlib.contextmanager
def chord_before_beat(_module: nn.Module) -> Iterator[None]:
    def attend(self: MusicBlock, site: int, hidden: Tensor, contexts: Any) -> Tensor:
        for turn in (0, 2, 1):
            hidden = self.stacks()[turn][site](hidden, *contexts[turn])
        return hidden

    with mock.patch.object(MusicBlock, "attend", attend):
        yield


@contextlib.contextmanager
def swapped_weights(_module: nn.Module) -> Iterator[None]:
    def stacks(self: MusicBlock) -> Any:
        return self.attentions, self.attentions3, self.attentions2

    with mock.patch.object(MusicBlock, "stacks", stacks):
        yield


def changed_bias(turn: int, change: Callable[[Tensor], Tensor | None]) -> Mutation:
    @contextlib.contextmanager
    def mutation(_module: nn.Module) -> Iterator[None]:
        right = MusicBlock.attend

        def attend(self: MusicBlock, site: int, hidden: Tensor, contexts: Any) -> Tensor:
            wrong = list(contexts)
            if wrong[turn].bias is not None:
                wrong[turn] = CrossAttentionContext(wrong[turn].tokens, change(wrong[turn].bias))
            return right(self, site, hidden, wrong)

        with mock.patch.object(MusicBlock, "attend", attend):
            yield

    return mutation


@contextlib.contextmanager
def huge_bias(_module: nn.Module) -> Iterator[None]:
    with mock.patch.object(unet, "MASKED_BIAS", -1e9):
        yield


@contextlib.contextmanager
def tanh_gelu(_module: nn.Module) -> Iterator[None]:
    with mock.patch.object(GEGLU, "gelu", lambda self, gate: F.gelu(gate, approximate="tanh")):
        yield


def other_sinusoids(**changes: Any) -> Mutation:
    @contextlib.contextmanager
    def mutation(module: nn.Module) -> Iterator[None]:
        right = module.get_submodule("time_proj")
        numbers = {"flip_sin_to_cos": True, "downscale_freq_shift": 0} | changes
        module.time_proj = Timesteps(right.num_channels, **numbers)  # type: ignore[arg-type]
        yield
        module.time_proj = right

    return mutation


def other_epsilon(owner: type[nn.Module], norm: type[nn.Module], epsilon: float) -> Mutation:
    """In the norms of one kind directly inside modules of another."""

    @contextlib.contextmanager
    def mutation(module: nn.Module) -> Iterator[None]:
        found: list[Any] = [
            part
            for whole in module.modules()
            if isinstance(whole, owner)
            for part in (whole.children() if norm is nn.GroupNorm else whole.modules())
            if isinstance(part, norm)
        ]
        assert found
        before = [part.eps for part in found]
        for part in found:
            part.eps = epsilon
        yield
        for part, value in zip(found, before, strict=True):
            part.eps = value

    return mutation


@contextlib.contextmanager
def heads_as_widths(module: nn.Module) -> Iterator[None]:
    found = [part for part in module.modules() if isinstance(part, Attention)]
    before = [part.heads for part in found]
    for part in found:
        part.heads = part.inner_dim // part.heads
    yield
    for part, heads in zip(found, before, strict=True):
        part.heads = heads


@contextlib.contextmanager
def bilinear(_module: nn.Module) -> Iterator[None]:
    def smooth(hidden: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "") -> Tensor:
        return INTERPOLATE(hidden, size=size, scale_factor=scale_factor, mode="bilinear")

    with mock.patch("diffusers.models.upsampling.F.interpolate", smooth):
        yield


MUTATIONS: dict[str, Mutation] = {
    "chord before beat": chord_before_beat,
    "attentions2/3 weights swapped": swapped_weights,
    "ignore text mask": changed_bias(0, lambda bias: None),
    "ignore beat mask": changed_bias(1, lambda bias: None),
    "ignore chord mask": changed_bias(2, lambda bias: None),
    "invert beat mask": changed_bias(1, lambda bias: unet.MASKED_BIAS - bias),
    "-1e9 instead of -1e4 bias": huge_bias,
    "tanh gelu": tanh_gelu,
    "flip_sin_to_cos False": other_sinusoids(flip_sin_to_cos=False),
    "freq_shift 1": other_sinusoids(downscale_freq_shift=1),
    "transformer GroupNorm eps 1e-5": other_epsilon(MusicTransformer, nn.GroupNorm, 1e-5),
    "resnet GroupNorm eps 1e-6": other_epsilon(ResnetBlock2D, nn.GroupNorm, 1e-6),
    "LayerNorm eps 1e-6": other_epsilon(MusicTransformer, nn.LayerNorm, 1e-6),
    "attention_head_dim read as head dim": heads_as_widths,
    "bilinear upsample": bilinear,
}
