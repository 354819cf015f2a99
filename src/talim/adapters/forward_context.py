"""Inputs that an adapter needs from the calls around it: the decoding cache, the padding mask, cached results."""

from __future__ import annotations

import copy
import inspect
import re
import weakref
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from transformers.cache_utils import Cache
from transformers.models.musicgen_melody.modeling_musicgen_melody import (
    MusicgenMelodyDecoder,
    MusicgenMelodyForConditionalGeneration,
)

from talim.adapters import full_finetune, padding_masks
from talim.design import streaming
from talim.errors import TalimError

TEXT_MASK_NAMES = ("attention_mask", "states_mask")  # names of the text mask in models around a conditioner
# arguments that carry the past from call to call in decoders of other designs
PAST_NAME = re.compile(r"past|cache|^state$|^mems$|_params$")
SEVERAL_STREAMS = (
    "{} is given {} frames in a row for {} positions: this model runs {} streams one after the other in one row, "
    "so an adapter with context would take the end of one for the past of the next; use the kind linear"
)
UNKNOWN_PAST = (
    "{module} keeps the past of this generation in {what}, which an adapter cannot follow there: its numbers would "
    "be wrong from the second step on. Generate with use_cache=False, or use the kind linear"
)


class OuterCall:
    """Whether the present call of a whole model continues an earlier one; one per model, shared by its adapters."""

    ATTRIBUTE = "talim_outer_call"

    def __init__(self) -> None:
        self.past: Any = None
        self.padding_mask: Tensor | None = None  # [B, past + T], 1 for frames
        self.token: object | None = None  # of the present call; None between calls
        self.prepended: int | None = None  # frames of conditions that this call of a decoder puts before its own
        self.users = 0
        self._handles: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        """Without the present call, for pickle and copies."""
        return vars(self) | {"past": None, "padding_mask": None, "token": None, "prepended": None}

    @classmethod
    def of(cls, model: nn.Module) -> OuterCall:
        """The model's own, made if there is none yet; `release` it as often."""
        outer = vars(model).get(cls.ATTRIBUTE)
        if outer is None:
            outer = vars(model)[cls.ATTRIBUTE] = cls()
            outer._handles = [
                model.register_forward_pre_hook(outer._enter, with_kwargs=True),
                model.register_forward_hook(outer._leave, always_call=True),
            ]
            for decoder in (part for part in model.modules() if isinstance(part, MusicgenMelodyDecoder)):
                outer._handles.append(decoder.register_forward_pre_hook(outer._enter_decoder, with_kwargs=True))
                outer._handles.append(decoder.register_forward_hook(outer._leave_decoder, always_call=True))
        outer.users += 1
        return outer

    def release(self, model: nn.Module) -> None:
        """Remove the hooks with the model's last adapter."""
        self.users -= 1
        if self.users == 0:
            for handle in self._handles:
                handle.remove()
            vars(model).pop(self.ATTRIBUTE, None)

    def _enter(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.past = next(((name, value) for name, value in kwargs.items() if _carries_past(name, value)), None)
        of_encoder = getattr(getattr(module, "config", None), "is_encoder_decoder", False)
        self.padding_mask = kwargs.get("decoder_attention_mask" if of_encoder else "attention_mask")
        self.token = None if torch.compiler.is_compiling() else object()

    def _leave(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.past, self.padding_mask, self.token = None, None, None

    def _enter_decoder(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        conditions = kwargs.get("encoder_hidden_states")
        self.prepended = None if conditions is None else conditions.shape[1]

    def _leave_decoder(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.prepended = None

    def continues(self) -> bool:
        """Whether the model was given a past that is not empty."""
        if self.past is None:
            return False
        cache = self.past[1]
        return streaming.holds_frames(cache) if isinstance(cache, Cache) else True


class ForwardContext:
    """Reads cache and mask from the arguments of a wrapped module.

    A projection of the text states (nn.Linear or nn.Identity) does not receive the mask. For it, `register_hooks`
    captures the text mask from the calls of the parent module, so that padding does not leak into the text.
    """

    def __init__(self, layer: nn.Module, module_path: str = "") -> None:
        parameters = inspect.signature(layer.forward).parameters
        # a module that takes any keyword may be given a cache
        self.receives_cache = any(
            PAST_NAME.search(name) is not None or parameter.kind is parameter.VAR_KEYWORD
            for name, parameter in parameters.items()
        )
        self.module_path = module_path
        self.names = list(parameters)
        self.is_projection = isinstance(layer, nn.Linear | nn.Identity)
        # torch's own layers are [T, B, D] unless told otherwise
        self.is_time_first = any(vars(module).get("batch_first") is False for module in layer.modules())
        self.masks = padding_masks.PaddingMasks(layer)
        self.layer_index = _layer_index(layer)
        self.outer_call: OuterCall | None = None
        self._model: tuple[nn.Module, ...] = ()
        self.text_mask: Tensor | None = None
        self._handles: list[Any] = []
        self._cached_result: tuple[Any, Any, Any] | None = None
        self._blended: tuple[Any, nn.Module] | None = None

    def register_hooks(self, parent: nn.Module, model: nn.Module) -> None:
        """Watch whether the calls of `model` continue others; for a projection, the text mask [B, L] of `parent`."""
        self.outer_call, self._model = OuterCall.of(model), (model,)  # in a tuple, so that it is no child module
        if self.is_projection:
            self.outer_names = list(inspect.signature(parent.forward).parameters)
            self._handles.append(parent.register_forward_pre_hook(self._capture_mask, with_kwargs=True))
            if isinstance(parent, MusicgenMelodyForConditionalGeneration):  # its generate() projects outside of forward
                encoder: Any = parent.text_encoder
                self._handles.append(encoder.register_forward_pre_hook(self._capture_encoder_mask, with_kwargs=True))
                self._handles.append(parent.register_forward_hook(self._forget_mask, always_call=True))

    def remove_hooks(self) -> None:
        if self.outer_call is not None:
            self.outer_call.release(*self._model)
            self.outer_call = None
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    def _capture_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = kwargs | dict(zip(self.outer_names, args, strict=False))
        masks = (given.get(name) for name in TEXT_MASK_NAMES)
        self.text_mask = next((mask for mask in masks if mask is not None), None)

    def _capture_encoder_mask(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.text_mask = kwargs.get("attention_mask")

    def _forget_mask(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> None:
        self.text_mask = None

    def prepended(self) -> int | None:
        """How many frames of conditions precede the music in the present call of the decoder; None without any."""
        return None if self.outer_call is None else self.outer_call.prepended

    def find_cache(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Cache | None:
        """The cache among a block's arguments, whatever its name; None without cached decoding."""
        if self.is_projection:
            return None
        for value in (*args, *kwargs.values()):
            if isinstance(value, Cache):
                return value
            if isinstance(value, list | tuple):
                for item in value:
                    if isinstance(item, Cache):
                        return item
        return None

    def check_past(self, args: tuple[Any, ...], kwargs: dict[str, Any], frames: int, cache: Cache | None) -> None:
        """TalimError if this call continues an earlier one whose past an adapter with context cannot know."""
        given = dict(zip(self.names, args, strict=False)) | kwargs
        packed = given.get("cu_seq_lens_q")
        if isinstance(packed, Tensor) and packed.numel() > 2:
            what = "one row of several sequences (generate_batch, packing), which an adapter cannot separate"
            raise TalimError(f"{self.module_path} is given {what}; give one sequence per row, or use the kind linear")
        positions = given.get("position_ids")
        if isinstance(positions, Tensor) and positions.ndim == 2 and 0 < positions.shape[1] < frames:
            streams, rest = divmod(frames, positions.shape[1])
            if rest == 0 and positions.shape[0] != frames:
                raise TalimError(SEVERAL_STREAMS.format(self.module_path, frames, positions.shape[1], streams))
        if cache is not None or self.is_projection:
            return
        for name, value in given.items():
            if _carries_past(name, value):
                what = f"its argument {name} ({type(value).__name__})"
                raise TalimError(UNKNOWN_PAST.format(module=self.module_path, what=what))
        if self.outer_call is not None and self.outer_call.continues():
            name, value = self.outer_call.past
            what = f"the model's argument {name} ({type(value).__name__}), not given to this module"
            raise TalimError(UNKNOWN_PAST.format(module=self.module_path, what=what))
        positions = given.get("position_ids", given.get("cache_position"))
        if frames != 1 or not isinstance(positions, Tensor) or torch.compiler.is_compiling():
            return
        if positions.numel() and int(positions.min()) > 0:
            what = f"the module itself (one frame, at position {int(positions.min())}, without a cache)"
            raise TalimError(UNKNOWN_PAST.format(module=self.module_path, what=what))

    def past(
        self, cache: Cache, kwargs: dict[str, Any], frames: int, started: bool = False
    ) -> tuple[tuple[Any, ...], Any]:
        """Possible numbers of frames before the present ones, and which layer of the cache this call is."""
        index = kwargs.get("layer_idx", self.layer_index)  # a block that serves as several layers is told which
        index = index if isinstance(index, int) else self.layer_index
        return streaming.past_frames(cache, index, frames, started), index

    def mask(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], hidden: Tensor, past: tuple[Any, ...] | None, run: Any
    ) -> Tensor | None:
        """Which of the present frames are no padding, bool [B, T]; None without padding.

        `run` calls the base module again, to ask it which convention an ambiguous mask follows.
        """
        if self.is_projection:
            mask = self.text_mask
            fits = mask is not None and mask.shape == hidden.shape[:2]
            return mask.bool() if mask is not None and fits else None
        if hidden.shape[1] == 1 and past is not None:
            return None
        given = dict(zip(self.names, args, strict=False)) | kwargs
        outer = None if self.outer_call is None else self.outer_call.padding_mask
        frames = hidden.shape[1] + (past[0] if past else 0)
        # some blocks of hybrid models are given no mask (experts, recurrences)
        fits = isinstance(outer, Tensor) and outer.shape == (len(hidden), frames)
        if fits and not self.masks.names(given):
            given = {"attention_mask": outer}
        return self.masks.valid_frames(given, hidden, past, run)

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

    def __getstate__(self) -> dict[str, Any]:
        """Without the results of past calls, for pickle and copies."""
        return vars(self) | {"text_mask": None, "_cached_result": None, "_blended": None}

    def __deepcopy__(self, memo: dict[int, Any]) -> ForwardContext:
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        vars(twin).update(self.__getstate__(), _handles=copy.deepcopy(self._handles, memo))
        for name in ("outer_call", "_model", "masks"):
            setattr(twin, name, copy.deepcopy(getattr(self, name), memo))
        return twin


def _carries_past(name: str, value: Any) -> bool:
    """Whether an argument is something that carries a past from call to call."""
    if isinstance(value, Cache):
        return True
    if value is None or isinstance(value, bool | int | float | str) or not PAST_NAME.search(name):
        return False
    return "position" not in name and "mask" not in name


def _layer_index(layer: nn.Module) -> int | None:
    """The index of a decoder block's layer in the cache, which the block or its attention knows."""
    for module in layer.modules():
        for name in ("layer_idx", "layer_id", "layer_index", "block_idx"):
            if isinstance(index := vars(module).get(name), int):
                return index
    return None


def _equal_masks(first: Tensor | None, second: Tensor | None) -> bool:
    if first is None or second is None or first is second:
        return first is second
    return first.shape == second.shape and bool((first == second).all())
