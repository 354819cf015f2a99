"""Biases of the base that an adapter overwrites (PEFT's `bias` other than "none"), kept so that they can be switched.

PEFT trains such biases in place and has no way back; a model with one of these adapters would never be the base again.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from talim.errors import UsageError

KEPT = "talim_biases"  # attribute of the plain model
ADDED = ("lora_", "modules_to_save")  # in paths of biases that are an adapter's anyway


class BaseBiases:
    """The base's own biases and those of each adapter; `active` is the adapter whose biases are in the model now."""

    def __init__(self, model: nn.Module) -> None:
        self.weights = [
            weight
            for path, weight in model.named_parameters()
            if path.endswith("bias") and not any(part in path for part in ADDED)
        ]
        self.base = self._now()
        self.of_adapter: dict[str, list[Tensor]] = {}
        self.active: str | None = None

    def add(self, name: str) -> None:
        """Register an adapter that is being added and will be active; its biases begin as the base's."""
        self.switch(None)
        self.of_adapter[name] = self.base
        self.active = name

    def switch(self, name: str | None) -> None:
        """Put the biases of an adapter into the model, or the base's for None or an adapter that changes none."""
        name = name if name in self.of_adapter else None
        if name == self.active:
            return
        if self.active is not None:  # they may have been trained since
            self.of_adapter[self.active] = self._now()
        self.active = name
        with torch.no_grad():
            for weight, value in zip(self.weights, self.base if name is None else self.of_adapter[name], strict=True):
                weight.copy_(value)

    @contextmanager
    def switched(self, name: str | None) -> Iterator[None]:
        """Context in which the biases of an adapter, or the base's, are in the model."""
        active = self.active
        self.switch(name)
        try:
            yield
        finally:
            self.switch(active)

    def check_scales(self, scales: dict[str, float]) -> None:
        """UsageError where biases would have to be scaled."""
        for name in scales.keys() & self.of_adapter.keys():
            if scales[name] != 1:
                raise UsageError(
                    f"{name} brings its own biases of the base, which cannot be scaled by {scales[name]:g}; give 1, or "
                    "0 for the base alone"
                )

    def _now(self) -> list[Tensor]:
        return [weight.detach().clone() for weight in self.weights]


def changes_biases(config: Any) -> bool:
    """Whether an adapter of this PEFT configuration overwrites biases of the base."""
    return getattr(config, "bias", "none") not in ("none", False, None)


def kept_biases(model: nn.Module) -> BaseBiases | None:
    """The biases that are kept for a plain model; None where no adapter of it changes any."""
    return model.__dict__.get(KEPT)


def before_adding(model: nn.Module, config: Any, name: str) -> None:
    """Keep the base's biases, if they are not yet kept, before an adapter is added and becomes the active one.

    UsageError where others are there already: PEFT takes one adapter that changes biases, and only as the first.
    """
    kept, others = kept_biases(model), "talim_wrapper" in model.__dict__
    if not changes_biases(config):
        if kept is not None:
            kept.switch(None)
        return
    if others:
        raise UsageError(
            f"{name} changes biases of the base (bias={config.bias!r} in its configuration): PEFT holds one such "
            "adapter per model, and only as the first; name it before the others, or use them one at a time"
        )
    model.__dict__[KEPT] = kept = BaseBiases(model)
    kept.add(name)
