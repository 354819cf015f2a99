"""A module of the base model with adapters behind it."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn
from transformers.cache_utils import Cache

from talim.adapters.config import AdapterConfig
from talim.adapters.forward_context import ForwardContext
from talim.adapters.full_finetune import Float32Wrapper, FullFineTuneLayer
from talim.design import streaming
from talim.design.adapter_kinds import Kind
from talim.design.layouts import FRAMES
from talim.errors import TalimError, UsageError


class AdapterLayer(nn.Module, BaseTunerLayer):
    """A module of the base model with adapters behind it; shapes, arguments and attributes are the module's."""

    adapter_layer_names = ("talim_blocks",)
    other_param_names = ("scales",)

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        config: AdapterConfig,
        module: str,
        outer_module: nn.Module | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.outer_module = (outer_module,)  # in a tuple, so that it is no child module
        self.base_layer = base_layer  # PEFT looks for this name
        self.module_path = module
        self.talim_blocks = nn.ModuleDict()
        self.scales: dict[str, float] = {}  # by adapter name; 1 is as trained
        self.merged_adapters: list[str] = []  # per layer: the class attribute is shared
        self.mixed_precision = False  # see injection.set_mixed_precision
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.forward_context = ForwardContext(base_layer, module)
        self.training = base_layer.training
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: AdapterConfig) -> None:
        """Add one more adapter behind the module, in the module's training mode."""
        blocks = nn.ModuleList()
        for index, row in enumerate(config.blocks_at(self.module_path, self.base_layer)):
            block = config.build(row, self.base_layer)
            self._check_streaming(block)
            config.initialise(block, _generator(config.seed, f"{self.module_path}:{index}"))
            blocks.append(block)
        self.talim_blocks[adapter_name] = blocks
        self.scales[adapter_name] = 1.0
        self.talim_blocks.train(self.base_layer.training)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def cast_to_base(self, adapter_name: str) -> None:
        """Cast one adapter to the dtype of the base around it; `full` stays float32."""
        modules = (self.base_layer, *filter(None, self.outer_module))
        dtype = next(w.dtype for module in modules for w in module.parameters() if w.is_floating_point())
        for block in self.talim_blocks[adapter_name]:  # type: ignore[union-attr]
            if not isinstance(block, FullFineTuneLayer):
                block.to(dtype)

    def _check_streaming(self, block: Kind | FullFineTuneLayer) -> None:
        """UsageError for a causal block with context behind a module that is not given the cache."""
        if (
            isinstance(block, FullFineTuneLayer)
            or not (block.uses_context and block.causal)
            or self.forward_context.receives_cache
        ):
            return
        raise UsageError(
            f"{self.module_path}: a {type(self.base_layer).__name__} is not given the cache of a decoding model, so "
            f"a causal {type(block).__name__} adapter cannot keep its state there; name whole decoder blocks in "
            "target_modules, or give causal=False in a model that does not decode step by step"
        )

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[torch.device, None]:
        # PEFT reads .weight, which a block lacks (nn.Identity has no weights at all); adapters stay float32
        modules = (base_layer, *filter(None, self.outer_module))
        return next(weight.device for module in modules for weight in module.parameters()), None

    def forward(self, *args: Any, prepended: Tensor | None = None, **kwargs: Any) -> Any:
        """The module's output, with the active adapters' residuals added to its hidden states.

        `prepended`, bool [B, T], marks frames of conditions before the music, to which nothing is added: the music
        begins after them, as at the start of a sequence. In transformers' own calls they are found by themselves.
        """
        if self.disable_adapters:
            return self.base_layer(*args, **kwargs)
        active = self._active()
        conditions = self.forward_context.prepended() if prepended is None else prepended
        if self.forward_context.is_projection and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return self.forward_context.cached(
                args[0], self._weights(active), lambda: self._adapt(active, args, kwargs)
            )
        if self.training and torch.is_grad_enabled() and getattr(self, "gradient_checkpointing", False):
            # module and adapters in one checkpoint: an adapter saves more activations than a frozen module
            adapt = self._as_now(lambda *args: self._adapt(active, args, kwargs, conditions))
            return self._gradient_checkpointing_func(adapt, *args)
        return self._adapt(active, args, kwargs, conditions)

    def _active(self) -> list[str]:
        """The active adapters that have blocks at this module."""
        return [name for name in self.active_adapters if name in self.talim_blocks]

    def _weights(self, active: list[str]) -> list[tuple[Any, float]]:
        weights = [(weight, 1.0) for weight in self.base_layer.parameters()]
        for name in active:
            weights += [(weight, self.scales[name]) for weight in self.talim_blocks[name].parameters()]
        return weights

    def forward_after(self, output: Any, *args: Any, prepended: Tensor | None = None, **kwargs: Any) -> Any:
        """The result of `forward`, given the base module's `output` for the same arguments.

        TalimError if an active adapter replaces the module (`full`).
        """
        if self.disable_adapters:
            return output
        active = self._active()
        if self._effective_module(active) is not self.base_layer:
            raise TalimError(
                f"{self.module_path}: `full` is trained here, so the frozen module's output cannot be used"
            )
        return self._add(active, output, args, kwargs, conditions=prepended)

    def _as_now(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """A function that runs with the present scales and trainable weights, also when a checkpoint repeats it."""
        scales, flags = dict(self.scales), [(weight, weight.requires_grad) for weight in self.parameters()]

        def run(*args: Any) -> Any:
            later_scales, later_flags = self.scales, [weight.requires_grad for weight, _ in flags]
            self.scales = scales
            try:
                _set_requires_grad(flags)
                return function(*args)
            finally:
                self.scales = later_scales
                _set_requires_grad([(weight, later) for (weight, _), later in zip(flags, later_flags, strict=True)])

        return run

    def _adapt(
        self, active: list[str], args: tuple[Any, ...], kwargs: dict[str, Any], conditions: Tensor | int | None = None
    ) -> Any:
        if args and isinstance(args[0], Tensor) and args[0].is_nested and torch.is_grad_enabled():
            # torch's own layers take nested tensors only without gradients
            padded, back, mask = _from_nested(args[0])
            return back(self._adapt(active, (padded, *args[1:]), kwargs | {"src_key_padding_mask": ~mask}))
        module = self._effective_module(active)
        cache = self.forward_context.find_cache(args, kwargs)
        started = cache is not None and streaming.has_started(cache, self.forward_context.layer_index)
        with without_inner_checkpointing(module):
            output = module(*args, **kwargs)
        return self._add(active, output, args, kwargs, started, conditions)

    def _add(
        self,
        active: list[str],
        output: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        started: bool = False,
        conditions: Tensor | int | None = None,  # bool [B, T], or how many frames at the start
    ) -> Any:
        hidden = output[0] if isinstance(output, tuple | list) else output
        blocks = [
            (name, index, block)
            for name in active
            for index, block in enumerate(self.talim_blocks[name])  # type: ignore[arg-type]
            if not isinstance(block, FullFineTuneLayer)
        ]
        if not blocks:
            return output
        layouts = [block.layout for *_, block in blocks if block.uses_context]
        states, restore, nested_mask = self._as_batch_first(hidden, layouts)
        cache, past, mask, call = self._call_context(blocks, states, args, kwargs, started)
        mask = mask if nested_mask is None else nested_mask
        if conditions is not None:
            music = _music_frames(conditions, states)
            mask = music if mask is None else mask & music
        for name, index, block in blocks:
            scale = self.scales[name]
            state = self._state(block, cache, (name, index, call), past)
            if state is not None and not torch.compiler.is_compiling():
                streaming.check_weights(state, scale, block)
            before = {} if state is None or state.capacity is None else dict(state.tensors)
            residual = self._residual(block, states, state, mask)
            if mask is not None:  # recurrences and convolutions of the base may read padded frames
                residual = residual * mask[..., None].to(residual.dtype)
            if state is not None:
                state.advance(states.shape[1], before)
            states = states + (residual if scale == 1.0 else scale * residual)
        hidden = restore(states)
        return _with_first(output, hidden)

    def _call_context(
        self,
        blocks: list[tuple[str, int, Any]],
        hidden: Tensor,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        started: bool,
    ) -> tuple[Any, tuple[Any, ...] | None, Tensor | None, Any]:
        """Cache, possible numbers of past frames, mask, and which layer of the cache; only for kinds with context."""
        if not any(block.uses_context for *_, block in blocks):
            return None, None, None, None
        context, frames = self.forward_context, hidden.shape[1]
        cache, past, call = context.find_cache(args, kwargs), None, None
        if blocks[0][2].layout == FRAMES:
            context.check_past(args, kwargs, frames, cache)
        if cache is not None:
            past, call = context.past(cache, kwargs, frames, started)
        return cache, past, context.mask(args, kwargs, hidden, past, self._probe(args, kwargs)), call

    def _as_batch_first(self, hidden: Any, layouts: list[str]) -> tuple[Tensor, Callable[[Tensor], Any], Tensor | None]:
        """The output as [B, T, D] (or a U-Net's [B, D, T, F]), what gives its own layout back, a nested one's mask."""
        if not isinstance(hidden, Tensor):
            raise TalimError(
                f"{self.module_path}: a {type(self.base_layer).__name__} returns a {type(hidden).__name__}; adapters "
                "need hidden states [B, T, D], alone or first in a tuple"
            )
        if hidden.is_nested:
            return _from_nested(hidden)
        if any(hidden.ndim != (3 if layout == FRAMES else 4) for layout in layouts):
            raise TalimError(
                f"{self.module_path}: an output of shape {list(hidden.shape)} arrived; an adapter with context needs "
                "hidden states [B, T, D]; name whole blocks in target_modules, or use the kind linear"
            )
        if layouts and hidden.ndim == 3 and self.forward_context.is_time_first:
            return hidden.transpose(0, 1), lambda states: states.transpose(0, 1), None
        return hidden, lambda states: states, None

    def _probe(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Callable[[Tensor], Tensor]:
        """The base module's output, with its input changed at the frames [B, T] that are given."""

        def without_cache(value: Any) -> Any:
            return None if isinstance(value, Cache) else value

        def run(where: Tensor) -> Tensor:
            values = [without_cache(value) for value in args]
            named = {name: without_cache(value) for name, value in kwargs.items()}
            place: Any = values if values else named
            key: Any = 0 if values else next(name for name, value in named.items() if isinstance(value, Tensor))
            wave = torch.sin(torch.arange(place[key].shape[-1]).to(place[key]) + 1)
            where = where.transpose(0, 1) if self.forward_context.is_time_first else where
            place[key] = place[key] + 3 * wave * where[..., None]
            with torch.no_grad(), torch.random.fork_rng():
                torch.manual_seed(0)  # the same dropout every time
                output = self.base_layer(*values, **named)
            output = output[0] if isinstance(output, tuple | list) else output
            return output.transpose(0, 1) if self.forward_context.is_time_first else output

        return run

    def _residual(
        self, block: Any, hidden: Tensor, state: streaming.StreamingState | None, mask: Tensor | None
    ) -> Tensor:
        enabled = self.mixed_precision and hidden.dtype == torch.bfloat16
        with torch.autocast(hidden.device.type, hidden.dtype) if enabled else nullcontext():
            return block(hidden.to(block.up.weight.dtype), state, mask).to(hidden.dtype)

    def _state(
        self, block: Any, cache: Any, key: tuple[Any, ...], past: tuple[Any, ...] | None
    ) -> streaming.StreamingState | None:
        """The block's state of the previous frames; None if it needs none."""
        if past is None or not block.uses_context:
            return None
        if block.causal:
            state = streaming.get_state(cache, (self.module_path, *key), past)
            self._check_once_per_step(state)
            return state
        if 0 in past:
            return None  # one full pass
        raise TalimError(
            f"{self.module_path}: this adapter uses later frames (causal=False), but the model decodes step by "
            "step; train one with causal=True, or generate with use_cache=False"
        )

    def _check_once_per_step(self, state: streaming.StreamingState) -> None:
        """TalimError where a model runs one block several times in a step: its state would be of another depth."""
        outer = self.forward_context.outer_call
        if outer is None or outer.token is None or torch.compiler.is_compiling():
            return
        if state.step is outer.token:
            raise TalimError(
                f"{self.module_path} runs several times in one step of this model, so an adapter cannot keep its "
                "state of the past there; generate with use_cache=False, or use the kind linear"
            )
        state.step = outer.token

    def _effective_module(self, active: list[str]) -> nn.Module:
        """The base module, or its replacement by `full`."""
        copies = [
            (block, self.scales[name])
            for name in active
            for block in self.talim_blocks[name]  # type: ignore[union-attr]
            if isinstance(block, FullFineTuneLayer)
        ]
        if not copies:
            return self.base_layer
        if len(copies) == 1 and copies[0][1] == 1.0:
            return copies[0][0]
        if torch.is_grad_enabled() and any(w.requires_grad for c, _ in copies for w in c.parameters()):
            raise TalimError(
                f"{self.module_path}: `full` is trained at scale 1 and one adapter at a time; freeze the others"
            )
        return self.forward_context.lerp(self.base_layer, copies)

    def active_parts(self) -> tuple[nn.Module, list[tuple[Kind, float]]]:
        """The module that runs at present, of the base or trained whole, and the blocks behind it with their scales."""
        active = [] if self.disable_adapters else self._active()
        module = self._effective_module(active)
        blocks = [
            (block, self.scales[name])
            for name in active
            for block in self.talim_blocks[name]  # type: ignore[union-attr]
            if not isinstance(block, FullFineTuneLayer)
        ]
        return module.module if isinstance(module, Float32Wrapper) else module, blocks

    def enable_adapters(self, enabled: bool) -> None:
        """Use the adapters or the base alone; which weights are trained is left as it is.

        PEFT's own freezes them, and trains all weights of the active adapters when they are enabled again.
        """
        self._disable_adapters = not enabled

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """TalimError: an adapter's residual depends on its input."""
        raise TalimError("adapters cannot be merged into the base: their output depends on their input")

    def unmerge(self) -> None:
        """TalimError: nothing is ever merged."""
        raise TalimError("nothing is merged: adapters are never merged into the base")

    def __getattr__(self, name: str) -> Any:
        # models read attributes of their blocks, and some branch on their absence
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


def _from_nested(hidden: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor], Tensor]:
    """Rows of unequal length as [B, T, D], their way back, and the bool mask [B, T] of their frames."""
    rows = hidden.unbind()
    lengths = torch.tensor([len(row) for row in rows], device=hidden.device)
    padded = nn.utils.rnn.pad_sequence(list(rows), batch_first=True)
    mask = torch.arange(padded.shape[1], device=hidden.device)[None] < lengths[:, None]

    def back(states: Tensor) -> Tensor:
        return torch.nested.as_nested_tensor([row[:n] for row, n in zip(states, lengths.tolist(), strict=True)])

    return padded, back, mask


def _music_frames(conditions: Tensor | int, states: Tensor) -> Tensor:
    """The frames of states [B, T, D] that are not conditions, bool [B, T]."""
    if isinstance(conditions, Tensor):
        return ~conditions
    after = torch.arange(states.shape[1], device=states.device) >= conditions
    return after.expand(states.shape[0], -1)


def _with_first(output: Any, hidden: Any) -> Any:
    """A module's output with other hidden states."""
    if hasattr(output, "_replace"):  # a named tuple
        return output._replace(**{output._fields[0]: hidden})
    if isinstance(output, list | tuple):
        return type(output)((hidden, *output[1:]))
    return hidden


def _set_requires_grad(flags: Sequence[tuple[Tensor, bool]]) -> None:
    for weight, flag in flags:
        if weight.requires_grad != flag:
            weight.requires_grad_(flag)


@contextmanager
def without_inner_checkpointing(block: nn.Module) -> Iterator[None]:
    """Disable gradient checkpointing inside a transformers block, which is checkpointed together with its adapters."""
    inner = block.module if isinstance(block, Float32Wrapper) else block
    enabled = vars(inner).get("gradient_checkpointing")
    if enabled:
        inner.gradient_checkpointing = False  # type: ignore[assignment]
    try:
        yield
    finally:
        if enabled:
            inner.gradient_checkpointing = enabled  # type: ignore[assignment]


def _generator(seed: int, path: str) -> torch.Generator:
    """Random numbers for one block, a function of seed and path only."""
    # a generator uses only the lowest 32 bits of a seed
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}:{path}".encode()))
