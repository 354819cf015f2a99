"""Where numbers that are not finite come from: the data, the base, the adapter, the loss, or the gradients alone."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import fields
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

from talim.adapters import injection
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone, Batch

MAX_NAMED = 3


class Cause(NamedTuple):
    """What was found, and whether a smaller learning rate may help: not where data or the base are at fault."""

    text: str
    by_training: bool


def find_cause(backbone: Backbone, batch: Batch, weights: Mapping[str, nn.Parameter]) -> Cause:
    """The first thing that is not finite in a step on this batch, whose forward and backward pass are run again.

    `weights` are the trained ones; their gradients are cleared.
    """
    for field in fields(batch):
        value = getattr(batch, field.name)
        if isinstance(value, Tensor) and (rows := _bad_rows(value)):
            clips = ", ".join(str(row + 1) for row in rows[:MAX_NAMED])
            return Cause(f"the data hold NaN or infinity: {field.name} of clip {clips} of the batch", False)
    trained = {id(weight) for weight in weights.values()}
    for name, weight in backbone.model.named_parameters():
        if not _is_finite(weight):
            whose = "adapter's" if id(weight) in trained else "base's"
            return Cause(f"the {whose} weight {name} holds NaN or infinity", id(weight) in trained)
    return _trace(backbone, batch, weights)


def _trace(backbone: Backbone, batch: Batch, weights: Mapping[str, nn.Parameter]) -> Cause:
    found: list[tuple[str, nn.Module]] = []
    trained = {id(weight) for weight in weights.values()}

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if not found and not _is_finite(output):
                found.append((name, module))

        return hook

    # a module is reported before the one that it is in, as its output is complete earlier
    handles = [module.register_forward_hook(look(name)) for name, module in backbone.model.named_modules() if name]
    try:
        with torch.enable_grad():
            loss = backbone.loss(batch)
    finally:
        for handle in handles:
            handle.remove()
    if found:
        name, module = found[0]
        ours = any(id(weight) in trained for weight in module.parameters())
        text = f"{name} ({type(module).__name__}) is the first module whose output is not finite"
        if ours:
            return Cause(f"the adapter's {text}", True)
        if _finite_without_adapter(backbone, batch):
            return Cause(f"the base's {text}, and without the adapter the base is finite on this batch", True)
        return Cause(f"the base's {text}, without the adapter, too", False)
    if not _is_finite(loss.mean):
        return Cause("all modules are finite, and the loss is not", True)
    for weight in weights.values():
        weight.grad = None
    loss.mean.backward()
    bad = [name for name, weight in weights.items() if weight.grad is not None and not _is_finite(weight.grad)]
    for weight in weights.values():
        weight.grad = None
    if not bad:
        return Cause("the same step run again is finite: the hardware or a kernel does not give the same twice", False)
    names = ", ".join(bad[-MAX_NAMED:])
    return Cause(
        f"the loss is finite, and {len(bad)} of {format_counted(len(weights), 'gradient')} are not (such as {names})",
        True,
    )


def _finite_without_adapter(backbone: Backbone, batch: Batch) -> bool:
    wrapper = injection.find_peft_model(backbone.model)
    with torch.no_grad(), injection.disabled(wrapper) if wrapper is not None else contextlib.nullcontext():
        return _is_finite(backbone.loss(batch).mean)


def _bad_rows(value: Tensor) -> list[int]:
    """Indices of the first axis with values that are not finite."""
    if not value.is_floating_point() or value.ndim == 0:
        return []
    return (~value.isfinite()).flatten(1).any(dim=1).nonzero()[:, 0].tolist() if value.ndim > 1 else []


def _is_finite(value: Any) -> bool:
    """Whether all floating-point tensors in a module's output are finite; masks of attention are not looked at."""
    if isinstance(value, Tensor):
        return not value.is_floating_point() or bool(value.detach().isfinite().all())
    if isinstance(value, tuple | list):
        return all(_is_finite(item) for item in value)
    if isinstance(value, dict):
        return all(_is_finite(item) for item in value.values())
    return True
