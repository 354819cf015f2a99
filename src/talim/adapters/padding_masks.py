"""Which frames are padding: read from the masks that a block of any library is given."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

OTHER_SEQUENCES = ("encoder", "cross", "memory", "head", "image", "vision", "router", "expert")
TORCH_NAMES = ("key_padding_mask", "src_key_padding_mask", "tgt_key_padding_mask")  # True or -inf: padding
PADDED = -1e4  # additive masks are at most this where nothing is seen


class PaddingMasks:
    """Finds the masks among a block's arguments, in the conventions of transformers and of torch.

    A boolean mask may mean either "seen" or "hidden" by True. In a causal block the corner of a mask over pairs tells
    which; otherwise the block itself is asked: the frames that are hidden do not change the others' output.
    """

    def __init__(self, layer: nn.Module) -> None:
        self.true_hides: dict[str, bool] = {}  # by argument, once the block has been asked
        self.is_of_torch = type(layer).__module__.startswith("torch.nn")
        self.is_of_transformers = type(layer).__module__.startswith("transformers.")

    @staticmethod
    def names(given: dict[str, Any]) -> list[str]:
        """Names of the masks over a block's own frames."""
        return list(_own_masks(given))

    def valid_frames(
        self,
        given: dict[str, Any],
        hidden: Tensor,
        past: tuple[Any, ...] | None,
        run: Callable[[Tensor], Tensor] | None,
    ) -> Tensor | None:
        """Frames of `hidden` [B, T, D] that are no padding, bool [B, T]; None if all.

        `past`: numbers of frames before these, None without a cache. `run` gives the block's output [B, T, D] with
        its input changed at the frames [B, T] where it is told to.
        """
        valid = None
        for name, mask in _own_masks(given).items():
            found = self._read(name, mask, hidden, past, run)
            if found is not None:
                valid = found if valid is None else valid & found
        if valid is None or torch.compiler.is_compiling():
            return valid  # data-dependent branches break the graph
        return None if bool(valid.all()) else valid

    def _read(
        self, name: str, mask: Any, hidden: Tensor, past: tuple[Any, ...] | None, run: Callable[[Tensor], Tensor] | None
    ) -> Tensor | None:
        batch, frames = hidden.shape[:2]
        start = past[0] if past else 0
        if hasattr(mask, "mask_mod"):  # a BlockMask of flex attention
            return _block_mask_diagonal(mask, batch, frames, start, hidden.device)
        if not isinstance(mask, Tensor) or mask.ndim not in (2, 3, 4) or mask.shape[-1] < frames:
            return None
        if mask.ndim == 2 and mask.shape[0] != batch:
            return None  # over pairs of frames, the same for all rows
        if mask.ndim == 3:
            mask = mask.reshape(batch, -1, *mask.shape[1:]) if mask.shape[0] % batch == 0 else mask[None]
        if mask.ndim == 4 and mask.shape[-2] not in (1, frames):
            return None
        start = min(start, mask.shape[-1] - frames)  # a sliding window holds only the last keys
        diagonal = _diagonal(mask, frames, start)
        if diagonal.shape[0] != batch:
            diagonal = diagonal.expand(batch, -1)
        if mask.is_floating_point():
            return _read_numbers(diagonal)
        seen = diagonal.bool()
        return ~seen if self._true_hides(name, mask, seen, start, run) else seen

    def _true_hides(
        self, name: str, mask: Tensor, seen: Tensor, start: Any, run: Callable[[Tensor], Tensor] | None
    ) -> bool:
        """Whether True in a mask of this argument means "hidden"."""
        if name in TORCH_NAMES or (self.is_of_torch and mask.dtype == torch.bool):
            return True
        if torch.compiler.is_compiling():
            return self.true_hides.get(name, False)
        if bool((mask == mask.flatten()[0]).all()):
            return not bool(mask.flatten()[0])  # a mask that would hide everything
        if name in self.true_hides:
            return self.true_hides[name]
        frames = seen.shape[1]
        if mask.ndim == 4 and mask.shape[-2] == frames > 1:
            later = mask[:, :, :, start : start + frames][..., torch.ones(frames, frames).triu(1).bool()]
            if bool((later == later.flatten()[0]).all()):  # causal: what lies later is hidden
                self.true_hides[name] = bool(later.flatten()[0])
                return self.true_hides[name]
        mixed = (seen.any(1) & ~seen.all(1)).nonzero()
        if run is None or not len(mixed) or (self.is_of_transformers and mask.dtype != torch.bool):
            return False
        self.true_hides[name] = _ask(run, seen, int(mixed[0]))
        return self.true_hides[name]


def _own_masks(given: dict[str, Any]) -> dict[str, Any]:
    """The arguments that are masks over the block's own frames; some models give several in a dictionary."""
    masks: dict[str, Any] = {}
    for name, value in given.items():
        if "mask" in name and value is not None and not any(part in name for part in OTHER_SEQUENCES):
            parts = value.items() if isinstance(value, dict) else [("", value)]
            masks |= {f"{name}.{key}" if key else name: part for key, part in parts if part is not None}
    return masks


def _diagonal(mask: Tensor, frames: int, start: Any) -> Tensor:
    """A mask at each frame itself, [B, T]: in any window a frame sees itself unless it is padding."""
    if mask.ndim == 2:
        return mask[:, start : start + frames]
    if mask.shape[-2] == 1:
        return mask[:, 0, 0, start : start + frames]
    return mask[:, 0].diagonal(start, dim1=-2, dim2=-1)[:, :frames]


def _read_numbers(diagonal: Tensor) -> Tensor:
    """Valid frames of a mask of numbers: added to scores (0 and very low), or multiplied (1 and 0)."""
    additive = (diagonal <= 0).all()
    return torch.where(additive, diagonal > PADDED, diagonal > 0)


def _block_mask_diagonal(mask: Any, batch: int, frames: int, start: Any, device: torch.device) -> Tensor:
    row = torch.arange(batch, device=device)[:, None]
    query = torch.arange(frames, device=device)[None]
    head = torch.zeros((), dtype=torch.long, device=device)
    key = query + min(start, mask.shape[-1] - frames) if mask.shape[-1] >= frames else query
    return mask.mask_mod(row, head, query, key).expand(batch, frames)


def _ask(run: Callable[[Tensor], Tensor], seen: Tensor, row: int) -> bool:
    """Whether True hides in a block: whether the frames that share the first frame's value influence the others.

    The first ones are asked, since in a causal block nothing influences earlier frames.
    """
    first = bool(seen[row, 0])
    asked = seen == seen[row, :1]
    change = (run(asked) - run(torch.zeros_like(asked)))[row].abs().amax(-1)  # [T]
    influences = bool(change[~asked[row]].max() > 1e-4 * change.max())
    return first != influences
