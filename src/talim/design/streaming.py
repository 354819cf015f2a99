"""State of an adapter in cached decoding, so that step-by-step results equal those of one full pass.

An adapter behind a decoder layer gets one new frame per step. Its state of the previous frames is stored on the
cache object beside the keys and values: it is copied, reordered and discarded with them, so no state leaks from one
generation into the next.
"""

from __future__ import annotations

from types import MethodType
from typing import Any

import torch
from torch import Tensor

from talim.errors import TalimError

CACHE_ARGUMENTS = ("past_key_values", "past_key_value")
STATE_ATTRIBUTE = "talim_states"


class StreamingState:
    """State of one adapter block after `frames` frames: batch-first tensors, or lists of them, by name."""

    def __init__(self) -> None:
        self.frames = 0
        self.tensors: dict[str, Any] = {}

    def select(self, rows: Tensor) -> None:
        """Reorder or repeat the batch."""
        self.tensors = {name: _select(value, rows) for name, value in self.tensors.items()}


def _select(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(0, rows.to(value.device)) if value.ndim else value
    return [_select(item, rows) for item in value] if isinstance(value, list) else value


def get_state(cache: Any, key: tuple[Any, ...], past: int) -> StreamingState:
    """The state under `key` on a cache that held `past` frames before the present ones.

    TalimError where state and cache differ in length: an adapter cannot be enabled, or a cache cropped, halfway.
    """
    states = vars(cache).get(STATE_ATTRIBUTE)
    if states is None:
        states = vars(cache)[STATE_ATTRIBUTE] = {}
        for name, wrapper in _CACHE_METHOD_WRAPPERS.items():  # keep states and cache in step (beam search)
            if hasattr(cache, name):
                setattr(cache, name, MethodType(wrapper, cache))
    state = states.get(key)
    if state is None or past == 0:
        state = states[key] = StreamingState()
    if state.frames != past:
        raise TalimError(
            f"this adapter has seen {state.frames} frames of a generation that is {past} frames long; switch "
            "adapters between generations, and start a new generation after cropping a cache"
        )
    return state


def num_past_frames(cache: Any, frames: int) -> int:
    """Frames in the cache before the present `frames`, which it already includes when a block returns."""
    return int(cache.get_seq_length()) - frames


def _states(cache: Any) -> list[StreamingState]:
    return list(vars(cache).get(STATE_ATTRIBUTE, {}).values())


def _call_original(cache: Any, name: str) -> Any:
    return getattr(type(cache), name).__get__(cache)


def _reorder(cache: Any, beam_idx: Tensor) -> Any:
    for state in _states(cache):
        state.select(beam_idx)
    return _call_original(cache, "reorder_cache")(beam_idx)


def _select_rows(cache: Any, indices: Tensor) -> Any:
    for state in _states(cache):
        state.select(indices)
    return _call_original(cache, "batch_select_indices")(indices)


def _repeat(cache: Any, repeats: int) -> Any:
    for state in _states(cache):
        values = [v for value in state.tensors.values() for v in (value if isinstance(value, list) else [value])]
        sizes = [v.shape[0] for v in values if isinstance(v, Tensor) and v.ndim]
        if sizes:
            state.select(torch.arange(sizes[0]).repeat_interleave(repeats))
    return _call_original(cache, "batch_repeat_interleave")(repeats)


def _crop(cache: Any, *arguments: Any, **named: Any) -> Any:
    raise TalimError(
        "this cache cannot be cropped: the adapter's state cannot drop frames; decode without an assistant model"
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
