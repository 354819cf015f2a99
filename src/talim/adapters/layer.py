"""A block of the base model with adapters behind it."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from talim.adapters.config import AdapterConfig
from talim.adapters.forward_context import ForwardContext
from talim.adapters.full_finetune import Float32Wrapper, FullFineTuneLayer
from talim.designs import streaming
from talim.designs.kinds import Kind
from talim.errors import TalimError, UsageError


class AdapterLayer(nn.Module, BaseTunerLayer):
    """A block of the base model with adapters behind it; shapes, arguments and attributes are the block's."""

    adapter_layer_names = ("talim_blocks",)
    other_param_names = ("strength",)

    def __init__(
        self,
        base_layer: nn.Module,
        adapter_name: str,
        config: AdapterConfig,
        module: str,
        around: nn.Module | None = None,
    ) -> None:
        nn.Module.__init__(self)
        self.around = (around,)  # a tuple, so that it is no child
        self.base_layer = base_layer  # PEFT looks for this name
        self.module_path = module
        self.talim_blocks = nn.ModuleDict()
        self.strength: dict[str, float] = {}
        self.merged_adapters: list[str] = []  # an own list: the class has one shared by all layers
        self.mixed = (
            False  # multiply in the base's precision, weights and sums in float32: `tuner.mix_precision`
        )
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.calls = ForwardContext(base_layer)
        self.training = base_layer.training
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: AdapterConfig) -> None:
        """Put one more adapter behind the block, in the block's own training mode."""
        blocks = nn.ModuleList()
        for index, row in enumerate(config.blocks_at(self.module_path, self.base_layer)):
            block = config.build(row, self.base_layer)
            self._check_streaming(block)
            block.reset_parameters(_generator(config.seed, f"{self.module_path}:{index}"))
            blocks.append(block)
        self.talim_blocks[adapter_name] = blocks
        self.strength[adapter_name] = 1.0
        self.talim_blocks.train(self.base_layer.training)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _check_streaming(self, block: Kind | FullFineTuneLayer) -> None:
        """A causal block that looks back must be told of the cache, or decoding would not be what was trained."""
        if (
            isinstance(block, FullFineTuneLayer)
            or not (block.uses_context and block.causal)
            or self.calls.receives_cache
        ):
            return
        raise UsageError(
            f"{self.module_path}: a {type(self.base_layer).__name__} is not given the cache of a decoding model, so "
            f"a causal {type(block).__name__} adapter cannot remember there; name whole decoder blocks in "
            "target_modules, or give causal=False in a model that hears everything at once"
        )

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[torch.device, None]:
        # a block has no .weight that PEFT could ask, and one that does nothing no weights; adapters keep their float32
        asked = (base_layer, *filter(None, self.around))
        return next(weight.device for module in asked for weight in module.parameters()), None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's own output, with the active adapters' changes added to its hidden states."""
        if self.disable_adapters:
            return self.base_layer(*args, **kwargs)
        active = [
            name for name in self.active_adapters if name in self.talim_blocks
        ]  # it may leave a block alone
        if self.calls.is_projection and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return self.calls.cached(
                args[0], self._weights(active), lambda: self._adapt(active, args, kwargs)
            )
        if self.training and torch.is_grad_enabled() and getattr(self, "gradient_checkpointing", False):
            # the block and all behind it at once: what an adapter keeps is more than what a frozen block keeps
            return self._gradient_checkpointing_func(lambda *args: self._adapt(active, args, kwargs), *args)
        return self._adapt(active, args, kwargs)

    def _weights(self, active: list[str]) -> list[tuple[Any, float]]:
        found = [(weight, 1.0) for weight in self.base_layer.parameters()]
        for name in active:
            found += [(weight, self.strength[name]) for weight in self.talim_blocks[name].parameters()]
        return found

    def after(self, output: Any, *args: Any, **kwargs: Any) -> Any:
        """What `forward` makes of the same arguments, where the block's own `output` is known already.

        TalimError where an active adapter takes the block's place (`full`), as that output is then of no use.
        """
        if self.disable_adapters:
            return output
        active = [name for name in self.active_adapters if name in self.talim_blocks]
        if self._block(active) is not self.base_layer:
            raise TalimError(
                f"{self.module_path}: `full` is trained here; the frozen block's output does not count"
            )
        return self._add(active, output, args, kwargs)

    def _adapt(self, active: list[str], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        block = self._block(active)
        with without_inner_checkpointing(block):
            output = block(*args, **kwargs)
        return self._add(active, output, args, kwargs)

    def _add(self, active: list[str], output: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        hidden: Tensor = output[0] if isinstance(output, tuple) else output  # [B, T, D]
        cache, mask = self.calls.context(args, kwargs, hidden)
        past = None if cache is None else streaming.num_past_frames(cache, hidden.shape[1])
        for name in active:
            for index, block in enumerate(self.talim_blocks[name]):  # type: ignore[arg-type]
                if isinstance(block, FullFineTuneLayer):
                    continue
                memory = self._memory(block, cache, (name, index), past)
                delta = self._delta(block, hidden, memory, mask)
                if memory is not None:
                    memory.frames += hidden.shape[1]
                strength = self.strength[name]
                hidden = hidden + (delta if strength == 1.0 else strength * delta)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

    def _delta(
        self, block: Any, hidden: Tensor, memory: streaming.StreamingState | None, mask: Tensor | None
    ) -> Tensor:
        wide = hidden.to(block.up.weight.dtype)
        if not (self.mixed and hidden.dtype == torch.bfloat16):
            return block(wide, memory, mask).to(hidden.dtype)
        with torch.autocast(hidden.device.type, hidden.dtype):
            return block(wide, memory, mask).to(hidden.dtype)

    def _memory(
        self, block: Any, cache: Any, key: tuple[str, int], past: int | None
    ) -> streaming.StreamingState | None:
        """What the block remembers of the frames before; None where it needs no memory."""
        if past is None or not block.uses_context:
            return None
        if block.causal:
            return streaming.get_state(cache, (self.module_path, *key), past)
        if past == 0:
            return None  # all there is, at once
        raise TalimError(
            f"{self.module_path}: this adapter looks at later frames (causal=False), but the model decodes step by "
            "step; train one with causal=True, or generate with use_cache=False"
        )

    def _block(self, active: list[str]) -> nn.Module:
        """The block itself, or what `full` made of it."""
        copies = [
            (block, self.strength[name])
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
                f"{self.module_path}: `full` is trained at strength 1 and one adapter at a time; freeze the others"
            )
        return self.calls.lerp(self.base_layer, copies)

    def merge(self, safe_merge: bool = False, adapter_names: list[str] | None = None) -> None:
        """Refused: what an adapter adds depends on its input."""
        raise TalimError("adapters cannot be merged into the base: what they add depends on their input")

    def unmerge(self) -> None:
        """Refused, as nothing is ever merged."""
        raise TalimError("nothing is merged: adapters stay beside the base")

    def __getattr__(self, name: str) -> Any:
        # models read attributes off their blocks, and some take another branch if they find none
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name == "base_layer":
                raise
            return getattr(self.base_layer, name)


@contextmanager
def without_inner_checkpointing(block: nn.Module) -> Iterator[None]:
    """Keep a block of transformers from checkpointing itself where it is computed again with all that is behind it."""
    inner = block.module if isinstance(block, Float32Wrapper) else block
    asked = vars(inner).get("gradient_checkpointing")
    if asked:
        inner.gradient_checkpointing = False  # type: ignore[assignment]
    try:
        yield
    finally:
        if asked:
            inner.gradient_checkpointing = asked  # type: ignore[assignment]


def _generator(seed: int, place: str) -> torch.Generator:
    """Random numbers for one block: they depend on the seed and its place, not on what else was drawn."""
    # a generator looks at the lowest 32 bits only, so seed and place are mixed into these
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}:{place}".encode()))
