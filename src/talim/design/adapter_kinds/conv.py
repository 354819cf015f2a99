"""The convolution kind, and its layers over time: dilated convolution, squeeze-and-excitation.

The layers take hidden states [B, T, W], an optional state of the previous frames (cached decoding) and an optional bool
mask [B, T], False for padding, which influences no other frame. Causal layers use no later frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talim.design.adapter_kinds.kind import Kind, resolve_options
from talim.design.streaming import StreamingState


class Conv(Kind):
    """Down, dilated residual convolutions over time, squeeze-and-excitation, up, dropout.

    Options: `kernel_size` (5) and `dilations`, one per convolution ((1, 4): a receptive field of 21 frames, 0.42 s at
    50 frames per second, about an ornament); `se_channels` of the excitation (width / 8, at least 4), whose gate is
    updated every `se_update_every` (8) frames.
    """

    uses_context = True

    @classmethod
    def default_options(cls, width: int, **given: Any) -> dict[str, Any]:
        defaults = {"kernel_size": 5, "dilations": (1, 4), "se_channels": max(4, width // 8), "se_update_every": 8}
        return resolve_options(cls, given, defaults)

    @classmethod
    def bottleneck_params(cls, width: int, **options: Any) -> int:
        convolution = TemporalConv.parameters_of(width, options["kernel_size"])
        excitation = SqueezeExcitation.parameters_of(width, options["se_channels"])
        return len(options["dilations"]) * convolution + excitation

    @classmethod
    def bottleneck_flops(cls, width: int, frames: int, **options: Any) -> int:
        taps = len(options["dilations"]) * options["kernel_size"] * width * width
        gates = -(-frames // options["se_update_every"])
        return 2 * (frames * taps + gates * 2 * width * options["se_channels"])

    @classmethod
    def bottleneck_activations(cls, width: int, frames: int, **options: Any) -> int:
        convolutions = len(options["dilations"]) * (options["kernel_size"] + 1) * width
        gates = -(-frames // options["se_update_every"])
        return frames * (convolutions + 3 * width) + gates * (width + 2 * options["se_channels"])

    def build(self, width: int, causal: bool, **options: Any) -> None:
        self.convolutions = nn.ModuleList(
            TemporalConv(width, options["kernel_size"], dilation, causal, f"convolution {index}")
            for index, dilation in enumerate(options["dilations"])
        )
        self.excitation = SqueezeExcitation(
            width, options["se_channels"], causal, "excitation", options["se_update_every"]
        )

    def bottleneck_forward(self, hidden: Tensor, state: StreamingState | None, mask: Tensor | None) -> Tensor:
        for convolution in self.convolutions:
            hidden = hidden + convolution(F.gelu(hidden), state, mask)
        return self.excitation(hidden, state, mask)


class TemporalConv(nn.Module):
    """Dilated convolution over time, [B, T, W] -> [B, T, W], computed as one matrix product over the gathered taps.

    The same product serves training and single decoding steps, so both give the same numbers. Causal: padded on the
    left; otherwise on both sides.
    """

    def __init__(self, width: int, kernel_size: int, dilation: int, causal: bool, name: str) -> None:
        super().__init__()
        if kernel_size < 1 or dilation < 1:
            raise ValueError(f"kernel_size {kernel_size} and dilation {dilation} must be at least 1")
        self.kernel_size, self.dilation, self.causal, self.name = kernel_size, dilation, causal, name
        self.taps = nn.Linear(kernel_size * width, width)

    @staticmethod
    def parameters_of(width: int, kernel_size: int) -> int:
        """One matrix per tap and a bias."""
        return kernel_size * width * width + width

    def forward(self, hidden: Tensor, state: StreamingState | None = None, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            hidden = hidden * mask[..., None].to(hidden.dtype)
        reach, frames = (self.kernel_size - 1) * self.dilation, hidden.shape[1]
        if state is not None and reach:
            past = state.tensors.get(self.name)  # the last `reach` frames, oldest first
            if past is None:
                past = list(hidden.new_zeros(hidden.shape[0], reach, hidden.shape[2]).split(1, 1))
            if frames == 1:
                taps = torch.cat([*past[:: self.dilation], hidden], -1)
                state.tensors[self.name] = [*past[1:], hidden]
                return self.taps(taps)
            padded = torch.cat([*past, hidden], 1)
            state.tensors[self.name] = list(padded[:, -reach:].contiguous().split(1, 1))
        else:
            left = reach if self.causal else reach // 2
            padded = F.pad(hidden, (0, 0, left, reach - left))
        starts = range(0, reach + 1, self.dilation)
        return self.taps(torch.cat([padded[:, start : start + frames] for start in starts], -1))


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): scales each channel by a gate computed from the mean over frames.

    Causal: the gate is updated every `update_every` frames from the mean of all frames before that block of frames
    (zeros for the first block). Padding does not count. Sums are always float32.
    """

    def __init__(self, width: int, se_channels: int, causal: bool, name: str, update_every: int) -> None:
        super().__init__()
        self.causal, self.name, self.update_every = causal, name, update_every
        self.squeeze = nn.Linear(width, se_channels)
        self.excite = nn.Linear(se_channels, width)

    @staticmethod
    def parameters_of(width: int, se_channels: int) -> int:
        """Two matrices and two biases."""
        return 2 * width * se_channels + se_channels + width

    def forward(self, hidden: Tensor, state: StreamingState | None = None, mask: Tensor | None = None) -> Tensor:
        if not self.causal:
            return hidden * self.gate(_masked_mean(hidden.float(), mask), hidden.dtype)
        state = StreamingState() if state is None else state
        if self.name not in state.tensors:
            zeros = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[2], dtype=torch.float32)
            state.tensors[self.name] = [zeros, zeros]  # sum of all frames, mean at the last update
        fixed_shapes = state.capacity is not None or torch.compiler.is_compiling()  # no branch on a number of frames
        if mask is None and self._frame_counts not in state.tensors and not fixed_shapes:
            return hidden * self._gates_unpadded(hidden, state)
        return hidden * self._gates_masked(hidden, state, mask)

    @property
    def _frame_counts(self) -> str:
        return f"{self.name} counts"

    def gate(self, mean: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.sigmoid(self.excite(F.gelu(self.squeeze(mean.to(dtype)))))

    def _gates_unpadded(self, hidden: Tensor, state: StreamingState) -> Tensor:
        """Gates [B, T or 1, W] without padding in any row: one per block, cached until the next update."""
        before, frames = state.frames, hidden.shape[1]
        total, mean = state.tensors[self.name]
        gate_key = f"{self.name} gate"
        if frames == 1:
            if before % self.update_every == 0:
                mean = total / max(before, 1)
                state.tensors[gate_key] = self.gate(mean, hidden.dtype)
            state.tensors[self.name] = [total + hidden, mean]
            return state.tensors[gate_key]
        sums = torch.cat([total, total + hidden.float().cumsum(1)], 1)  # over the frames before each frame
        first_update = -(-before // self.update_every) * self.update_every
        updates = range(first_update, before + frames, self.update_every)
        counts = torch.tensor([max(frame, 1) for frame in updates], device=hidden.device)
        means = sums[:, [frame - before for frame in updates]] / counts[:, None]
        gates = self.gate(means, hidden.dtype)
        if before % self.update_every:
            means, gates = torch.cat([mean, means], 1), torch.cat([state.tensors[gate_key], gates], 1)
        state.tensors[self.name], state.tensors[gate_key] = [sums[:, -1:], means[:, -1:]], gates[:, -1:]
        block = torch.arange(before, before + frames, device=hidden.device) // self.update_every
        return gates[:, block - before // self.update_every]

    def _gates_masked(self, hidden: Tensor, state: StreamingState, mask: Tensor | None) -> Tensor:
        """Gates [B, T, W] where each row counts its own valid frames."""
        rows, frames, width = hidden.shape
        total, mean = state.tensors[self.name]
        valid = torch.ones(rows, frames, dtype=torch.long, device=hidden.device) if mask is None else mask.long()
        count = state.tensors.get(self._frame_counts)  # [B, 1]
        if count is None:
            count = torch.zeros_like(valid[:, :1]) + state.frames
        counts = torch.cat([count, count + valid.cumsum(1)], 1)  # [B, 1 + T]
        sums = torch.cat([total, total + (hidden.float() * valid[..., None]).cumsum(1)], 1)
        updates = (counts[:, 1:] - 1).clamp(min=0) // self.update_every * self.update_every  # [B, T]
        if frames == 1:  # an update is due at the frames before this one, or not at all
            chosen = total
        else:
            chosen = sums.gather(1, torch.searchsorted(counts, updates)[..., None].expand(-1, -1, width))
        new_means = chosen / updates.clamp(min=1)[..., None]
        means = torch.where((updates < count)[..., None], mean, new_means)
        state.tensors[self.name] = [sums[:, -1:], means[:, -1:]]
        state.tensors[self._frame_counts] = counts[:, -1:]
        return self.gate(means, hidden.dtype)


def _masked_mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """Mean over all valid frames, [B, T, W] -> [B, 1, W]."""
    if mask is None:
        return hidden.mean(1, keepdim=True)
    valid = mask[..., None].float()
    return (hidden * valid).sum(1, keepdim=True) / valid.sum(1, keepdim=True).clamp(min=1)
