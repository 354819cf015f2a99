"""What looks across frames inside an adapter: dilated convolution, squeeze-and-excitation, self-attention.

All take hidden states [B, T, W], an optional memory of the frames before (decoding with a cache) and an optional
mask [B, T], False for padding, which no other frame may see. Causal ones never look at later frames.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from talim.designs.streaming import StreamingState


class TemporalConv(nn.Module):
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

    def forward(
        self, hidden: Tensor, memory: StreamingState | None = None, mask: Tensor | None = None
    ) -> Tensor:
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


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation (Hu et al. 2018): each channel is scaled by what the mean over frames says of it.

    The causal mean is over the frames before the present stretch of `hold` frames (zeros in the first stretch), so
    that decoding asks anew only where a stretch begins. Padding does not count. Sums are in float32 always.
    """

    def __init__(self, width: int, squeezed: int, causal: bool, name: str, hold: int) -> None:
        super().__init__()
        self.causal, self.name, self.hold = causal, name, hold
        self.squeeze = nn.Linear(width, squeezed)
        self.excite = nn.Linear(squeezed, width)

    @staticmethod
    def parameters_of(width: int, squeezed: int) -> int:
        """Two matrices and two biases."""
        return 2 * width * squeezed + squeezed + width

    def forward(
        self, hidden: Tensor, memory: StreamingState | None = None, mask: Tensor | None = None
    ) -> Tensor:
        if not self.causal:
            return hidden * self._gate(_masked_mean(hidden.float(), mask), hidden.dtype)
        memory = StreamingState() if memory is None else memory
        if self.name not in memory.kept:
            nothing = hidden.new_zeros(hidden.shape[0], 1, hidden.shape[2], dtype=torch.float32)
            memory.kept[self.name] = [nothing, nothing]
        if mask is None and self._frame_counts not in memory.kept:
            return hidden * self._gates_unpadded(hidden, memory)
        return hidden * self._gates_masked(hidden, memory, mask)

    @property
    def _frame_counts(self) -> str:
        return f"{self.name} counts"

    def _gate(self, mean: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.sigmoid(self.excite(F.gelu(self.squeeze(mean.to(dtype)))))

    def _gates_unpadded(self, hidden: Tensor, memory: StreamingState) -> Tensor:
        """The gates [B, T or 1, W] where no row has padding: one a stretch, kept until the next begins."""
        before, frames = memory.frames, hidden.shape[1]
        total, mean = memory.kept[self.name]
        word = f"{self.name} gate"
        if frames == 1:
            if before % self.hold == 0:
                mean = total / max(before, 1)
                memory.kept[word] = self._gate(mean, hidden.dtype)
            memory.kept[self.name] = [total + hidden, mean]
            return memory.kept[word]
        sums = torch.cat([total, total + hidden.float().cumsum(1)], 1)  # of the frames before each
        begins = range(-(-before // self.hold) * self.hold, before + frames, self.hold)
        counts = torch.tensor([max(begin, 1) for begin in begins], device=hidden.device)
        means = sums[:, [begin - before for begin in begins]] / counts[:, None]
        gates = self._gate(means, hidden.dtype)
        if before % self.hold:
            means, gates = torch.cat([mean, means], 1), torch.cat([memory.kept[word], gates], 1)
        memory.kept[self.name], memory.kept[word] = [sums[:, -1:], means[:, -1:]], gates[:, -1:]
        stretch = torch.arange(before, before + frames, device=hidden.device) // self.hold
        return gates[:, stretch - before // self.hold]

    def _gates_masked(self, hidden: Tensor, memory: StreamingState, mask: Tensor | None) -> Tensor:
        """The gates [B, T, W] where each row counts its own frames."""
        rows, frames, width = hidden.shape
        total, mean = memory.kept[self.name]
        heard = (
            torch.ones(rows, frames, dtype=torch.long, device=hidden.device) if mask is None else mask.long()
        )
        count = memory.kept.get(self._frame_counts, torch.full_like(heard[:, :1], memory.frames))  # [B, 1]
        counts = torch.cat([count, count + heard.cumsum(1)], 1)  # [B, 1 + T]
        sums = torch.cat([total, total + (hidden.float() * heard[..., None]).cumsum(1)], 1)
        begins = (counts[:, 1:] - 1).clamp(min=0) // self.hold * self.hold  # [B, T]
        index = torch.searchsorted(counts, begins)[..., None].expand(-1, -1, width)
        fresh = sums.gather(1, index) / begins.clamp(min=1)[..., None]
        means = torch.where((begins < count)[..., None], mean, fresh)
        memory.kept[self.name], memory.kept[self._frame_counts] = (
            [sums[:, -1:], means[:, -1:]],
            counts[:, -1:],
        )
        return self._gate(means, hidden.dtype)


def _masked_mean(hidden: Tensor, mask: Tensor | None) -> Tensor:
    """The mean over all frames that are no padding, [B, T, W] -> [B, 1, W]."""
    if mask is None:
        return hidden.mean(1, keepdim=True)
    heard = mask[..., None].float()
    return (hidden * heard).sum(1, keepdim=True) / heard.sum(1, keepdim=True).clamp(min=1)


class TemporalAttention(nn.Module):
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

    def forward(
        self, hidden: Tensor, memory: StreamingState | None = None, mask: Tensor | None = None
    ) -> Tensor:
        batch, frames, _ = hidden.shape
        packed = self.inward(hidden).view(batch, frames, 3, self.heads, self.head_width)
        query, key, value = packed.permute(2, 0, 3, 1, 4)  # each [B, H, T, W / H]
        before = 0
        if memory is not None:
            before = memory.frames
            key, value = self._append_to_cache(memory, key, value)
            mask = self._append_mask(memory, mask, batch, before, frames)
        if mask is None and (frames == 1 or before == 0 or not self.causal):
            seen = F.scaled_dot_product_attention(
                query, key, value, is_causal=self.causal and frames > 1 and before == 0
            )
        else:
            seen = F.scaled_dot_product_attention(
                query, key, value, self._attention_mask(key, frames, before, mask)
            )
        return self.outward(seen.transpose(1, 2).reshape(batch, frames, -1))

    def _attention_mask(self, key: Tensor, frames: int, before: int, mask: Tensor | None) -> Tensor:
        """Which keys each frame sees, bool [B or 1, 1, T, S]; a frame always sees itself."""
        now = torch.arange(before, before + frames, device=key.device)[:, None]
        then = torch.arange(before + frames, device=key.device)[None]
        seen = (then <= now)[None] if self.causal else torch.ones_like(then <= now)[None]
        if mask is not None:
            seen = (seen & mask[:, None, :]) | (then == now)[None]
        return seen[:, None]

    def _append_to_cache(self, memory: StreamingState, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
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

    def _append_mask(
        self, memory: StreamingState, mask: Tensor | None, batch: int, before: int, frames: int
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
