"""Saves and loads adapter folders: written atomically, loaded only if everything fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model_state_dict, set_peft_model_state_dict
from peft.config import PeftConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from talim.adapters import peft_baselines
from talim.adapters.config import AdapterConfig
from talim.adapters.injection import DEFAULT_NAME, inject_adapters, unwrap_peft
from talim.adapters.peft_method import report_unmatched
from talim.atomic_io import new_folder, write_json, write_text
from talim.design.expression import PEFT_KINDS
from talim.errors import TalimError, UsageError
from talim.version import __version__

INFO_FILE = "talim.json"
CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
CARD_FILE = "README.md"
FORMAT = 2  # of talim.json
KEY_PREFIX = "base_model.model."  # PEFT's prefix of module paths


def save(
    model: PeftModel,
    folder: Path | str,
    name: str = DEFAULT_NAME,
    *,
    base: dict[str, Any],
    card: str | None = None,
    facts: dict[str, Any] | None = None,
) -> None:
    """Write one adapter: weights, PEFT configuration and talim.json; all files or none.

    `base` holds at least "name" and "fingerprint"; `card` becomes README.md; `facts` are added to talim.json.
    """
    config = model.peft_config[name]
    weights = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=False)
    values = config.to_dict() | {"base_model_name_or_path": base["name"], "inference_mode": True}
    info = {
        "format": FORMAT,
        "talim": __version__,
        "base": dict(base),
        "design": getattr(config, "design", ""),
        "parameters": sum(weight.numel() for weight in weights.values()),
        **(facts or {}),
    }
    with new_folder(Path(folder)) as partial:
        stored = {key: weight.detach().contiguous().cpu() for key, weight in weights.items()}
        save_file(stored, partial / WEIGHTS_FILE, {"format": "pt"})
        plain = {key: sorted(value) if isinstance(value, set) else value for key, value in sorted(values.items())}
        write_json(partial / CONFIG_FILE, plain)
        write_json(partial / INFO_FILE, info)
        if card is not None:
            write_text(partial / CARD_FILE, card)


def read_info(folder: Path | str) -> dict[str, Any]:
    """Contents of talim.json: base, design, parameters ...; TalimError if the folder holds no adapter.

    A folder written by plain PEFT gives less: its base may be None and has no fingerprint.
    """
    path = Path(folder) / INFO_FILE
    if not path.is_file():
        if (Path(folder) / CONFIG_FILE).is_file():
            return _read_peft_facts(Path(folder))
        raise TalimError(f"{folder} is no adapter folder: it has no {INFO_FILE}; give RUN/adapter of a finished run")
    info = _read_json(path)
    if not isinstance(info, dict) or not isinstance(info.get("base"), dict):
        raise TalimError(f"{path}: expected an object with a base; is the file damaged?")
    if info.get("format") != FORMAT:
        raise TalimError(f"{path} was written by another version of talim; train this adapter again")
    return info


def _read_peft_facts(folder: Path) -> dict[str, Any]:
    config, weights = read_config(folder), _read_weights(folder)
    return {
        "base": {"name": config.base_model_name_or_path or None, "fingerprint": None},
        "design": getattr(config, "design", "") or peft_baselines.peft_type_name(config),
        "parameters": sum(weight.numel() for weight in weights.values()),
    }


def load(backbone: Any, folder: Path | str, name: str = DEFAULT_NAME, trainable: bool = False) -> PeftModel:
    """Add a stored adapter to a backbone's model, which is unchanged if anything does not fit.

    TalimError if the adapter was trained on another base, or its weights do not match the model.
    """
    folder = Path(folder)
    info = read_info(folder)
    if (folder / INFO_FILE).is_file():  # a folder of plain PEFT can only be checked by shapes
        _check_base(info["base"], backbone, folder)
    config, weights = read_config(folder), _read_weights(folder)
    check_fit(config, weights, backbone.model, folder)
    config.__dict__["design"] = info["design"]
    config.inference_mode = not trainable
    config.base_model_name_or_path = None  # PEFT sets it to the name of this base
    model = inject_adapters(backbone.model, config, name)
    set_peft_model_state_dict(model, weights, adapter_name=name)
    return model


def _check_base(stored: dict[str, Any], backbone: Any, folder: Path) -> None:
    """Compare fingerprints; the name counts only if no fingerprint was stored."""
    trained_on, actual = stored.get("fingerprint"), backbone.fingerprint
    if trained_on == actual or (trained_on is None and stored.get("name") == backbone.name):
        return
    raise TalimError(
        f"{folder} was trained on base {stored.get('name')} (fingerprint {str(trained_on)[:12]}), but this is "
        f"{backbone.name} (fingerprint {actual[:12]}); load it with --base {stored.get('name')}"
    )


def read_config(folder: Path) -> PeftConfig:
    """The stored PEFT configuration; TalimError if talim does not support it."""
    values = _read_json(folder / CONFIG_FILE)
    try:
        config = PeftConfig.from_peft_type(**values)
    except UsageError:
        raise
    except (TypeError, KeyError, ValueError) as error:
        raise TalimError(f"{folder / CONFIG_FILE} is no valid PEFT configuration: {error}") from error
    if not isinstance(config, AdapterConfig) and peft_baselines.peft_type_name(config) not in PEFT_KINDS:
        raise TalimError(f"{folder} holds a {values.get('peft_type')} adapter; expected talim, lora, dora or ia3")
    return config


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = folder / WEIGHTS_FILE
    try:
        return load_file(path)
    except (OSError, SafetensorError) as error:
        raise TalimError(f"{path} cannot be read ({error}); copy the adapter folder again") from error


def check_fit(config: PeftConfig, weights: dict[str, Any], model: nn.Module, folder: Path) -> None:
    """TalimError if names or shapes of the weights differ from the configuration; the model is not changed."""
    plain = unwrap_peft(model)
    modules = {path for path, _ in plain.named_modules()}
    expected: dict[str, tuple[int, ...]] = {}
    if isinstance(config, AdapterConfig):
        for path in dict.fromkeys(block["module"] for block in config.blocks):
            if path not in modules:
                raise TalimError(f"{folder} has an adapter at {path}, which this model lacks; is it another base?")
            for index, block in enumerate(b for b in config.blocks if b["module"] == path):
                for key, shape in config.shapes(block, plain).items():
                    expected[f"{KEY_PREFIX}{path}.talim_blocks.{index}.{key}"] = shape
    else:
        for key, shape in peft_baselines.peft_weight_shapes(config, plain).items():
            expected[f"{KEY_PREFIX}{key}"] = shape
    report_unmatched(expected.keys() - weights.keys(), weights.keys() - expected.keys())
    for key, shape in expected.items():
        if tuple(weights[key].shape) != shape:
            raise TalimError(f"{folder}: {key} has shape {tuple(weights[key].shape)}, expected {shape}")


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise TalimError(f"{path} cannot be read ({error}); copy the adapter folder again") from error
