"""What an adapter remembers while a model decodes with a cache, so that step by step equals all at once.

A block behind a decoder layer sees one new frame at a time. What it needs of the frames before lies on the cache
object itself, beside the keys and values: it is copied with the cache, reordered with it, and gone with it. So
nothing leaks from one generation into the next, and an abandoned generation leaves nothing behind.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor

from talim.errors import TalimError

CACHE_ARGUMENTS = ("past_key_values", "past_key_value")
STATE_ATTRIBUTE = "talim_memories"
WRAPPED_CACHE_METHODS = ("reorder_cache", "batch_select_indices", "batch_repeat_interleave", "crop", "reset")


class StreamingState:
    """What one adapter block keeps of the `frames` it has seen: batch-first tensors, and lists of them, by name."""

    def __init__(self) -> None:
        self.frames = 0
        self.kept: dict[str, Any] = {}

    def select(self, rows: Tensor) -> None:
        """Reorder or repeat the batch."""
        self.kept = {name: _select(value, rows) for name, value in self.kept.items()}


def _select(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(0, rows.to(value.device)) if value.ndim else value
    return [_select(each, rows) for each in value] if isinstance(value, list) else value


def get_state(cache: Any, key: tuple[Any, ...], past: int) -> StreamingState:
    """The memory under `key` on a cache that held `past` frames before the present ones.

    TalimError where the two have parted: an adapter cannot be switched on, or a cache cut, half way.
    """
    store = vars(cache).get(STATE_ATTRIBUTE)
    if store is None:
        store = vars(cache)[STATE_ATTRIBUTE] = {}
        _track_batch_operations(cache)
    memory = store.get(key)
    if memory is None or past == 0:
        memory = store[key] = StreamingState()
    if memory.frames != past:
        raise TalimError(
            f"this adapter has seen {memory.frames} frames of a generation that is {past} frames long; switch "
            "adapters between generations, and begin a new one after cutting a cache"
        )
    return memory


def num_past_frames(cache: Any, now: int) -> int:
    """How many frames the cache held before the `now` present ones; at a block's exit it counts these already."""
    return int(cache.get_seq_length()) - now


def _track_batch_operations(cache: Any) -> None:
    """Let the memories go along with whatever is done to the cache's batch (beam search, contrastive search)."""
    for word in WRAPPED_CACHE_METHODS:
        if hasattr(cache, word):
            setattr(cache, word, MethodType(_CACHE_METHOD_WRAPPERS[word], cache))


def _states(cache: Any) -> list[StreamingState]:
    return list(vars(cache).get(STATE_ATTRIBUTE, {}).values())


def _call_original(cache: Any, word: str) -> Any:
    return getattr(type(cache), word).__get__(cache)


def _reorder(cache: Any, beam_idx: Tensor) -> Any:
    for memory in _states(cache):
        memory.select(beam_idx)
    return _call_original(cache, "reorder_cache")(beam_idx)


def _select_rows(cache: Any, indices: Tensor) -> Any:
    for memory in _states(cache):
        memory.select(indices)
    return _call_original(cache, "batch_select_indices")(indices)


def _repeat(cache: Any, repeats: int) -> Any:
    for memory in _states(cache):
        sizes = [v.shape[0] for v in _tensors(memory.kept) if v.ndim]
        if sizes:
            memory.select(torch.arange(sizes[0]).repeat_interleave(repeats))
    return _call_original(cache, "batch_repeat_interleave")(repeats)


def _tensors(kept: dict[str, Any]) -> list[Tensor]:
    flat = [each for value in kept.values() for each in (value if isinstance(value, list) else [value])]
    return [value for value in flat if isinstance(value, Tensor)]


def _crop(cache: Any, *arguments: Any, **named: Any) -> Any:
    raise TalimError(
        "this cache cannot be cut: an adapter that looks back cannot unhear frames; decode without an assistant"
    )


def _reset(cache: Any) -> Any:
    vars(cache).get(STATE_ATTRIBUTE, {}).clear()
    return _call_original(cache, "reset")()


_CACHE_METHOD_WRAPPERS = {
    "reorder_cache": _reorder,
    "batch_select_indices": _select_rows,
    "batch_repeat_interleave": _repeat,
    "crop": _crop,
    "reset": _reset,
}
