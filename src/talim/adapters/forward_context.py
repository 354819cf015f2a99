"""Inputs that an adapter needs from the calls around it: the decoding cache, the padding mask, cached results."""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from talim.adapters import full_finetune
from talim.design import streaming

ATTENTION_MASK = "attention_mask"
TEXT_MASK_NAMES = (ATTENTION_MASK, "states_mask")  # names of the text mask in models around a conditioner


class ForwardContext:
    """Reads cache and mask from the arguments of a wrapped module.

    A projection of the text states (nn.Linear or nn.Identity) does not receive the mask. For it, `register_hooks`
    captures the text mask from the calls of the parent module, so that padding does not leak into the text.
    """

    def __init__(self, layer: nn.Module) -> None:
        parameters = inspect.signature(layer.forward).parameters
        # a module that takes any keyword may be given a cache
        self.receives_cache = any(
            name in streaming.CACHE_ARGUMENTS or parameter.kind is parameter.VAR_KEYWORD
            for name, parameter in parameters.items()
        )
        self.is_projection = isinstance(layer, nn.Linear | nn.Identity)
        self.argument_positions = _positions(layer, (*streaming.CACHE_ARGUMENTS, ATTENTION_MASK))
        self.text_mask: Tensor | None = None
        self._handles: list[Any] = []
        self._cached_result: tuple[Any, Any, Any] | None = None
        self._blended: tuple[Any, nn.Module] | None = None

    def register_hooks(self, parent: nn.Module) -> None:
        """For a projection: capture the text mask [B, L] with which `parent` is called."""
        if self.is_projection:
            self.outer_argument_positions = _positions(parent, TEXT_MASK_NAMES)
            self._handles.append(parent.register_forward_pre_hook(self._capture_mask, with_kwargs=True))

    def remove_hooks(self) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _capture_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        masks = (_argument(name, self.outer_argument_positions, args, kwargs) for name in TEXT_MASK_NAMES)
        self.text_mask = next((mask for mask in masks if mask is not None), None)

    def context(self, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Tensor) -> tuple[Any, Tensor | None]:
        """The cache, or None without cached decoding; and the bool mask [B, T] of the frames, None without padding."""
        if self.is_projection:
            mask = self.text_mask
            fits = mask is not None and mask.shape == hidden.shape[:2]
            return None, mask.bool() if mask is not None and fits else None
        cache = None
        for name in streaming.CACHE_ARGUMENTS:
            cache = cache if cache is not None else _argument(name, self.argument_positions, args, kwargs)
        mask = _argument(ATTENTION_MASK, self.argument_positions, args, kwargs)
        if mask is None or hidden.shape[1] == 1:
            return cache, None
        return cache, valid_frames(mask, hidden.shape[1], cache)

    def cached(self, states: Tensor, weights: Sequence[tuple[Tensor, float]], compute: Callable[[], Any]) -> Any:
        """`compute()`, or its last result for the same states, weights with their scales, and mask.

        A projection runs in every decoding step on the same text states.
        """
        if states.is_inference():
            return compute()  # such tensors have no version counter
        mask = self.text_mask
        key = (states._version, *((id(w), w._version, s) for w, s in weights if not w.is_inference()))
        if self._cached_result is not None:
            (cached_states, cached_mask), cached_key, result = self._cached_result
            if cached_states() is states and cached_key == key and _equal_masks(mask, cached_mask):
                return result
        result = compute()
        self._cached_result = ((weakref.ref(states), mask), key, result)
        return result

    def lerp(self, layer: nn.Module, copies: Sequence[tuple[full_finetune.FullFineTuneLayer, float]]) -> nn.Module:
        """The interpolation of a layer with scaled trained copies of it, cached until one of them changes."""
        key = [(id(p), p._version, s) for c, s in copies for p in c.parameters()]
        if self._blended is None or self._blended[0] != key:
            self._blended = (key, full_finetune.blend_copies(layer, copies))
        return self._blended[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> ForwardContext:
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        vars(twin).update(vars(self), text_mask=None, _cached_result=None, _blended=None)
        twin._handles = copy.deepcopy(self._handles, memo)
        return twin


def valid_frames(mask: Tensor, frames: int, cache: Any) -> Tensor | None:
    """Which of the present frames are no padding, bool [B, T], from a mask [B, L] or [B, 1, T, S]; None if all.

    In a mask over pairs the diagonal decides: in any window, a frame attends to itself unless it is padding.
    """
    past = streaming.num_past_frames(cache, frames) if cache is not None else 0
    if mask.ndim not in (2, 4) or mask.shape[-1] < frames:
        return None
    start = min(past, mask.shape[-1] - frames)  # a sliding window holds only the last keys
    if mask.ndim == 4:
        valid = mask[:, 0].diagonal(start, dim1=-2, dim2=-1)  # [B, T]
        valid = valid > -1e4 if valid.is_floating_point() else valid.bool()
    else:
        valid = mask[:, start : start + frames].bool()
    if torch.compiler.is_compiling():
        return valid  # data-dependent branches break the graph
    return None if bool(valid.all()) else valid


def _equal_masks(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None or first is second:
        return first is second
    return first.shape == second.shape and bool((first == second).all())


def _positions(module: nn.Module, names: Sequence[str]) -> dict[str, int]:
    arguments = list(inspect.signature(module.forward).parameters)
    return {name: arguments.index(name) for name in names if name in arguments}


def _argument(name: str, positions: dict[str, int], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if name in kwargs:
        return kwargs[name]
    index = positions.get(name)
    return args[index] if index is not None and index < len(args) else None
