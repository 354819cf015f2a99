"""Adapters of few weights in float32 on a CPU, a frame at a time in compiled functions (`frame_kernels`)."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from talim.backbones.musicgen.decoding import compiled
from talim.backbones.musicgen.decoding.adapter_steps import AdapterStep, ConvStep, Moment, TransformerStep
from talim.backbones.musicgen.decoding.linear_products import product_of
from talim.design.adapter_kinds import Conv, Kind, Linear, Transformer
from talim.design.streaming import StreamingState

MOST_WEIGHTS = 2**20  # beyond which reading them takes longer than everything else, and several threads read faster
MOST_WEIGHTS_OF_ONE_THREAD = 2**16  # of a projection


def can_be_fused(block: Any) -> bool:
    """Whether there is a compiled function for a block on its device, in its precision, and it is small enough."""
    if type(block) not in (Linear, Conv, Transformer) or not block.causal:
        return False
    weights = list(block.parameters())
    on_cpu = all(weight.device.type == "cpu" and weight.dtype == torch.float32 for weight in weights)
    return on_cpu and sum(weight.numel() for weight in weights) <= MOST_WEIGHTS


def fused_step(block: Any, scale: float) -> AdapterStep:
    """The step of a block that can be fused."""
    kinds: dict[type[Kind], type[AdapterStep]] = {
        Linear: FusedLinearStep,
        Conv: FusedConvStep,
        Transformer: FusedTransformerStep,
    }
    return kinds[type(block)](block, scale)


def _flat(*layers: nn.Module, scale: float = 1.0) -> np.ndarray:
    """Weights [inputs, outputs] and biases one after the other; the last layer's times `scale`."""
    parts: list[Tensor] = [torch.zeros(0)]
    for layer in layers:
        factor = scale if layer is layers[-1] else 1.0
        assert isinstance(layer, nn.Linear | nn.LayerNorm)
        weight, bias = layer.weight.detach(), layer.bias.detach()
        parts += [(weight.t() if weight.ndim == 2 else weight).flatten() * factor, bias * factor]
    return torch.cat(parts).numpy()


class FusedStep(AdapterStep):
    """Everything between two layers in one call; where projections are large, all that is between them.

    Projections of many weights are then products of torch, whose threads read them faster than one does.
    """

    kernel: str  # of the compiled functions `<kernel>_frame` and `<kernel>_bottleneck`
    between: list[nn.Module]  # layers of the bottleneck, in the order of their weights

    def __init__(self, block: Any, scale: float) -> None:
        self.block, self.scale, self.width = block, scale, int(block.width)
        self.dtype, self.device = torch.float32, torch.device("cpu")
        self.kernels = compiled.kernels("frame_kernels")
        self.threaded = block.down.weight.numel() > MOST_WEIGHTS_OF_ONE_THREAD
        self._read(block)
        if self.threaded:
            self.weights = _flat(*self.between)
            self.down, self.up = product_of(block.down), product_of(block.up, scale)
        else:
            self.weights = _flat(block.down, *self.between, block.up, scale=scale)

    def _read(self, block: Any) -> None:
        """Set `between` and the numbers that the compiled function needs."""
        self.between = []

    def allocate(self, rows: int, size: int) -> None:
        self.rows, self.size, self.one_thread = rows, size, False  # nothing here asks torch for few threads
        self.hidden = np.zeros((rows, self.width), np.float32)

    def step(self, states: Tensor, moment: Moment) -> Tensor:
        if self.threaded:
            return super().step(states, moment)
        added = states if states.dtype == torch.float32 and states.is_contiguous() else states.float().contiguous()
        self._frame(added.numpy(), moment)
        return added.to(states.dtype)

    def _frame(self, states: np.ndarray, moment: Moment) -> None:
        """Add the residual to states [R, D]."""
        getattr(self.kernels, f"{self.kernel}_frame")(states, self.weights, self.hidden, *self._past(moment))

    def _hidden(self, states: Tensor, moment: Moment) -> Tensor:
        hidden = self.down(states)
        getattr(self.kernels, f"{self.kernel}_bottleneck")(hidden.numpy(), self.weights, *self._past(moment))
        return hidden

    def _past(self, moment: Moment) -> tuple[Any, ...]:
        """What the compiled functions are given beyond states and weights: past frames, numbers and room."""
        return ()


class FusedLinearStep(FusedStep):
    """Down, GELU, up in one call."""

    kernel = "linear"

    def _hidden(self, states: Tensor, moment: Moment) -> Tensor:
        return self.down.gelu(states)


class FusedConvStep(FusedStep, ConvStep):
    """Convolutions over rings of past frames, and the excitation's sums and gates, in one call."""

    kernel = "conv"

    def _read(self, block: Any) -> None:
        self.excitation, self.convolutions = block.excitation, list(block.convolutions)
        self.between = [convolution.taps for convolution in self.convolutions]
        self.between += [self.excitation.squeeze, self.excitation.excite]
        self.dilations = np.array([layer.dilation for layer in self.convolutions], np.int64)
        self.kernel_size = self.convolutions[0].kernel_size if self.convolutions else 1
        self.lengths = [(self.kernel_size - 1) * int(dilation) + 1 for dilation in self.dilations]

    def allocate(self, rows: int, size: int) -> None:
        FusedStep.allocate(self, rows, size)
        width, squeezed = self.width, self.excitation.squeeze.out_features
        self.rings = torch.zeros(rows, sum(self.lengths), width)
        self.total, self.gate = torch.zeros(rows, width), torch.zeros(rows, width)
        self.inner = np.zeros((rows, squeezed), np.float32)
        self.room = [self.rings.numpy(), self.total.numpy(), self.gate.numpy()]

    @property
    def buffers(self) -> list[str]:
        return ["rings", "total", "gate"]

    def prefill(self, states: Tensor, rows: Tensor, now: int, size: int) -> Tensor:
        state, first = StreamingState(), 0
        residual = self.block(states.to(self.dtype), state)
        for layer, length in zip(self.convolutions, self.lengths, strict=True):
            if length > 1:
                frames = torch.cat(state.tensors[layer.name], 1)  # the last ones, oldest first
                places = torch.arange(now - length + 1, now) % length
                self.rings[rows[:, None], first + places] = frames
            first += length
        name = self.excitation.name
        self.total[rows] = state.tensors[name][0][:, 0]
        self.gate[rows] = state.tensors[f"{name} gate"][:, 0]
        return self._added(states, residual)

    def _past(self, moment: Moment) -> tuple[Any, ...]:
        now, frames = moment.numbers()
        counts = frames, now, self.kernel_size, self.dilations, self.excitation.update_every
        return *self.room, *counts, self.inner


class FusedTransformerStep(FusedStep, TransformerStep):
    """Attention over keys and values in a ring of each row's own, and a feed-forward, in one call."""

    kernel = "transformer"

    def _read(self, block: Any) -> None:
        self.attention = block.attention
        self.between = [block.attention_norm, block.attention.in_proj, block.attention.out_proj]
        self.between += [block.norm, block.fc1, block.fc2]
        self.eps = np.float32(block.attention_norm.eps), np.float32(block.norm.eps)
        self.heads, self.head_width = block.attention.num_heads, block.attention.head_width
        self.feed_forward = int(block.fc1.out_features)

    def allocate(self, rows: int, size: int) -> None:
        FusedStep.allocate(self, rows, size)
        heads, width, places = self.heads, self.head_width, self.kernels.places_for(size, 4)
        caches = [torch.zeros(rows, heads, width, places) for _ in range(2)]
        self.keys, self.values = (cache.transpose(2, 3) for cache in caches)
        shapes = self.hidden.shape, (rows, 3 * heads * width), (rows, heads * width), (rows, self.feed_forward)
        self.room = [np.zeros(shape, np.float32) for shape in shapes]
        self.caches, self.scores = [cache.numpy() for cache in caches], np.zeros(places, np.float32)

    def prefill(self, states: Tensor, rows: Tensor, now: int, size: int) -> Tensor:
        return super().prefill(states, rows, states.shape[1], size)  # each row's frames begin in the first place

    def _past(self, moment: Moment) -> tuple[Any, ...]:
        _, frames = moment.numbers()
        return self.eps, *self.caches, self.size, frames, self.scores, *self.room
