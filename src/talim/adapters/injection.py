"""Adapters on a model: place them by a design, choose among them, mix them, switch them off."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from peft import PeftModel, get_peft_model
from peft.config import PeftConfig
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import nn

from talim.adapters import peft_baselines
from talim.adapters.config import FULL, AdapterConfig
from talim.adapters.full_finetune import FullFineTuneLayer
from talim.adapters.layer import AdapterLayer
from talim.designs import budget
from talim.designs.expression import Design
from talim.designs.kinds import KINDS
from talim.designs.musicgen_sites import Site
from talim.designs.site_selection import base_parameters, model_sites, select_sites
from talim.errors import UsageError

DEFAULT_NAME = "adapter"
DROPOUT = 0.1
MAX_ADAPTER_SCALE = 1.5


def adapter_config(
    model: Any,
    expression: str | Design,
    *,
    dropout: float = DROPOUT,
    seed: int = 0,
    settings: dict[str, dict[str, Any]] | None = None,
) -> PeftConfig:
    """The PEFT configuration of a design on a transformers MusicGen or a Backbone; UsageError if none.

    An `AdapterConfig`, or PEFT's own where the design is a lone lora, dora or ia3. `settings` by kind, such as
    {"conv": {"kernel": 7}}.
    """
    design = Design.parse(expression) if isinstance(expression, str) else expression
    return peft_config_for(
        design, model_sites(model), base_parameters(model), dropout=dropout, seed=seed, settings=settings
    )


def peft_config_for(
    design: Design,
    sites: Sequence[Site],
    base: int,
    *,
    dropout: float = DROPOUT,
    seed: int = 0,
    settings: dict[str, dict[str, Any]] | None = None,
) -> PeftConfig:
    """Widths for every site of a design, from shapes alone. `base`: parameters that a share is a share of."""
    if strays := sorted(set(settings or {}) - {part.kind for part in design.parts if part.kind in KINDS}):
        raise UsageError(f"settings.{strays[0]}: {design} has no adapter of that kind that could be set")
    if design.peft_kind is not None:
        part = design.parts[0]
        made = peft_baselines.peft_part_config(part, select_sites(part.site, sites), base, dropout)
        made.__dict__["expression"] = str(design)  # PEFT's own have no field for it; `save` writes it down
        return made
    blocks: list[dict[str, Any]] = []
    for part in sorted(design.parts, key=lambda part: part.site == "post"):  # post acts after any other there
        chosen, own = select_sites(part.site, sites), (settings or {}).get(part.kind, {})
        if part.kind == FULL:
            wholes = [whole for site in chosen for whole in site.full_modules]
            blocks += [{"module": module, "kind": FULL, "parameters": count} for module, count in wholes]
            continue
        for site, width in zip(chosen, budget.solve_width(part, chosen, base, own), strict=True):
            row = {"module": site.module, "kind": part.kind, "features": site.width, "width": width}
            blocks.append(row | {"causal": site.causal, "layout": site.layout, "settings": own})
    trained = [block["module"] for block in blocks if block["kind"] == FULL]
    if twice := sorted({module for module in trained if trained.count(module) > 1}):
        raise UsageError(f"{design}: full trains {twice[0]} twice; name each site once")
    return AdapterConfig(blocks=blocks, expression=str(design), dropout=dropout, seed=seed)


def attach(
    model: nn.Module,
    design: Design | str,
    sites: Sequence[Site] | None = None,
    name: str = DEFAULT_NAME,
    seed: int = 0,
    *,
    dropout: float = DROPOUT,
    settings: dict[str, dict[str, Any]] | None = None,
) -> PeftModel:
    """Place a new, trainable adapter in a model (changed in place); a second one joins the first."""
    design = Design.parse(design) if isinstance(design, str) else design
    plain = unwrap_peft(model)
    places = model_sites(plain) if sites is None else sites
    config = peft_config_for(
        design, places, base_parameters(plain), dropout=dropout, seed=seed, settings=settings
    )
    with torch.random.fork_rng():  # PEFT's own methods draw from the global state
        torch.manual_seed(seed)
        return inject_adapters(model, config, name)


def inject_adapters(model: nn.Module, config: PeftConfig, name: str) -> PeftModel:
    """Put what a configuration says into a model; it is the active adapter afterwards."""
    plain, wrapped = unwrap_peft(model), find_peft_model(model)
    if wrapped is not None and name in wrapped.peft_config:
        raise UsageError(f"an adapter called {name!r} is already in this model; choose another name")
    check_name(name, plain, config)
    if wrapped is None:
        with warnings.catch_warnings():
            # PEFT 0.21 asks transformers 5.23 for a property by its old name
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            made = cast(PeftModel, get_peft_model(plain, config, adapter_name=name))  # type: ignore[arg-type]
        plain.__dict__["talim_wrapper"] = made  # not as a child module, which would be a circle
        return made
    there = next(iter(wrapped.peft_config.values()))
    if there.peft_type != config.peft_type:
        raise UsageError(
            f"a {peft_baselines.peft_type_name(config)} adapter cannot join a {peft_baselines.peft_type_name(there)} adapter: PEFT holds one "
            "method per model; load them one at a time"
        )
    wrapped.add_adapter(name, config)
    wrapped.set_adapter(name, inference_mode=config.inference_mode)
    return wrapped


def set_adapter_scales(model: PeftModel, strengths: dict[str, float]) -> None:
    """Let exactly these adapters act, each at its strength 0 to 1.5 (1 is as trained); none: the plain base.

    UsageError for an unknown name or a strength out of range, and where the method (ia3) has no strength.
    """
    for name, strength in strengths.items():
        if name not in model.peft_config:
            raise UsageError(f"no adapter called {name!r} here; there are {', '.join(model.peft_config)}")
        if not 0 <= strength <= MAX_ADAPTER_SCALE:
            raise UsageError(
                f"strength {strength} of {name} is out of range; 0 is off, 1 as trained, at most 1.5"
            )
    inside: Any = model.base_model  # PeftModel's own set_adapter takes one name only
    if not strengths:
        inside.disable_adapter_layers()
        return
    inside.enable_adapter_layers()
    flags = [(weight, weight.requires_grad) for weight in model.parameters()]
    inside.set_adapter(list(strengths))
    for weight, flag in flags:  # PEFT turns the gradients of what it switches on
        weight.requires_grad_(flag)
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            for name, strength in strengths.items():
                _set_strength(layer, name, strength)


def cast_adapters(model: PeftModel, dtype: torch.dtype) -> None:
    """Let the adapters compute as the base does, which decodes faster; `full` stays in float32. Not for training."""
    for layer in model.modules():
        if not isinstance(layer, BaseTunerLayer):
            continue
        for word in layer.adapter_layer_names:
            for name, held in getattr(layer, word).items():
                if isinstance(held, nn.Parameter):
                    getattr(layer, word)[name] = nn.Parameter(held.data.to(dtype), held.requires_grad)
                    continue
                for block in held if isinstance(held, nn.ModuleList) else [held]:
                    if not isinstance(block, FullFineTuneLayer):
                        block.to(dtype)


def set_mixed_precision(model: nn.Module, on: bool = True) -> None:
    """Let talim's kinds multiply in the precision of a bf16 base in training, their weights staying in float32.

    On a CPU with bf16 instructions that is about twice as fast. `full` and PEFT's own kinds are left as they are.
    """
    for layer in model.modules():
        if isinstance(layer, AdapterLayer):
            layer.mixed = on


def _set_strength(layer: Any, name: str, strength: float) -> None:
    if isinstance(layer, AdapterLayer):
        if name in layer.strength:
            layer.strength[name] = strength
    elif hasattr(layer, "set_scale") and not getattr(layer, "use_dora", {}).get(name):
        layer.set_scale(name, strength)
    elif strength != 1:  # DoRA rescales what it finds, ia3 multiplies: half of either is nothing in between
        raise UsageError("a dora or ia3 adapter has no strength but 1")


def unwrap_peft(model: nn.Module) -> nn.Module:
    """The transformers model inside a PeftModel, or the model itself."""
    return cast(nn.Module, model.base_model.model) if isinstance(model, PeftModel) else model


def find_peft_model(model: nn.Module) -> PeftModel | None:
    """The PeftModel around a model that already has adapters in it; None for a plain model."""
    if isinstance(model, PeftModel):
        return model
    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        return None
    if "talim_wrapper" not in model.__dict__:
        raise UsageError("this model already has adapters in it; pass the PeftModel that get_peft_model gave")
    return model.__dict__["talim_wrapper"]


def check_name(name: str, model: nn.Module, config: PeftConfig) -> None:
    """UsageError for an adapter name under which PEFT would lose or mix up weights."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or hasattr(nn.ModuleDict(), name):
        raise UsageError(f"adapter name {name!r} will not do; use letters, digits, - and _, such as raga-1")
    paths = [path for path, _ in model.named_modules()]
    if isinstance(config, AdapterConfig):
        paths += [key for shapes in _kind_shapes(config, model) for key in shapes]
    # PEFT drops every weight below a part of a path that is called like another adapter
    if name in {"talim_blocks", "base_layer", "module"}.union(*(path.split(".") for path in paths)):
        raise UsageError(f"adapter name {name!r} is part of a path inside the model; choose another name")


def _kind_shapes(config: AdapterConfig, model: nn.Module) -> list[dict[str, tuple[int, ...]]]:
    """The weights of one block of each kind."""
    by_kind = {block["kind"]: block for block in config.blocks if block["kind"] != FULL}
    return [config.shapes(block, model) for block in by_kind.values()]


@contextmanager
def disabled(model: PeftModel) -> Iterator[None]:
    """The plain base for a while; what is trainable stays as it is."""
    flags = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        with model.disable_adapter():
            yield
    finally:
        for weight, flag in flags:  # PEFT turns all gradients on when it comes back
            weight.requires_grad_(flag)


@contextmanager
def temporary_adapters(model: nn.Module) -> Iterator[None]:
    """A plain base for a while in which adapters may be put into it: afterwards none is left, and nothing of them."""
    if find_peft_model(model) is not None:
        raise UsageError("this model has adapters in it; only a plain one can be lent")
    modes = [(module, module.training) for module in model.modules()]
    flags = [(weight, weight.requires_grad) for weight in model.parameters()]
    named = set(model.__dict__)
    try:
        yield
    finally:
        wrapped = find_peft_model(model)
        if wrapped is not None:
            cast(Any, wrapped.base_model).unload()
        for name in set(model.__dict__) - named:
            delattr(model, name)
        for module, mode in modes:
            module.training = mode
        for weight, flag in flags:
            weight.requires_grad_(flag)
            weight.grad = None


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The weights that training changes."""
    return [weight for weight in model.parameters() if weight.requires_grad]
