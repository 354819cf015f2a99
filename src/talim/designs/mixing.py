"""What looks across frames inside an adapter: dilated convolution, squeeze-and-excitation, self-attention.

All take hidden states [B, T, W], an optional memory of the frames before (decoding with a cache) and an optional
mask [B, T], False for padding, which no other frame may see. Causal ones never look at later frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talim.designs.streaming import Memory


class Convolution(nn.Module):
    """Dilated convolution over time, as one matrix over the gathered taps: [B, T, W] -> [B, T, W].

    One matrix product serves training and single steps alike, so that both give the same numbers. A causal one is
    padded on the left, any other on both sides.
    """

    def __init__(self, width: int, kernel: int, dilation: int, causal: bool, name: str) -> None:
        super().__init__()
        if kernel < 1 or dilation < 1:
            raise ValueError(f"kernel {kernel} and dilation {dilation} must be at least 1")
        self.kernel, self.dilation, self.causal, self.name = kernel, dilation, causal, name
        self.taps = nn.Linear(kernel * width, width)

    @staticmethod
    def parameters_of(width: int, kernel: int) -> int:
        """A matrix per tap and a bias."""
        return kernel * width * width + width

    def forward(self, hidden: Tensor, memory: Memory | None = None, mask: Tensor | None = None) -> Tensor:
        if mask is not None:
            hidden = hidden * mask[..., None].to(hidden.dtype)
        reach, frames = (self.kernel - 1) * self.dilation, hidden.shape[1]
        if memory is not None and reach:
            past = memory.kept.get(self.name)  # the last `reach` frames, oldest first
            if past is None:
                past = list(hidden.new_zeros(hidden.shape[0], reach, hidden.shape[2]).split(1, 1))
            if frames == 1:
                taps = torch.cat([*past[:: self.dilation], hidden], -1)
                memory.kept[self.name] = [*past[1:], hidden]
                return self.taps(taps)
            padded = torch.cat([*past, hidden], 1)
            memory.kept[self.name] = list(padded[:, -reach:].contiguous().split(1, 1))
        else:
            left = reach if self.causal else reach // 2
            padded = F.pad(hidden, (0, 0, left, reach - left))
        starts = range(0, reach + 1, self.dilation)
        return self.taps(torch.cat([padded[:, start : start + frames] for start in starts], -1))


class Excitation(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): each channel is scaled by what the mean over frames says of it.

    The causal mean is over the frames so far; sums are in float32 whatever the weights are in.
    """

    def __init__(self, width: int, squeezed: int, causal: bool, name: str) -> None:
        super().__init__()
        self.causal, self.name = causal, name
        self.squeeze = nn.Linear(width, squeezed)
        self.excite = nn.Linear(squeezed, width)

    @staticmethod
    def parameters_of(width: int, squeezed: int) -> int:
        """Two matrices and two biases."""
        return 2 * width * squeezed + squeezed + width

    def forward(self, hidden: Tensor, memory: Memory | None = None, mask: Tensor | None = None) -> Tensor:
        mean = self._mean(hidden.float(), memory, mask).to(hidden.dtype)
        return hidden * torch.sigmoid(self.excite(F.gelu(self.squeeze(mean))))

    def _mean(self, hidden: Tensor, memory: Memory | None, mask: Tensor | None) -> Tensor:
        """[B, T, W], or [B, 1, W] of all frames where it is not causal."""
        heard = None if mask is None else mask[..., None].float()  # [B, T, 1]
        weighted = hidden if heard is None else hidden * heard
        if not self.causal:
            if heard is None:
                return hidden.mean(1, keepdim=True)
            return weighted.sum(1, keepdim=True) / heard.sum(1, keepdim=True).clamp(min=1)
        frames = hidden.shape[1]
        total = weighted if frames == 1 else weighted.cumsum(1)
        before, count_before = (0.0, 0.0) if memory is None else memory.kept.get(self.name, (0.0, 0.0))
        total = total + before
        if heard is None and not isinstance(
            count_before, Tensor
        ):  # a number counts for the whole batch alike
            last = count_before + frames
            if frames == 1:
                mean = total / last
            else:
                mean = total / torch.arange(count_before + 1, last + 1, device=total.device)[None, :, None]
        else:
            count = count_before + (torch.ones_like(total[..., :1]) if heard is None else heard).cumsum(1)
            mean, last = total / count.clamp(min=1), count[:, -1:]
        if memory is not None:
            memory.kept[self.name] = [total[:, -1:], last]
        return mean


class Attention(nn.Module):
    """Multi-head self-attention (Vaswani et al. 2017) over frames; positions are known from the hidden states.

    `heads` heads of `width // heads` channels each, so that any width will do.
    """

    def __init__(self, width: int, heads: int, causal: bool, name: str) -> None:
        super().__init__()
        self.heads, self.head_width, self.causal, self.name = heads, width // heads, causal, name
        inner = heads * self.head_width
        self.inward = nn.Linear(width, 3 * inner)
        self.outward = nn.Linear(inner, width)

    @staticmethod
    def parameters_of(width: int, heads: int) -> int:
        """Queries, keys, values and the way back, with biases."""
        inner = heads * (width // heads)
        return 3 * inner * (width + 1) + (inner + 1) * width

    def forward(self, hidden: Tensor, memory: Memory | None = None, mask: Tensor | None = None) -> Tensor:
        batch, frames, _ = hidden.shape
        packed = self.inward(hidden).view(batch, frames, 3, self.heads, self.head_width)
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # each [B, H, T, W / H]
        before = 0
        if memory is not None:
            before = memory.frames
            key, value = self._remember(memory, key, value)
            mask = self._remember_mask(memory, mask, batch, before, frames)
        if mask is None and (frames == 1 or before == 0 or not self.causal):
            seen = F.scaled_dot_product_attention(
                query, key, value, is_causal=self.causal and frames > 1 and before == 0
            )
        else:
            seen = F.scaled_dot_product_attention(query, key, value, self._visible(key, frames, before, mask))
        return self.outward(seen.transpose(1, 2).reshape(batch, frames, -1))

    def _visible(self, key: Tensor, frames: int, before: int, mask: Tensor | None) -> Tensor:
        """Which keys each frame sees, bool [B or 1, 1, T, S]; a frame always sees itself."""
        now = torch.arange(before, before + frames, device=key.device)[:, None]
        then = torch.arange(before + frames, device=key.device)[None]
        seen = (then <= now)[None] if self.causal else torch.ones_like(then <= now)[None]
        if mask is not None:
            seen = (seen & mask[:, None, :]) | (then == now)[None]
        return seen[:, None]

    def _remember(self, memory: Memory, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """All keys and values so far; room grows by doubling, so that a step does not copy its past."""
        before, end = memory.frames, memory.frames + key.shape[2]
        found = []
        for word, new in (("keys", key), ("values", value)):
            room = memory.kept.get(f"{self.name} {word}")
            if new.requires_grad:  # a graph may hold the past: leave it as it is
                room = new if room is None else torch.cat([room[:, :, :before], new], 2)
                memory.kept[f"{self.name} {word}"] = room
                found.append(room)
                continue
            if room is None or room.shape[2] < end:
                wider = new.new_empty(*new.shape[:2], max(2 * end, 64), new.shape[3])
                if room is not None:
                    wider[:, :, :before] = room[:, :, :before]
                room = memory.kept[f"{self.name} {word}"] = wider
            room[:, :, before:end] = new
            found.append(room[:, :, :end])
        return found[0], found[1]

    def _remember_mask(
        self, memory: Memory, mask: Tensor | None, batch: int, before: int, frames: int
    ) -> Tensor | None:
        """The mask of all keys so far, [B, S]; None as long as none was ever given."""
        past = memory.kept.get(f"{self.name} mask")
        if mask is None and past is None:
            return None
        device = (mask if mask is not None else past).device  # type: ignore[union-attr]
        if past is None:
            past = torch.ones(batch, before, dtype=torch.bool, device=device)
        if mask is None:
            mask = torch.ones(batch, frames, dtype=torch.bool, device=device)
        memory.kept[f"{self.name} mask"] = torch.cat([past, mask.bool()], 1)
        return memory.kept[f"{self.name} mask"]
