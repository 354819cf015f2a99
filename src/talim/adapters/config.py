"""Configuration of talim's PEFT method: which adapter blocks sit at which modules."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.config import PeftConfig
from torch import nn

from talim.adapters.full_finetune import FullFineTuneLayer
from talim.design.adapter_kinds import KINDS, Kind
from talim.design.layouts import FRAMES
from talim.errors import UsageError

METHOD = "TALIM"  # peft_type in adapter_config.json
FULL = "full"
BLOCK_KEYS = {"module", "kind", "features", "width", "causal", "layout", "kind_options", "parameters"}


@dataclass
class AdapterConfig(PeftConfig):
    """Adapter blocks behind modules whose output is [B, T, D].

    Either the same block behind every module whose whole path matches a regular expression, with `kind_options`:
    AdapterConfig(kind="conv", width=64, target_modules=r"model\\.layers\\.\\d+", causal=True). Or `blocks`, one row per
    block in order of application: {"module": path, "kind": a key of KINDS or "full", "features": D, "width": W,
    "causal": bool, "layout": "frames" or "bands", "kind_options": {...}}; a module may have several rows.
    `dropout` applies to what a block adds; `seed` determines its initial weights.
    """

    blocks: list[dict[str, Any]] = field(default_factory=list)
    design: str = ""
    dropout: float = 0.0
    seed: int = 0
    kind: str | None = None
    width: int | None = None
    causal: bool = True
    kind_options: dict[str, Any] = field(default_factory=dict)
    target_modules: str | None = None  # derived from `blocks` if given
    exclude_modules: str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = METHOD  # type: ignore[assignment]  # PEFT's enum is closed
        self.blocks = [dict(block) for block in self.blocks]
        if unknown := sorted({key for block in self.blocks for key in block} - BLOCK_KEYS):
            raise UsageError(
                f"blocks: unknown key {unknown[0]}; known: {', '.join(sorted(BLOCK_KEYS))} (train adapters of earlier "
                "versions of talim again)"
            )
        for kind in [block.get("kind") for block in self.blocks] + [self.kind] * (not self.blocks):
            if kind not in KINDS and (kind != FULL or not self.blocks):
                raise UsageError(
                    f"adapter kind {kind!r} is unknown; known: {', '.join(KINDS)} (a custom kind must be registered "
                    "before it is loaded: talim.adapters.register)"
                )
        if self.blocks:
            self.target_modules = exact_path_regex(block["module"] for block in self.blocks)
        elif not (self.width and self.width > 0 and isinstance(self.target_modules, str)):
            raise UsageError(
                "an AdapterConfig needs kind, width (at least 1) and target_modules (a regular expression that "
                "matches whole module paths), or blocks as made by talim.adapters.adapter_config"
            )

    def blocks_at(self, module: str, layer: nn.Module) -> list[dict[str, Any]]:
        """The rows of one module, in order of application."""
        if self.blocks:
            return [block for block in self.blocks if block["module"] == module]
        row = {"kind": self.kind, "features": module_features(layer, module), "width": self.width}
        return [{"module": module, **row, "causal": self.causal, "kind_options": self.kind_options}]

    def build(self, block: dict[str, Any], layer: nn.Module) -> Kind | FullFineTuneLayer:
        """The module of one row, not yet initialised; `layer` is the base module that it belongs to."""
        if block["kind"] == FULL:
            return FullFineTuneLayer(layer)
        return KINDS[block["kind"]](
            block["features"],
            block["width"],
            causal=block.get("causal", True),
            dropout=self.dropout,
            layout=block.get("layout", FRAMES),
            **block.get("kind_options", {}),
        )

    def shapes(self, block: dict[str, Any], model: nn.Module) -> dict[str, tuple[int, ...]]:
        """Names and shapes of one row's weights; `model` is not changed."""
        if block["kind"] == FULL:
            module = model.get_submodule(block["module"])
            original = getattr(module, "base_layer", module)  # it may already have an adapter
            return {f"module.{name}": tuple(value.shape) for name, value in original.state_dict().items()}
        with torch.device("meta"):
            built = self.build(block, model)
        return {name: tuple(value.shape) for name, value in built.state_dict().items()}

    def parameters(self) -> int:
        """Exact number of trainable parameters; only for a configuration with `blocks`."""
        total = 0
        for block in self.blocks:
            if block["kind"] == FULL:
                total += block["parameters"]
            else:
                options = block.get("kind_options", {})
                total += KINDS[block["kind"]].parameters_of(block["features"], block["width"], **options)
        return total

    def to_dict(self) -> dict[str, Any]:
        """As PEFT's, but a base loaded from a folder is stored by its name instead of a local path."""
        values = super().to_dict()
        base = values.get("base_model_name_or_path") or ""
        if "/" in base.strip("/") and (base.startswith(("/", ".", "~")) or base.count("/") > 1):
            values["base_model_name_or_path"] = base.rstrip("/").rsplit("/", 1)[-1]
        return values


def module_features(layer: nn.Module, name: str) -> int:
    """Number of channels D of a module's output [B, T, D]; UsageError if it cannot be inferred."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    for attribute in ("embed_dim", "hidden_size", "d_model", "dim"):
        if isinstance(width := getattr(layer, attribute, None), int):
            return width
    for module in layer.modules():
        if isinstance(module, nn.LayerNorm):
            return module.normalized_shape[-1]
    raise UsageError(f"{name}: the output width of a {type(layer).__name__} is unknown; give blocks with features")


def exact_path_regex(paths: Iterable[str]) -> str:
    """A regular expression that matches these module paths and no others."""
    by_parent: dict[str, list[str]] = {}
    for path in dict.fromkeys(paths):
        parent, _, leaf = path.rpartition(".")
        by_parent.setdefault(parent, []).append(re.escape(leaf))
    parts = []
    for parent, leaves in by_parent.items():
        ending = f"(?:{'|'.join(leaves)})"
        parts.append(re.escape(parent) + r"\." + ending if parent else ending)
    return "|".join(parts)
