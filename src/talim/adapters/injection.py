"""Adds adapters to a model by a design; selects, scales, combines and disables them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import torch
from peft import PeftModel, get_peft_model
from peft.config import PeftConfig
from peft.tuners.ia3.layer import IA3Layer
from peft.tuners.lora.layer import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils.other import AuxiliaryTrainingWrapper
from torch import nn

from talim.adapters import base_biases, peft_baselines
from talim.adapters.config import FULL, AdapterConfig
from talim.adapters.full_finetune import FullFineTuneLayer
from talim.adapters.layer import AdapterLayer
from talim.design import budget
from talim.design.adapter_kinds import KINDS
from talim.design.expression import Design
from talim.design.musicgen_sites import Site
from talim.design.site_selection import base_parameters, model_sites, select_sites
from talim.errors import UsageError

DEFAULT_NAME = "adapter"
DROPOUT = 0.1
MAX_ADAPTER_SCALE = 1.5


def adapter_config(
    model: Any,
    design: Design | str,
    *,
    dropout: float = DROPOUT,
    seed: int = 0,
    kind_options: dict[str, dict[str, Any]] | None = None,
) -> PeftConfig:
    """The PEFT configuration of a design for a transformers MusicGen or a Backbone; UsageError if it does not fit.

    An `AdapterConfig`, or PEFT's own configuration for lora, dora and ia3. `kind_options` by kind, such as
    {"conv": {"kernel_size": 7}} or {"lora": {"alpha_per_rank": 1}}; `seed` determines the initial weights.
    """
    sites, count = model_sites(model), base_parameters(model)
    return peft_config_for(Design.parse(design), sites, count, dropout, seed, kind_options)


def peft_config_for(
    design: Design,
    sites: Sequence[Site],
    num_base_parameters: int,
    dropout: float,
    seed: int,
    kind_options: dict[str, dict[str, Any]] | None,
) -> PeftConfig:
    """As `adapter_config`, from sites and the number of parameters that percentages refer to."""
    kind_options = kind_options or {}
    with_options = {part.kind for part in design.parts if part.kind in KINDS or part.kind in peft_baselines.LORA_KINDS}
    if unused := sorted(set(kind_options) - with_options):
        raise UsageError(f"kind_options.{unused[0]}: {design} has no adapter of that kind with options")
    if design.peft_kind is not None:
        part = design.parts[0]
        part_sites, options = select_sites(part.site, sites), kind_options.get(part.kind, {})
        peft_baselines.check_options(part.kind, options)
        config = peft_baselines.peft_part_config(part, part_sites, num_base_parameters, dropout, options)
        config.__dict__["design"] = str(design)  # PEFT's own have no field for it; `save` stores it
        return config
    blocks: list[dict[str, Any]] = []
    for part in sorted(design.parts, key=lambda part: part.site == "post"):  # post comes after others on its module
        part_sites, options = select_sites(part.site, sites), kind_options.get(part.kind, {})
        if part.kind == FULL:
            modules = [module for site in part_sites for module in site.full_modules]
            blocks += [{"module": path, "kind": FULL, "parameters": count} for path, count in modules]
            continue
        widths = budget.solve_width(part, part_sites, num_base_parameters, options)
        for site, width in zip(part_sites, widths, strict=True):
            row = {"module": site.module, "kind": part.kind, "features": site.width, "width": width}
            blocks.append(row | {"causal": site.causal, "layout": site.layout, "kind_options": options})
    full_paths = [block["module"] for block in blocks if block["kind"] == FULL]
    if repeated := sorted({path for path in full_paths if full_paths.count(path) > 1}):
        raise UsageError(f"{design}: full trains {repeated[0]} twice; name each site once")
    return AdapterConfig(blocks=blocks, design=str(design), dropout=dropout, seed=seed)


def attach(
    model: nn.Module,
    design: Design | str,
    sites: Sequence[Site] | None = None,
    name: str = DEFAULT_NAME,
    seed: int = 0,
    *,
    dropout: float = DROPOUT,
    kind_options: dict[str, dict[str, Any]] | None = None,
) -> PeftModel:
    """Add a new trainable adapter to a model in place; a second one joins the first. `sites`: default, the model's."""
    plain = unwrap_peft(model)
    sites = model_sites(plain) if sites is None else sites
    config = peft_config_for(Design.parse(design), sites, base_parameters(plain), dropout, seed, kind_options)
    with torch.random.fork_rng():  # PEFT's own methods draw from the global state
        torch.manual_seed(seed)
        return inject_adapters(model, config, name)


def inject_adapters(model: nn.Module, config: PeftConfig, name: str) -> PeftModel:
    """Add the adapter of a configuration to a model in place; it becomes the active adapter."""
    plain, wrapper = unwrap_peft(model), find_peft_model(model)
    if wrapper is not None and name in wrapper.peft_config:
        raise UsageError(f"an adapter called {name!r} is already in this model; choose another name")
    check_name(name, plain, config)
    if wrapper is not None:
        _check_same_method(wrapper, config)
    base_biases.before_adding(plain, config, name)
    if wrapper is None:
        with warnings.catch_warnings():
            # PEFT 0.21 asks transformers 5.23 for a property by its old name
            warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing", category=FutureWarning)
            try:
                wrapper = cast(PeftModel, get_peft_model(plain, config, adapter_name=name))  # type: ignore[arg-type]
            except NotImplementedError as error:  # a model without memory, and a method that looks at values
                method = peft_baselines.peft_type_name(config)
                raise UsageError(
                    f"what {method} needs cannot be predicted, as PEFT reads values of the base while it adds it; "
                    "measure it in a short training"
                ) from error
        plain.__dict__["talim_wrapper"] = wrapper  # not as a child module, which would be a cycle
        return wrapper
    wrapper.add_adapter(name, config)
    wrapper.set_adapter(name, inference_mode=config.inference_mode)
    return wrapper


def _check_same_method(wrapper: PeftModel, config: PeftConfig) -> None:
    existing = next(iter(wrapper.peft_config.values()))
    if existing.peft_type != config.peft_type:
        new_type, old_type = map(peft_baselines.peft_type_name, (config, existing))
        raise UsageError(
            f"a {new_type} adapter cannot join a {old_type} adapter: PEFT holds one method per model; load them one "
            "at a time"
        )


def set_adapter_scales(model: PeftModel, scales: dict[str, float]) -> None:
    """Activate exactly these adapters, each with a scale of 0 (off) to 1.5 (1: as trained); empty: the plain base.

    UsageError for an unknown name, a scale out of range, or an adapter that can only be as trained or off: methods that
    are not added to the base (dora, ia3), and adapters with modules of the base that were trained whole.
    """
    for name, scale in scales.items():
        if name not in model.peft_config:
            raise UsageError(f"no adapter called {name!r} here; there are {', '.join(model.peft_config)}")
        if not 0 <= scale <= MAX_ADAPTER_SCALE:
            raise UsageError(
                f"scale {scale} of {name} is out of range; 0 is off, 1 as trained, at most {MAX_ADAPTER_SCALE}"
            )
    active = {name: scale for name, scale in scales.items() if scale}
    _check_whole_modules(model, active)
    _check_biases(model, active)
    if (kept := base_biases.kept_biases(unwrap_peft(model))) is not None:
        kept.switch(next((name for name in active if name in kept.of_adapter), None))
    tuner: Any = model.base_model  # PeftModel's own set_adapter takes one name only
    if not active:
        with _without_bias_warning():
            tuner.disable_adapter_layers()
        return
    tuner.enable_adapter_layers()
    with _keep_requires_grad(model):  # PEFT enables the gradients of the adapters that it activates
        tuner.set_adapter(list(active))
    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            for name, scale in active.items():
                _set_scale(layer, name, scale, peft_baselines.peft_type_name(model.peft_config[name]))


def _check_whole_modules(model: nn.Module, scales: dict[str, float]) -> None:
    """UsageError where a module of the base that an adapter trained whole would have to be scaled or added to."""
    for path, module in model.named_modules():
        if not isinstance(module, AuxiliaryTrainingWrapper):
            continue
        holders = [name for name in scales if name in module._adapters]
        where = path.removeprefix("base_model.model.")
        if len(holders) > 1:
            raise UsageError(f"{' and '.join(holders)} each bring their own {where}; use one of them at a time")
        if holders and scales[holders[0]] != 1:
            raise UsageError(
                f"{holders[0]} brings its own {where} (modules_to_save), which cannot be scaled by "
                f"{scales[holders[0]]:g}; give 1, or 0 for the base alone"
            )


def _check_biases(model: PeftModel, scales: dict[str, float]) -> None:
    """UsageError where an adapter that is switched off has overwritten biases of the base that were not kept."""
    kept = base_biases.kept_biases(unwrap_peft(model))
    for name, config in model.peft_config.items():
        if base_biases.changes_biases(config) and kept is None and name not in scales:
            raise UsageError(
                f"{name} changed biases of the base itself (bias={config.bias!r} in its configuration) before talim "  # type: ignore[attr-defined]
                "knew it, so that it cannot be switched off; load the base again for comparisons"
            )
    if kept is not None:
        kept.check_scales(scales)


@contextmanager
def _without_bias_warning() -> Iterator[None]:
    """PEFT warns that biases stay changed, which they do not here."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Careful, disabling adapter layers with bias configured")
        yield


def cast_adapters(model: PeftModel, dtype: torch.dtype) -> None:
    """Cast adapter weights to the base's dtype for faster decoding; `full` stays float32. Not for training.

    Methods of PEFT besides lora, dora and ia3 stay float32, too: some invert matrices, which torch cannot in bf16.
    """
    for layer in model.modules():
        if not isinstance(layer, AdapterLayer | LoraLayer | IA3Layer):
            continue
        for attribute in layer.adapter_layer_names:
            for name, adapter in getattr(layer, attribute).items():
                if isinstance(adapter, nn.Parameter):
                    getattr(layer, attribute)[name] = nn.Parameter(adapter.data.to(dtype), adapter.requires_grad)
                    continue
                for block in adapter if isinstance(adapter, nn.ModuleList) else [adapter]:
                    if not isinstance(block, FullFineTuneLayer):
                        block.to(dtype)


def set_mixed_precision(model: nn.Module, on: bool = True) -> None:
    """Train talim's kinds with matrix products in the dtype of a bf16 base (autocast), weights in float32.

    About twice as fast on a CPU with bf16 instructions. `full` and PEFT's own methods are not changed.
    """
    for layer in model.modules():
        if isinstance(layer, AdapterLayer):
            layer.mixed_precision = on


def _set_scale(layer: Any, name: str, scale: float, method: str) -> None:
    if isinstance(layer, AdapterLayer):
        if name in layer.scales:
            layer.scales[name] = scale
    elif _can_be_scaled(layer, name):
        layer.set_scale(name, scale)
    elif scale != 1 and name in layer._get_available_adapters():
        # DoRA renormalises, IA3 multiplies, others turn: nothing that can be interpolated linearly
        raise UsageError(f"a {method} adapter supports no scale but 1, as trained, and 0, the base alone")


def _can_be_scaled(layer: Any, name: str) -> bool:
    has_scaling = hasattr(layer, "set_scale") and name in getattr(layer, "scaling", ())
    return has_scaling and not getattr(layer, "use_dora", {}).get(name)


def unwrap_peft(model: nn.Module) -> nn.Module:
    """The transformers model inside a PeftModel, or the model itself."""
    return cast(nn.Module, model.base_model.model) if isinstance(model, PeftModel) else model


def find_peft_model(model: nn.Module) -> PeftModel | None:
    """The PeftModel around a model with adapters; None for a plain model."""
    if isinstance(model, PeftModel):
        return model
    if not any(isinstance(module, BaseTunerLayer) for module in model.modules()):
        return None
    if "talim_wrapper" not in model.__dict__:
        raise UsageError("this model already has adapters; pass the PeftModel that get_peft_model returned")
    return model.__dict__["talim_wrapper"]


def check_name(name: str, model: nn.Module, config: PeftConfig) -> None:
    """UsageError for an adapter name under which PEFT would lose or mix up weights."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or hasattr(nn.ModuleDict(), name):
        raise UsageError(f"adapter name {name!r} is not allowed; use letters, digits, - and _, such as raga-1")
    paths = [path for path, _ in model.named_modules()]
    if isinstance(config, AdapterConfig):
        one_of_each_kind = {block["kind"]: block for block in config.blocks if block["kind"] != FULL}
        paths += [key for block in one_of_each_kind.values() for key in config.shapes(block, model)]
    # PEFT drops every weight below a part of a path that is called like another adapter
    if name in {"talim_blocks", "base_layer", "module"}.union(*(path.split(".") for path in paths)):
        raise UsageError(f"adapter name {name!r} is part of a path inside the model; choose another name")


@contextmanager
def _keep_requires_grad(model: nn.Module) -> Iterator[None]:
    flags = [(weight, weight.requires_grad) for weight in model.parameters()]
    try:
        yield
    finally:
        for weight, flag in flags:
            weight.requires_grad_(flag)


@contextmanager
def disabled(model: PeftModel) -> Iterator[None]:
    """Context in which the model is the plain base; requires_grad flags are kept."""
    _check_biases(model, {})
    kept = base_biases.kept_biases(unwrap_peft(model))
    # PEFT enables all gradients when it returns
    with (
        kept.switched(None) if kept else nullcontext(),
        _keep_requires_grad(model),
        _without_bias_warning(),
        model.disable_adapter(),
    ):
        yield


@contextmanager
def temporary_adapters(model: nn.Module) -> Iterator[None]:
    """Context in which adapters may be added to a plain base; afterwards it is as it was before."""
    if find_peft_model(model) is not None:
        raise UsageError("this model already has adapters; temporary ones need a plain base")
    modes = [(module, module.training) for module in model.modules()]
    weights = list(model.parameters())
    attributes = set(model.__dict__)
    with _keep_requires_grad(model):
        try:
            yield
        finally:
            wrapper = find_peft_model(model)
            if (kept := base_biases.kept_biases(model)) is not None:
                kept.switch(None)
            if wrapper is not None:
                cast(Any, wrapper.base_model).unload()
            for name in set(model.__dict__) - attributes:
                delattr(model, name)
            for module, mode in modes:
                module.training = mode
            for weight in weights:
                weight.grad = None


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The weights with requires_grad."""
    return [weight for weight in model.parameters() if weight.requires_grad]
