"""Adapters on a model: place them by a design, switch them off, store them, and load them where they fit."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from talim import __version__
from talim.adapters import sizing
from talim.adapters.expression import Design, parse
from talim.adapters.method import AdapterConfig, AdapterLayer, report_unmatched
from talim.adapters.places import SiteLike, base_parameters, select, sites_of
from talim.errors import TalimError, UsageError
from talim.run import new_folder, write_json, write_text

DEFAULT_NAME = "adapter"
DROPOUT = 0.1
INFO_FILE = "talim.json"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
KEY_PREFIX = "base_model.model."  # PEFT's, before every module path


def adapter_config(
    model: Any, expression: str | Design, *, dropout: float = DROPOUT, seed: int = 0
) -> AdapterConfig:
    """The PEFT configuration of a design on a transformers MusicGen or a Backbone; UsageError if none."""
    design = parse(expression) if isinstance(expression, str) else expression
    return plan(design, sites_of(model), base_parameters(model), dropout=dropout, seed=seed)


def plan(
    design: Design,
    sites: Sequence[SiteLike],
    base: int,
    *,
    dropout: float = DROPOUT,
    seed: int = 0,
) -> AdapterConfig:
    """Widths for every site of a design, from shapes alone. `base`: parameters that a share is a share of."""
    blocks = []
    for part in design.parts:
        chosen = select(part.site, sites)
        widths = sizing.solve(part, chosen, base)
        for site, width in zip(chosen, widths, strict=True):
            blocks.append({"module": site.module, "kind": part.kind, "features": site.width, "width": width})
    return AdapterConfig(blocks=blocks, expression=str(design), dropout=dropout, seed=seed)


def attach(
    model: nn.Module,
    design: Design | str,
    sites: Sequence[SiteLike] | None = None,
    name: str = DEFAULT_NAME,
    seed: int = 0,
    *,
    dropout: float = DROPOUT,
) -> PeftModel:
    """Place a new, trainable adapter in a model (changed in place); a second one joins the first."""
    design = parse(design) if isinstance(design, str) else design
    plain = base_of(model)
    places = sites_of(plain) if sites is None else sites
    return place(model, plan(design, places, base_parameters(plain), dropout=dropout, seed=seed), name)


def place(model: nn.Module, config: AdapterConfig, name: str) -> PeftModel:
    """Put the blocks of a configuration into a model; it is the active adapter afterwards."""
    plain, wrapped = base_of(model), wrapper_of(model)
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
    wrapped.add_adapter(name, config)
    wrapped.set_adapter(name, inference_mode=config.inference_mode)
    return wrapped


def base_of(model: nn.Module) -> nn.Module:
    """The transformers model inside a PeftModel, or the model itself."""
    return cast(nn.Module, model.base_model.model) if isinstance(model, PeftModel) else model


def wrapper_of(model: nn.Module) -> PeftModel | None:
    """The PeftModel around a model that already has adapters in it; None for a plain model."""
    if isinstance(model, PeftModel):
        return model
    if not any(isinstance(module, AdapterLayer) for module in model.modules()):
        return None
    if "talim_wrapper" not in model.__dict__:
        raise UsageError("this model already has adapters in it; pass the PeftModel that get_peft_model gave")
    return model.__dict__["talim_wrapper"]


def check_name(name: str, model: nn.Module, config: AdapterConfig) -> None:
    """UsageError for an adapter name under which PEFT would lose or mix up weights."""
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_-]*", name) or hasattr(nn.ModuleDict(), name):
        raise UsageError(f"adapter name {name!r} will not do; use letters, digits, - and _, such as raga-1")
    paths = [path for path, _ in model.named_modules()]
    with torch.device("meta"):
        kinds = {block["kind"]: config.build(block) for block in config.blocks}
    paths += [path for kind in kinds.values() for path, _ in kind.named_modules()]
    # PEFT drops every weight below a part of a path that is called like another adapter
    if name in {"talim_blocks", "base_layer"}.union(*(path.split(".") for path in paths)):
        raise UsageError(f"adapter name {name!r} is part of a path inside the model; choose another name")


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


def trainable_parameters(model: nn.Module) -> list[nn.Parameter]:
    """The weights that training changes."""
    return [weight for weight in model.parameters() if weight.requires_grad]


def save(
    model: PeftModel,
    folder: Path | str,
    name: str = DEFAULT_NAME,
    *,
    base: dict[str, Any],
    card: str | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Store one adapter's weights, its PEFT configuration and what it belongs to; all files or none.

    `base` holds at least "name" and "fingerprint"; `card` becomes README.md; `facts` join talim.json.
    """
    config = model.peft_config[name]
    weights = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    values = config.to_dict() | {"base_model_name_or_path": base["name"], "inference_mode": True}
    info = {
        "format": 1,
        "talim": __version__,
        "base": dict(base),
        "expression": getattr(config, "expression", ""),
        "parameters": sum(weight.numel() for weight in weights.values()),
        **(facts or {}),
    }
    with new_folder(Path(folder)) as made:
        save_file(
            {k: v.detach().contiguous().cpu() for k, v in weights.items()},
            made / WEIGHTS_FILE,
            {"format": "pt"},
        )
        write_json(made / CONFIG_FILE, {key: _plain(value) for key, value in sorted(values.items())})
        write_json(made / INFO_FILE, info)
        if card is not None:
            write_text(made / CARD_FILE, card)


def read_info(folder: Path | str) -> dict[str, Any]:
    """What an adapter folder says of itself: base, expression, parameters ...; TalimError if it is none."""
    path = Path(folder) / INFO_FILE
    if not path.is_file():
        raise TalimError(
            f"{folder} is no adapter folder: it has no {INFO_FILE}; give RUN/adapter of a finished run"
        )
    info = _read_json(path)
    if not isinstance(info, dict) or not isinstance(info.get("base"), dict):
        raise TalimError(f"{path}: this is not what talim writes there; is the file damaged?")
    return info


def load(backbone: Any, folder: Path | str, name: str = DEFAULT_NAME, trainable: bool = False) -> PeftModel:
    """Put a stored adapter into a backbone's model; nothing is changed unless all of it fits.

    TalimError where the adapter was made for another base, or its weights and their places do not match.
    """
    folder = Path(folder)
    _check_base(read_info(folder)["base"], backbone, folder)
    config, weights = _read_config(folder), _read_weights(folder)
    _check_fit(config, weights, backbone.model, folder)
    config.inference_mode = not trainable
    config.base_model_name_or_path = None  # PEFT writes down what this base is called here
    wrapped = place(backbone.model, config, name)
    set_peft_model_state_dict(wrapped, weights, adapter_name=name)
    return wrapped


def _check_base(stored: dict[str, Any], backbone: Any, folder: Path) -> None:
    """The fingerprint decides; a name alone is believed only where no fingerprint was stored."""
    theirs, ours = stored.get("fingerprint"), backbone.fingerprint
    if theirs == ours or (theirs is None and stored.get("name") == backbone.name):
        return
    raise TalimError(
        f"{folder} was trained on base {stored.get('name')} (fingerprint {str(theirs)[:12]}), but this is "
        f"{backbone.name} (fingerprint {ours[:12]}); load it with --base {stored.get('name')}"
    )


def _read_config(folder: Path) -> AdapterConfig:
    values = _read_json(folder / CONFIG_FILE)
    try:
        config = AdapterConfig.from_peft_type(**values)
    except (TypeError, KeyError, ValueError) as error:
        raise TalimError(f"{folder / CONFIG_FILE} cannot be understood: {error}") from error
    if not isinstance(config, AdapterConfig):
        raise TalimError(f"{folder} holds a {values.get('peft_type')} adapter; expected one that talim made")
    return config


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_FILE
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise TalimError(f"{path} cannot be read ({error}); copy the adapter folder again") from error


def _check_fit(config: AdapterConfig, weights: dict[str, Any], model: nn.Module, folder: Path) -> None:
    """Compare names and shapes with what the configuration asks for, before the model is touched."""
    modules = {path for path, _ in base_of(model).named_modules()}
    expected: dict[str, tuple[int, ...]] = {}
    with torch.device("meta"):
        for path in dict.fromkeys(block["module"] for block in config.blocks):
            for index, block in enumerate(config.blocks_at(path)):
                for key, value in config.build(block).state_dict().items():
                    expected[f"{KEY_PREFIX}{path}.talim_blocks.{index}.{key}"] = tuple(value.shape)
            if path not in modules:
                raise TalimError(
                    f"{folder} has an adapter at {path}, which this model lacks; is it another base?"
                )
    report_unmatched(expected.keys() - weights.keys(), weights.keys() - expected.keys())
    for key, shape in expected.items():
        if tuple(weights[key].shape) != shape:
            raise TalimError(f"{folder}: {key} has shape {tuple(weights[key].shape)}, expected {shape}")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TalimError(f"{path} cannot be read ({error}); copy the adapter folder again") from error


def _plain(value: Any) -> Any:
    """A value as JSON has it."""
    return sorted(value) if isinstance(value, set) else value
