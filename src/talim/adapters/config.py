"""What is placed where: the configuration of talim's PEFT method."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import torch
from peft.config import PeftConfig
from torch import nn

from talim.adapters.full_finetune import FullFineTuneLayer
from talim.designs.kinds import KINDS, Kind
from talim.designs.layouts import FRAMES
from talim.errors import UsageError

METHOD = "TALIM"  # peft_type in adapter_config.json
FULL = "full"


@dataclass
class AdapterConfig(PeftConfig):
    """Which adapter blocks sit behind which modules of a model that map [B, T, D] to [B, T, D].

    Two ways to say it. For the same block behind every module that a regular expression matches in full:
    AdapterConfig(kind="conv", width=64, target_modules=r"model\\.layers\\.\\d+", causal=True), with `settings` as
    the kind has them. For any design: `blocks`, one row per block in the order in which they act, {"module": path,
    "kind": a word of KINDS or "full", "features": D, "width": W, "causal": bool, "layout": "frames" or "bands",
    "settings": {...}}; a module may have several rows. `dropout` is on what a block adds, `seed` decides its first
    weights.
    """

    blocks: list[dict[str, Any]] = field(default_factory=list)
    expression: str = ""
    dropout: float = 0.0
    seed: int = 0
    kind: str | None = None
    width: int | None = None
    causal: bool = True
    settings: dict[str, Any] = field(default_factory=dict)
    target_modules: str | None = None  # written from `blocks` where there are any
    exclude_modules: str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = METHOD  # type: ignore[assignment]  # PEFT's enum has no room for others
        self.blocks = [dict(block) for block in self.blocks]
        for kind in [block.get("kind") for block in self.blocks] + [self.kind] * (not self.blocks):
            if kind not in KINDS and (kind != FULL or not self.blocks):
                raise UsageError(
                    f"adapter kind {kind!r} is unknown; known: {', '.join(KINDS)} (a kind of your own must be "
                    "registered before it is loaded: talim.adapters.register)"
                )
        if self.blocks:
            self.target_modules = exact_path_regex(block["module"] for block in self.blocks)
        elif not (self.width and self.width > 0 and isinstance(self.target_modules, str)):
            raise UsageError(
                "an AdapterConfig needs kind, width (at least 1) and target_modules (a regular expression that "
                "matches whole module paths), or blocks as talim.adapters.adapter_config writes them"
            )

    def blocks_at(self, module: str, layer: nn.Module) -> list[dict[str, Any]]:
        """The rows of one module, in order."""
        if self.blocks:
            return [block for block in self.blocks if block["module"] == module]
        row = {"kind": self.kind, "features": module_features(layer, module), "width": self.width}
        return [{"module": module, **row, "causal": self.causal, "settings": self.settings}]

    def build(self, block: dict[str, Any], layer: nn.Module) -> Kind | FullFineTuneLayer:
        """One block's module, not yet initialised; `layer` is what it will sit behind."""
        if block["kind"] == FULL:
            return FullFineTuneLayer(layer)
        return KINDS[block["kind"]](
            block["features"],
            block["width"],
            causal=block.get("causal", True),
            dropout=self.dropout,
            layout=block.get("layout", FRAMES),
            **block.get("settings", {}),
        )

    def shapes(self, block: dict[str, Any], model: nn.Module) -> dict[str, tuple[int, ...]]:
        """Names and shapes of one row's weights; `model` is only looked at."""
        if block["kind"] == FULL:
            found = model.get_submodule(block["module"])
            original = getattr(found, "base_layer", found)  # there may be an adapter around it already
            return {f"module.{name}": tuple(value.shape) for name, value in original.state_dict().items()}
        with torch.device("meta"):
            built = self.build(block, model)
        return {name: tuple(value.shape) for name, value in built.state_dict().items()}

    def parameters(self) -> int:
        """Exact number of trainable parameters; only for a configuration with `blocks`."""
        return sum(
            block["parameters"]
            if block["kind"] == FULL
            else KINDS[block["kind"]].parameters_of(
                block["features"], block["width"], **block.get("settings", {})
            )
            for block in self.blocks
        )

    def to_dict(self) -> dict[str, Any]:
        """As PEFT's, but a base loaded from a folder is stored by its name: no one else has that path."""
        values = super().to_dict()
        place = values.get("base_model_name_or_path") or ""
        if "/" in place.strip("/") and (place.startswith(("/", ".", "~")) or place.count("/") > 1):
            values["base_model_name_or_path"] = place.rstrip("/").rsplit("/", 1)[-1]
        return values


def module_features(layer: nn.Module, name: str) -> int:
    """How many channels D a block's output [B, T, D] has; UsageError where the block does not tell."""
    if isinstance(layer, nn.Linear):
        return layer.out_features
    for attribute in ("embed_dim", "hidden_size", "d_model", "dim"):
        if isinstance(found := getattr(layer, attribute, None), int):
            return found
    for module in layer.modules():
        if isinstance(module, nn.LayerNorm):
            return module.normalized_shape[-1]
    raise UsageError(f"{name}: how wide is the output of a {type(layer).__name__}? Give blocks with features")


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
