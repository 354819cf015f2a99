"""What an adapter must know of the calls around it: the cache, the padding, and what it answered last."""

from __future__ import annotations

import copy
import inspect
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from talim.adapters import full_finetune
from talim.designs import streaming

ATTENTION_MASK = "attention_mask"
TEXT_MASK_NAMES = (
    ATTENTION_MASK,
    "states_mask",
)  # what the model around a conditioner may call the mask of its words


class ForwardContext:
    """Reads a wrapped module's arguments. For what only passes the words on (a projection, or nothing at all), whose
    own arguments tell nothing of padding, it listens to the model around: the words' mask, without which padding
    would leak into the words.
    """

    def __init__(self, layer: nn.Module) -> None:
        named = inspect.signature(layer.forward).parameters
        words = list(named)
        # what takes any keyword may be given a cache
        self.receives_cache = any(
            word in streaming.CACHE_ARGUMENTS or parameter.kind is parameter.VAR_KEYWORD
            for word, parameter in named.items()
        )
        self.is_projection = isinstance(layer, nn.Linear | nn.Identity)
        self.places = {w: words.index(w) for w in (*streaming.CACHE_ARGUMENTS, ATTENTION_MASK) if w in words}
        self.text_mask: Tensor | None = None
        self._handles: list[Any] = []
        self._answer: tuple[Any, Any, Any] | None = None
        self._blend: tuple[Any, nn.Module] | None = None

    def listen(self, parent: nn.Module) -> None:
        """Hear the mask [B, L] with which the module around a projection is called."""
        if self.is_projection:
            words = list(inspect.signature(parent.forward).parameters)
            self.outer_argument_positions = {
                word: words.index(word) for word in TEXT_MASK_NAMES if word in words
            }
            self._handles.append(parent.register_forward_pre_hook(self._capture_mask, with_kwargs=True))

    def remove_hooks(self) -> None:
        """Leave the module around as it was."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _capture_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        found = (_argument(word, self.outer_argument_positions, args, kwargs) for word in TEXT_MASK_NAMES)
        self.text_mask = next((mask for mask in found if mask is not None), None)

    def context(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Tensor
    ) -> tuple[Any, Tensor | None]:
        """The cache, if the model is decoding with one, and the mask [B, T] of the present frames, if any is padded."""
        if self.is_projection:
            mask = self.text_mask
            fits = mask is not None and mask.shape == hidden.shape[:2]
            return None, mask.bool() if mask is not None and fits else None
        cache = None
        for word in streaming.CACHE_ARGUMENTS:
            cache = cache if cache is not None else _argument(word, self.places, args, kwargs)
        mask = _argument(ATTENTION_MASK, self.places, args, kwargs)
        if mask is None or hidden.shape[1] == 1:
            return cache, None
        return cache, valid_frames(mask, hidden.shape[1], cache)

    def cached(
        self, states: Tensor, weights: Sequence[tuple[Tensor, float]], compute: Callable[[], Any]
    ) -> Any:
        """`compute()`, or its last result where the same states met the same weights, mask and strengths.

        A projection runs at every decoding step, each time on the same words.
        """
        if states.is_inference():
            return compute()  # such tensors do not tell whether they were changed
        mask = self.text_mask
        key = (states._version, *((id(w), w._version, s) for w, s in weights if not w.is_inference()))
        if self._answer is not None:
            (heard, heard_mask), told, result = self._answer
            if heard() is states and told == key and _same(mask, heard_mask):
                return result
        result = compute()
        self._answer = ((weakref.ref(states), mask), key, result)
        return result

    def lerp(
        self, layer: nn.Module, copies: Sequence[tuple[full_finetune.FullFineTuneLayer, float]]
    ) -> nn.Module:
        """What several trained copies, or one at less than full strength, make of a layer; kept until they change."""
        key = [(id(p), p._version, s) for c, s in copies for p in c.parameters()]
        if self._blend is None or self._blend[0] != key:
            self._blend = (key, full_finetune.blend_copies(layer, copies))
        return self._blend[1]

    def __deepcopy__(self, memo: dict[int, Any]) -> ForwardContext:
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        vars(twin).update(vars(self), words_mask=None, _answer=None, _blend=None)
        twin._handles = copy.deepcopy(self._handles, memo)
        return twin


def valid_frames(mask: Tensor, frames: int, cache: Any) -> Tensor | None:
    """Which of the present frames are no padding, [B, T], from a layer's mask [B, L] or [B, 1, T, S]; None if all.

    In a mask over pairs, the diagonal tells: whatever the window, a frame sees itself unless it is padding.
    """
    past = streaming.num_past_frames(cache, frames) if cache is not None else 0
    if mask.ndim not in (2, 4) or mask.shape[-1] < frames:
        return None
    start = min(past, mask.shape[-1] - frames)  # the keys of a sliding window begin later than the music
    if mask.ndim == 4:
        present = mask[:, 0].diagonal(start, dim1=-2, dim2=-1)  # [B, T]
        present = present > -1e4 if present.is_floating_point() else present.bool()
    else:
        present = mask[:, start : start + frames].bool()
    if torch.compiler.is_compiling():
        return present  # whether all are present is not known yet
    return None if bool(present.all()) else present


def _same(one: Tensor | None, other: Tensor | None) -> bool:
    if one is None or other is None or one is other:
        return one is other
    return one.shape == other.shape and bool((one == other).all())


def _argument(word: str, places: dict[str, int], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if word in kwargs:
        return kwargs[word]
    place = places.get(word)
    return args[place] if place is not None and place < len(args) else None
