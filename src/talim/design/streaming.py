"""State of an adapter in cached decoding, so that step-by-step results equal those of one full pass.

An adapter behind a decoder layer gets one new frame per step. Its state of the previous frames is stored on the
cache object beside the keys and values: it is copied, pickled, reordered and discarded with them, so no state leaks
from one generation into the next.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from talim.errors import TalimError

STATE_ATTRIBUTE = "talim_states"


class StreamingState:
    """State of one adapter block after `frames` frames: batch-first tensors, or lists of them, by name.

    On a static cache (`capacity` frames at most) `frames` is a tensor and every tensor keeps its storage, so that a
    compiled step needs no recompilation.
    """

    def __init__(self, capacity: int | None = None, device: torch.device | None = None) -> None:
        self.capacity = capacity
        self.frames: Any = 0 if capacity is None else torch.zeros((), dtype=torch.long, device=device)
        self.tensors: dict[str, Any] = {}
        self.step: object | None = None  # the model's call that last used it
        self.weights: tuple[Any, ...] = ()  # scale and versions of the weights that computed the past
        self.parameters: tuple[dict[str, Any], ...] = ()  # of the block's modules; collected once a generation

    def advance(self, frames: int, before: dict[str, Any]) -> None:
        """Count `frames` more frames; on a static cache write into the tensors that there were `before`."""
        if self.capacity is None:
            self.frames += frames
            return
        self.frames.add_(frames)
        for name, value in self.tensors.items():
            self.tensors[name] = _keep_storage(before.get(name), value)

    def __getstate__(self) -> dict[str, Any]:
        """Without the call, for pickle and copies; a copy's weights may count their versions anew."""
        return vars(self) | {"step": None, "weights": self.weights[:1], "parameters": ()}

    def select(self, rows: Tensor) -> None:
        """Reorder or repeat the batch."""
        self.tensors = {name: _select(value, rows) for name, value in self.tensors.items()}


def _keep_storage(old: Any, new: Any) -> Any:
    if isinstance(new, list):
        earlier = old if isinstance(old, list) and len(old) == len(new) else [None] * len(new)
        return [_keep_storage(first, second) for first, second in zip(earlier, new, strict=True)]
    if not isinstance(new, Tensor) or new is old or new.requires_grad:
        return new
    if isinstance(old, Tensor) and (old.shape, old.dtype, old.device) == (new.shape, new.dtype, new.device):
        return old.copy_(new)
    new = new.clone()  # two names may share one tensor
    if not torch.compiler.is_compiling():
        torch._dynamo.mark_static_address(new, guard=False)
    return new


def _select(value: Any, rows: Tensor) -> Any:
    if isinstance(value, Tensor):
        return value.index_select(0, rows.to(value.device)) if value.ndim else value
    return [_select(item, rows) for item in value] if isinstance(value, list) else value


def get_state(cache: Any, key: tuple[Any, ...], past: tuple[Any, ...]) -> StreamingState:
    """The state under `key` on a cache that held one of the numbers of frames in `past` before the present ones.

    An empty `past` means any number but 0. TalimError where state and cache differ in length: an adapter cannot be
    enabled, or a cache cropped, halfway.
    """
    states = getattr(cache, STATE_ATTRIBUTE, None)
    if states is None:
        states = {}
        setattr(cache, STATE_ATTRIBUTE, states)
        for name in _METHODS:  # keep states and cache in step (beam search)
            if hasattr(cache, name):
                setattr(cache, name, _CacheMethod(cache, name))
    state = states.get(key)
    if past and isinstance(past[0], Tensor):
        return _static_state(cache, states, key, past[0])
    if state is not None and state.frames and (not past or state.frames in past):
        return state
    if 0 in past:
        step = None if state is None else state.step
        state = states[key] = StreamingState()
        state.step = step
        return state
    seen, length = 0 if state is None else state.frames, past[0] if past else "longer"
    raise TalimError(_mismatch(seen, f"{length} frames long" if past else "already under way"))


def _static_state(cache: Any, states: dict[Any, Any], key: tuple[Any, ...], past: Tensor) -> StreamingState:
    state = states.get(key)
    if torch.compiler.is_compiling():
        if state is None:
            state = states[key] = StreamingState(cache_capacity(cache), past.device)
        torch._assert_async(  # pyright: ignore[reportPrivateImportUsage]
            state.frames == past, _mismatch("fewer or more", "of another length")
        )
        return state
    held = int(past)
    if state is None or held == 0:
        state = states[key] = StreamingState(cache_capacity(cache), past.device)
    if int(state.frames) != held:
        raise TalimError(_mismatch(int(state.frames), f"{held} frames long"))
    return state


def _mismatch(seen: Any, generation: str) -> str:
    return (
        f"this adapter has seen {seen} frames of a generation that is {generation}; switch adapters between "
        "generations, and start a new generation after cropping a cache"
    )


def check_weights(state: StreamingState, scale: float, block: nn.Module) -> None:
    """TalimError if scale or the block's weights are not those that computed the state's past frames."""
    if not state.parameters:  # a walk through the modules in every step would take four times as long
        state.parameters = tuple(module._parameters for module in block.modules())
    found = (weight for parameters in state.parameters for weight in parameters.values())
    versions = (weight._version for weight in found if weight is not None and not weight.is_inference())
    weights = (scale, *versions)
    if state.weights != weights[: len(state.weights)]:
        raise TalimError(
            "the scale or the weights of this adapter changed within a generation, whose past was computed with the "
            "earlier ones; change them between generations (a new cache)"
        )
    state.weights = weights


def past_frames(cache: Any, layer_index: int | None, frames: int, started: bool) -> tuple[Any, ...]:
    """Possible numbers of frames in the cache before the present `frames`, when a block returns; () if unknown.

    A layer of recurrent states counts no frames: another layer's count is read, or only whether it had `started`.
    """
    cache = getattr(cache, "self_attention_cache", cache)
    layers = getattr(cache, "layers", None)
    if layers is None:  # no cache of transformers' present design
        return (cache.get_seq_length() - frames,)
    if layer_index is not None and layer_index < len(layers) and hasattr(layers[layer_index], "get_seq_length"):
        length = layers[layer_index].get_seq_length()
        if cache_capacity(cache) is not None and isinstance(length, Tensor):
            return (length - frames,)
        if int(length) >= frames:
            return (int(length) - frames,)
    counts = [int(layer.get_seq_length()) if hasattr(layer, "get_seq_length") else None for layer in layers]
    if layer_index is not None:
        own = counts[layer_index] if layer_index < len(counts) else None
        if own and all(count is None or count < frames for count in counts):
            raise TalimError(
                f"a block was given {frames} frames, of which the cache holds {own}: an adapter with context cannot "
                "tell which of them are the past of the next step; use the kind linear"
            )
        earlier = [count for count in counts[:layer_index] if count is not None and count >= frames]
        later = [count for count in counts[layer_index + 1 :] if count is not None]
        if earlier:
            return (earlier[-1] - frames,)
        if later:  # not yet updated
            return (later[0],)
        return () if started else (0,)
    longest = max((count for count in counts if count is not None), default=None)
    if longest is None:
        return () if started else (0,)
    return tuple(count for count in (longest - frames, longest) if count >= 0)


def has_started(cache: Any, layer_index: int | None) -> bool:
    """Whether a layer of recurrent states (all, without an index) holds any past; False for other layers."""
    layers = getattr(getattr(cache, "self_attention_cache", cache), "layers", [])
    if layer_index is not None:
        layers = layers[layer_index : layer_index + 1]
    return any(any(layer.has_previous_state.values()) for layer in layers if hasattr(layer, "has_previous_state"))


def holds_frames(cache: Any) -> bool:
    """Whether a cache holds any past."""
    cache = getattr(cache, "self_attention_cache", cache)
    layers = getattr(cache, "layers", [])
    counted = (layer.get_seq_length() for layer in layers if hasattr(layer, "get_seq_length"))
    return any(bool(length > 0) for length in counted) or has_started(cache, None)


def cache_capacity(cache: Any) -> int | None:
    """Most frames of a static cache with at least one layer that keeps them all; None for any other cache."""
    layers = getattr(getattr(cache, "self_attention_cache", cache), "layers", [])
    for layer in layers:
        if getattr(layer, "is_compileable", False) and getattr(layer, "is_sliding", None) is False:
            return int(layer.max_cache_len)
    return None


def _states(cache: Any) -> list[StreamingState]:
    return list(getattr(cache, STATE_ATTRIBUTE, {}).values())


class _CacheMethod:
    """A method of one cache that changes the states with the keys and values; pickled and copied with the cache."""

    def __init__(self, cache: Any, name: str) -> None:
        self.cache, self.name = cache, name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        if self.name in _METHODS and (adapt := _METHODS[self.name]) is not None:
            adapt(self.cache, *arguments, **named)
        return getattr(type(self.cache), self.name)(self.cache, *arguments, **named)


def _select_rows(cache: Any, indices: Tensor) -> None:
    for state in _states(cache):
        state.select(indices)


def _repeat(cache: Any, repeats: int) -> None:
    for state in _states(cache):
        values = [v for value in state.tensors.values() for v in (value if isinstance(value, list) else [value])]
        sizes = [v.shape[0] for v in values if isinstance(v, Tensor) and v.ndim]
        if sizes:
            state.select(torch.arange(sizes[0]).repeat_interleave(repeats))


def _crop(cache: Any, *arguments: Any, **named: Any) -> None:
    raise TalimError(
        "this cache cannot be cropped: the adapter's state cannot drop frames; decode without an assistant model"
    )


def _reset(cache: Any) -> None:
    getattr(cache, STATE_ATTRIBUTE, {}).clear()


_METHODS = {
    "reorder_cache": _select_rows,
    "batch_select_indices": _select_rows,
    "batch_repeat_interleave": _repeat,
    "crop": _crop,
    "reset": _reset,
}
