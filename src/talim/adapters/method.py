"""talim's adapters as a PEFT method: its configuration, the wrapper around a block, and the registration."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, ClassVar

import torch
from peft import mapping
from peft.config import PeftConfig
from peft.tuners.tuners_utils import BaseTuner, BaseTunerLayer
from torch import Tensor, nn

from talim.adapters.designs import KINDS, Kind
from talim.errors import TalimError, UsageError

METHOD = "TALIM"  # peft_type in adapter_config.json
PREFIX = "talim_"  # every attribute that holds adapter weights begins with it


@dataclass
class AdapterConfig(PeftConfig):
    """What is placed where: `blocks` has one row per adapter block, in the order in which they act.

    A row is {"module": path, "kind": a word of KINDS, "features": channels there, "width": hidden units}.
    A module may have several rows. Everything else of `PeftConfig` is as PEFT has it.
    """

    blocks: list[dict[str, Any]] = field(default_factory=list)
    expression: str = ""
    dropout: float = 0.0
    seed: int = 0
    target_modules: str | None = None  # written from `blocks`
    exclude_modules: str | None = None
    modules_to_save: list[str] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = METHOD  # type: ignore[assignment]  # PEFT's enum has no room for others
        self.blocks = [dict(block) for block in self.blocks]
        for block in self.blocks:
            if block.get("kind") not in KINDS:
                raise UsageError(f"adapter kind {block.get('kind')!r} is unknown; known: {', '.join(KINDS)}")
        if self.blocks:
            self.target_modules = exactly(block["module"] for block in self.blocks)

    def blocks_at(self, module: str) -> list[dict[str, Any]]:
        """The rows of one module, in order."""
        return [block for block in self.blocks if block["module"] == module]

    def build(self, block: dict[str, Any]) -> Kind:
        """One block's module, not yet initialised."""
        return KINDS[block["kind"]](block["features"], block["width"], self.dropout)

    def parameters(self) -> int:
        """Exact number of trainable parameters."""
        return sum(KINDS[b["kind"]].parameters_of(b["features"], b["width"]) for b in self.blocks)

    def to_dict(self) -> dict[str, Any]:
        """As PEFT's, but a base loaded from a folder is stored by its name: no one else has that path."""
        values = super().to_dict()
        place = values.get("base_model_name_or_path") or ""
        if "/" in place.strip("/") and (place.startswith(("/", ".", "~")) or place.count("/") > 1):
            values["base_model_name_or_path"] = place.rstrip("/").rsplit("/", 1)[-1]
        return values


class AdapterLayer(nn.Module, BaseTunerLayer):
    """A block of the base model with adapters behind it; shapes, arguments and attributes are the block's."""

    adapter_layer_names = ("talim_blocks",)
    other_param_names = ()

    def __init__(self, base_layer: nn.Module, adapter_name: str, config: AdapterConfig, module: str) -> None:
        nn.Module.__init__(self)
        self.base_layer = base_layer  # PEFT looks for this name
        self.module_path = module
        self.talim_blocks = nn.ModuleDict()
        self.merged_adapters: list[str] = []  # an own list: the class has one shared by all layers
        self._disable_adapters = False
        self._active_adapter = adapter_name
        self.training = base_layer.training
        self.update_layer(adapter_name, config)

    def update_layer(self, adapter_name: str, config: AdapterConfig) -> None:
        """Put one more adapter behind the block, in the block's own training mode."""
        blocks = nn.ModuleList()
        for index, row in enumerate(config.blocks_at(self.module_path)):
            block = config.build(row)
            block.initialise(_generator(config.seed, f"{self.module_path}:{index}"))
            blocks.append(block)
        self.talim_blocks[adapter_name] = blocks
        self.talim_blocks.train(self.base_layer.training)
        self._move_adapter_to_device_of_base_layer(adapter_name)
        self.set_adapter(self.active_adapters, inference_mode=config.inference_mode)

    def _get_base_layer_device_and_dtype(self, base_layer: nn.Module) -> tuple[torch.device, None]:
        # a block has no .weight that PEFT could ask; adapters keep their own float32
        return next(base_layer.parameters()).device, None

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The block's own output, with the active adapters' changes added to its hidden states."""
        output = self.base_layer(*args, **kwargs)
        if self.disable_adapters:
            return output
        hidden: Tensor = output[0] if isinstance(output, tuple) else output  # [B, T, D]
        for name in self.active_adapters:
            if name in self.talim_blocks:  # an adapter may leave this block alone
                for block in self.talim_blocks[name]:  # type: ignore[union-attr]
                    precision = next(block.parameters()).dtype
                    hidden = hidden + block(hidden.to(precision)).to(hidden.dtype)
        return (hidden, *output[1:]) if isinstance(output, tuple) else hidden

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


class AdapterModel(BaseTuner):
    """Places the blocks of an `AdapterConfig` in a model, and names their weights in files."""

    prefix: str = PREFIX
    tuner_layer_cls = AdapterLayer
    target_module_mapping: ClassVar[dict[str, str]] = {}

    def _create_and_replace(
        self,
        peft_config: AdapterConfig,
        adapter_name: str,
        target: nn.Module,
        target_name: str,
        parent: nn.Module,
        current_key: str,
        parameter_name: str | None = None,
    ) -> None:
        if isinstance(target, AdapterLayer):  # a second adapter on the same block
            target.update_layer(adapter_name, peft_config)
            return
        layer = AdapterLayer(target, adapter_name, peft_config, current_key)
        if adapter_name not in self.active_adapters:
            layer.requires_grad_(False)
        self._replace_module(parent, target_name, layer, target)

    def _replace_module(self, parent: nn.Module, child_name: str, new_module: nn.Module, child: Any) -> None:
        setattr(parent, child_name, new_module)  # PEFT's own would rebind .weight, which a block has not

    def _check_merge_allowed(self) -> None:
        raise TalimError("adapters cannot be merged into the base; unload() gives the plain base back")

    @classmethod
    def _remove_adapter_name_from_key(cls, key: str, adapter_name: str) -> str:
        # PEFT expects the name to be the last or last but one part, ours stands before a whole module
        return key.replace(f".talim_blocks.{adapter_name}.", ".talim_blocks.", 1)

    @classmethod
    def _remap_adapter_state_dict_for_load(
        cls,
        model: nn.Module,
        config: PeftConfig,
        adapter_name: str,
        state_dict: dict[str, Tensor],
    ) -> dict[str, Tensor]:
        # PEFT itself lets missing and unknown weights pass without an error
        mapped = super()._remap_adapter_state_dict_for_load(model, config, adapter_name, state_dict)
        own = f".talim_blocks.{adapter_name}."
        expected = {key for key in model.state_dict() if own in key}
        report_unmatched(expected - set(mapped), set(mapped) - expected)
        return mapped


def report_unmatched(missing: Iterable[str], unknown: Iterable[str]) -> None:
    """TalimError where an adapter's weights and the places for them are not the same set."""
    lost, extra = sorted(missing), sorted(unknown)
    if lost or extra:
        example = (lost or extra)[0]
        raise TalimError(
            f"the adapter does not fit this model: {len(lost)} weights missing, {len(extra)} unknown "
            f"(such as {example}); load it on the base it was trained on"
        )


def exactly(paths: Iterable[str]) -> str:
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


def _generator(seed: int, place: str) -> torch.Generator:
    """Random numbers for one block: they depend on the seed and its place, not on what else was drawn."""
    # a generator looks at the lowest 32 bits only, so seed and place are mixed into these
    return torch.Generator().manual_seed(zlib.crc32(f"{seed}:{place}".encode()))


def register() -> None:
    """Make PEFT know the method; its own `register_peft_method` refuses names that it does not ship."""
    known = mapping.PEFT_TYPE_TO_TUNER_MAPPING.setdefault(METHOD, AdapterModel)  # type: ignore[arg-type]
    if known is not AdapterModel:
        raise TalimError(f"PEFT already has another method called {METHOD}; load talim before that library")
    mapping.PEFT_TYPE_TO_CONFIG_MAPPING[METHOD] = AdapterConfig  # type: ignore[index]
    mapping.PEFT_TYPE_TO_PREFIX_MAPPING[METHOD] = PREFIX  # type: ignore[index]
