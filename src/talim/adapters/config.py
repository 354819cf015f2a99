"""Configuration of talim's PEFT method: which adapter blocks sit at which modules."""

from __future__ import annotations

import enum
import json
import re
import reprlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import ModelCard
from peft.config import PeftConfig
from torch import nn

from talim.adapters.full_finetune import FullFineTuneLayer
from talim.design.adapter_kinds import KINDS, Kind
from talim.design.layouts import FRAMES
from talim.errors import UsageError

FULL = "full"
BLOCK_KEYS = {"module", "kind", "features", "width", "causal", "layout", "kind_options", "parameters"}
CONFIG_FILE = "adapter_config.json"


class TalimPeftType(str, enum.Enum):  # noqa: UP042  (PEFT reads the name out of "TalimPeftType.TALIM")
    """The `peft_type` of talim's method; behaves like a member of PEFT's own enum, which is closed."""

    TALIM = "TALIM"


METHOD = TalimPeftType.TALIM
CARD_SENTENCE = "This adapter is of talim's PEFT method: run `import talim.adapters` before PEFT loads it."
# PEFT's only message about a method that is not registered is a KeyError with the peft_type of the file
STORED_METHOD = "TALIM: run `import talim.adapters` before loading this adapter"


@dataclass
class AdapterConfig(PeftConfig):
    """Adapter blocks behind modules whose output is [B, T, D].

    Either the same block behind every module whose whole path matches a regular expression, with `kind_options`:
    AdapterConfig(kind="conv", width=64, target_modules=r"model\\.layers\\.\\d+", causal=True). As in PEFT,
    `target_modules` may also be a list of path endings or "all-linear". Or `blocks`, one row per block in order of
    application: {"module": path, "kind": a key of KINDS or "full", "features": D, "width": W, "causal": bool,
    "layout": "frames" or "bands", "kind_options": {...}}; a module may have several rows.
    `dropout` applies to what a block adds; `seed` determines its initial weights; `init_weights=False` also draws the
    last projection at random, for tests. `modules_to_save` names modules that are trained whole and stored.
    """

    blocks: list[dict[str, Any]] = field(default_factory=list)
    design: str = ""
    dropout: float = 0.0
    seed: int = 0
    kind: str | None = None
    width: int | None = None
    causal: bool = True
    kind_options: dict[str, Any] = field(default_factory=dict)
    target_modules: str | Collection[str] | None = None  # derived from `blocks` if given
    exclude_modules: str | Collection[str] | None = None
    modules_to_save: list[str] | None = None
    init_weights: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        self.peft_type = METHOD  # type: ignore[assignment]
        self._check_types()
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
            for block in self.blocks:
                _complete_row(block)
        elif not (self.width and self.width > 0 and self.target_modules):
            raise UsageError(
                "an AdapterConfig needs kind, width (at least 1) and target_modules (a regular expression that "
                'matches whole module paths, a list of path endings, or "all-linear"), or blocks as made by '
                "talim.adapters.adapter_config"
            )
        else:
            self.kind_options = _all_options(KINDS[str(self.kind)], self.width, self.kind_options)

    def _check_types(self) -> None:
        """UsageError where a value, perhaps from a file of others, has another type than its field."""
        expected: dict[str, tuple[type, ...]] = {
            "blocks": (list, tuple),
            "design": (str,),
            "dropout": (int, float),
            "seed": (int,),
            "kind": (str, type(None)),
            "width": (int, type(None)),
            "causal": (bool,),
            "kind_options": (dict,),
            "target_modules": (str, list, tuple, set, frozenset, type(None)),
            "exclude_modules": (str, list, tuple, set, frozenset, type(None)),
            "modules_to_save": (list, tuple, set, type(None)),
            "init_weights": (bool,),
        }
        for name, types in expected.items():
            if not isinstance(value := getattr(self, name), types):
                words = " or ".join("null" if t is type(None) else t.__name__ for t in types)
                raise UsageError(f"AdapterConfig: {name} is {reprlib.repr(value)}; expected {words}")
        for name in ("target_modules", "exclude_modules", "modules_to_save"):
            value = getattr(self, name)
            if not isinstance(value, str) and not all(isinstance(item, str) for item in value or ()):
                raise UsageError(f"AdapterConfig: {name} is {reprlib.repr(value)}; expected texts in the list")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"AdapterConfig: dropout is {self.dropout}; it must be at least 0 and below 1")
        for block in self.blocks:
            if not (isinstance(block, dict) and isinstance(block.get("module"), str)):
                raise UsageError(f"AdapterConfig: blocks holds {reprlib.repr(block)}; expected rows with a module path")

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

    def initialise(self, block: Kind | FullFineTuneLayer, generator: torch.Generator) -> None:
        """Draw a block's initial weights; it changes nothing then, unless `init_weights` is False.

        What `init_weights=False` adds comes from torch's global random state, as in PEFT's own methods.
        """
        block.reset_parameters(generator)
        weights = list(block.parameters() if isinstance(block, FullFineTuneLayer) else block.up.parameters())
        if self.init_weights or any(weight.is_meta for weight in weights):
            return
        with torch.no_grad():
            for weight in weights:
                noise = torch.empty(weight.shape).uniform_(-0.5, 0.5)
                weight.add_(noise.to(weight.device, weight.dtype) * weight.shape[-1] ** -0.5)

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
        """As PEFT's, in plain types, but a base loaded from a local folder is stored as `stored_base_name` says."""
        values = super().to_dict()
        values["peft_type"] = METHOD.value
        values["base_model_name_or_path"] = stored_base_name(values.get("base_model_name_or_path"))
        for name in ("target_modules", "exclude_modules", "modules_to_save"):
            if isinstance(values[name], tuple | set | frozenset):
                values[name] = sorted(values[name])
        return values

    def save_pretrained(self, save_directory: str, **kwargs: Any) -> None:
        """As PEFT's; the peft_type in the file is a sentence, so that PEFT's error without talim says what to do.

        The card that PEFT has written beside it is told how the adapter is loaded.
        """
        super().save_pretrained(save_directory, **kwargs)
        path = Path(save_directory) / CONFIG_FILE
        values = json.loads(path.read_text(encoding="utf-8")) | {"peft_type": STORED_METHOD}
        path.write_text(json.dumps(values, indent=2, sort_keys=True), encoding="utf-8")
        for folder in (path.parent, path.parent.parent):  # an adapter with a name of its own has a subfolder
            if (card := folder / "README.md").is_file():
                _complete_card(card, self.base_model_name_or_path)


def _complete_card(path: Path, base: str | None) -> None:
    """Add the import to a card that PEFT has written, and take a local base's name out of its header."""
    card = ModelCard(path.read_text(encoding="utf-8"), ignore_metadata_errors=True)
    if card.data.get("library_name") != "peft":
        return
    name = card.data.get("base_model")
    if base and name and stored_base_name(str(name)) != name:
        card.data.pop("base_model")
        card.data["tags"] = [tag for tag in card.data.get("tags") or [] if not tag.startswith("base_model:")]
    if "import talim.adapters" not in card.text:
        card.text = card.text.rstrip() + f"\n\n{CARD_SENTENCE}\n"
    path.write_text(str(card), encoding="utf-8")


def stored_base_name(base: str | None) -> str | None:
    """The name of a base as adapter files hold it: a Hub id as it is, a local folder as "./its-name".

    A path would tell of the machine, and a bare name might be that of another model on the Hub.
    """
    if not base:
        return base
    if Path(base).is_dir() or base.startswith(("/", ".", "~")) or base.count("/") > 1 or "\\" in base:
        return "./" + base.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    return base


def _all_options(kind: type[Kind], width: int, given: dict[str, Any]) -> dict[str, Any]:
    """A kind's options with their defaults in plain types, so that later defaults do not change a stored adapter."""
    options = kind.default_options(width, **given)
    return {name: list(value) if isinstance(value, tuple) else value for name, value in options.items()}


def _complete_row(row: dict[str, Any]) -> None:
    """Fill in the defaults of one row of `blocks`; UsageError for what is missing or of another type."""
    needed = {"parameters": int} if row["kind"] == FULL else {"features": int, "width": int}
    for name, kind in needed.items():
        if not isinstance(row.get(name), kind) or row[name] < 1:
            raise UsageError(f"blocks: the row of {row['module']} has {name} {row.get(name)!r}; expected a number")
    if row["kind"] == FULL:
        return
    row.setdefault("causal", True)
    row.setdefault("layout", FRAMES)
    row["kind_options"] = _all_options(KINDS[row["kind"]], row["width"], row.get("kind_options") or {})


def module_features(layer: nn.Module, name: str) -> int:
    """Number of channels D of a module's output [B, T, D]; UsageError if it cannot be inferred."""
    # nn.Linear, the Conv1D of transformers, nn.Embedding, and blocks by the attribute that holds their width
    for attribute in ("out_features", "nf", "embedding_dim", "embed_dim", "hidden_size", "d_model", "dim"):
        if isinstance(width := getattr(layer, attribute, None), int):
            return width
    by_depth: dict[int, set[int]] = {}
    for path, module in layer.named_modules():
        weights = list(module.parameters(recurse=False))
        if not list(module.children()) and weights and all(weight.ndim == 1 for weight in weights):
            by_depth.setdefault(path.count("."), set()).add(weights[0].shape[0])
    # the outermost norms work on the block's own stream; those deeper inside may have other widths
    if by_depth and len(widths := by_depth[min(by_depth)]) == 1:
        return widths.pop()
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
