"""Saves and loads adapter folders: written atomically, loaded only if everything fits."""

from __future__ import annotations

import contextlib
import copy
import hashlib
import json
import re
import warnings
from pathlib import Path
from typing import Any

import torch
from peft import PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.config import PeftConfig
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from talim.adapters import peft_baselines, regex_time
from talim.adapters.base_biases import kept_biases
from talim.adapters.config import CONFIG_FILE, FULL, STORED_METHOD, AdapterConfig, stored_base_name
from talim.adapters.foreign_paths import KEY_PREFIX, as_named_here
from talim.adapters.injection import DEFAULT_NAME, inject_adapters, unwrap_peft
from talim.adapters.peft_method import report_unmatched
from talim.atomic_io import new_file, new_folder, write_json, write_text
from talim.design.expression import PEFT_KINDS, PEFT_PREFIX, STORED_SITE, Design
from talim.errors import TalimError, UsageError
from talim.html.formatting import format_counted
from talim.version import __version__

INFO_FILE = "talim.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_MAX_NAMED = 4  # adapters below a folder that is none itself
PICKLED_FILE = "adapter_model.bin"  # of PEFT before 0.7, read without running code in it
CARD_FILE = "README.md"
LICENCE_FILE = "LICENSE.md"  # the name that the Hub's license_link expects
FORMAT = 2  # of talim.json
TRANSLITERATED = "transliterated"  # whether captions were
UNTRAINED = "untrained"  # of an adapter that was stored as it was before its first step
# weights before an adapter's last product, which is zero until it is trained
_INNER = {"talim": re.compile(r"\.talim_blocks\.\d+\.(?!up\.)"), "lora": re.compile(r"\.lora_(embedding_)?A\b")}


def save(
    model: PeftModel,
    folder: Path | str,
    name: str = DEFAULT_NAME,
    *,
    base: dict[str, Any],
    card: str | None = None,
    licence: str | None = None,
    facts: dict[str, Any] | None = None,
    save_embedding_layers: bool = False,
) -> None:
    """Write one adapter: weights, PEFT configuration and talim.json with their checksums; all files or none.

    `base` holds at least "name" and "fingerprint", "local" if it is a folder of the user's, and "revision", the commit,
    if it is of the Hub. `card` becomes README.md, `licence` LICENSE.md; `facts` are added to talim.json.
    `save_embedding_layers`: also the base's embeddings, which is needed after `resize_token_embeddings`.
    """
    config, kept = model.peft_config[name], kept_biases(unwrap_peft(model))
    with kept.switched(name) if kept else contextlib.nullcontext():
        weights = get_peft_model_state_dict(model, adapter_name=name, save_embedding_layers=save_embedding_layers)
        stored = {key: weight.detach().clone().contiguous().cpu() for key, weight in weights.items()}
    values = config.to_dict() | {"base_model_name_or_path": _public_name(unwrap_peft(model), base)}
    values |= {"revision": base.get("revision")} if base.get("revision") else {}
    values |= {"inference_mode": True} | ({"peft_type": STORED_METHOD} if isinstance(config, AdapterConfig) else {})
    info = {
        "format": FORMAT,
        "talim": __version__,
        "base": dict(base),
        "design": getattr(config, "design", ""),
        "parameters": sum(weight.numel() for weight in weights.values()),
        **(facts or {}),
    }
    with new_folder(Path(folder)) as partial:
        with new_file(partial / WEIGHTS_FILE) as temporary:
            save_file(stored, temporary, {"format": "pt"})
        plain = {key: sorted(value) if isinstance(value, set) else value for key, value in sorted(values.items())}
        write_json(partial / CONFIG_FILE, plain)
        info["sha256"] = {file: _checksum(partial / file) for file in (WEIGHTS_FILE, CONFIG_FILE)}
        write_json(partial / INFO_FILE, info)
        if card is not None:
            write_text(partial / CARD_FILE, card)
        if licence is not None:
            write_text(partial / LICENCE_FILE, licence)


def _public_name(model: nn.Module, base: dict[str, Any]) -> str:
    """The base's name for PEFT; "./name" where it is a local folder, whose name may be another model's on the Hub."""
    loaded_from = model.__dict__.get("name_or_path") or ""
    is_local = base.get("local") or (stored_base_name(loaded_from) or "").startswith("./")
    return f"./{base['name']}" if is_local else base["name"]


def _checksum(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_info(folder: Path | str) -> dict[str, Any]:
    """Contents of talim.json: base, design, parameters ...; TalimError if the folder holds no adapter.

    A folder written by plain PEFT gives less: its base may be None and has no fingerprint.
    """
    path = Path(folder) / INFO_FILE
    if not path.is_file():
        if (Path(folder) / CONFIG_FILE).is_file():
            return _read_peft_facts(Path(folder))
        below = sorted(path.parent for part in ("*", "*/*") for path in Path(folder).glob(f"{part}/{CONFIG_FILE}"))
        found = ", ".join(map(str, below[:_MAX_NAMED])) + (" and more" if len(below) > _MAX_NAMED else "")
        advice = f"below it are {found}" if below else "give RUN/adapter of a finished run"
        raise TalimError(f"{folder} is no adapter folder: it has no {INFO_FILE}; {advice}")
    info = _read_json(path)
    if not isinstance(info, dict) or not isinstance(info.get("base"), dict):
        raise TalimError(f"{path}: expected an object with a base; is the file damaged?")
    if info.get("format") != FORMAT:
        raise TalimError(f"{path} was written by another version of talim; train this adapter again")
    wrong = [name for name, kind in {"design": str, "parameters": int}.items() if not isinstance(info.get(name), kind)]
    wrong += ["base.name"] * (not isinstance(info["base"].get("name"), str))
    if wrong:
        raise TalimError(f"{path}: {wrong[0]} is missing or of another type; copy the adapter folder again")
    return info


def _read_peft_facts(folder: Path) -> dict[str, Any]:
    config = read_config(folder)
    if weights_file(folder).name == PICKLED_FILE:
        parameters = sum(weight.numel() for weight in _read_weights(folder).values())
    else:
        with _open_weights(folder) as file:
            parameters = sum(torch.Size(file.get_slice(key).get_shape()).numel() for key in file.keys())  # noqa: SIM118
    base: dict[str, Any] = {"name": config.base_model_name_or_path or None, "fingerprint": None}
    if re.fullmatch("[0-9a-f]{40}", str(config.revision)):  # the base's commit
        base["revision"] = config.revision
    design = getattr(config, "design", "") or peft_baselines.peft_type_name(config)
    return {"base": base, "design": design, "parameters": parameters}


def changes_nothing(folder: Path) -> bool:
    """Whether a base with this adapter is the base alone: it was stored untrained, or whatever it adds is zero.

    Of methods whose weights do not show it, only the first is known.
    """
    if read_info(folder).get(UNTRAINED) is True:
        return True
    config = read_config(folder)
    inner = _INNER.get(peft_baselines.peft_type_name(config))
    if inner is None or any(block["kind"] == FULL for block in getattr(config, "blocks", ())):
        return False
    last = [weight for key, weight in _read_weights(folder).items() if not inner.search(key)]
    return bool(last) and not any(bool(weight.any()) for weight in last)


def unchanged_notes(folder: Path) -> list[str]:
    """A line about an adapter that changes nothing; none about others."""
    if not changes_nothing(folder):
        return []
    return [f"note: {folder} changes nothing: it is as it was before training, so its music is that of the base alone"]


def design_of(folder: Path) -> Design:
    """The design that a stored adapter was trained as; KIND@adapter where no expression says it."""
    config, text = read_config(folder), read_info(folder)["design"]
    try:
        return Design.parse(text)
    except UsageError:  # of plain PEFT, or of a configuration by hand
        pass
    if isinstance(config, AdapterConfig):
        kinds = list(dict.fromkeys(block["kind"] for block in config.blocks)) or [str(config.kind)]
    else:
        name = peft_baselines.peft_type_name(config)
        kinds = [name if name in PEFT_KINDS else PEFT_PREFIX + name]
    return Design.parse("+".join(f"{kind}@{STORED_SITE}" for kind in kinds))


def base_to_load(folder: Path) -> str:
    """The name by which an adapter's base is loaded; UsageError where it names none, or a folder that is not here."""
    base = read_info(folder)["base"]
    name = base["name"]
    if name is None:
        raise UsageError(f"{folder} does not say what it was trained on; add --base NAME")
    if not (base.get("local") or name.startswith(("/", ".", "~")) or name.count("/") > 1 or "\\" in name):
        return f"{name}@{base['revision']}" if base.get("revision") else name
    local, last = Path(name), name.replace("\\", "/").rstrip("/").rsplit("/", 1)[-1]
    if not local.is_dir():  # a model of that name on the Hub is another one
        raise UsageError(
            f"{folder} was trained on a base in a local folder called {last}, "
            "which is not here; add --base with the path of that folder, or the name of that model"
        )
    return str(local) if local.is_absolute() else f"./{local}"


def load(backbone: Any, folder: Path | str, name: str = DEFAULT_NAME, trainable: bool = False) -> PeftModel:
    """Add a stored adapter to a backbone's model, which is unchanged if anything does not fit.

    The backbone's `transliterate` becomes what the adapter was trained with; PEFT's own folders do not say it.
    TalimError if the adapter was trained on another base, its weights do not match the model, are damaged or are no
    finite numbers.
    """
    folder = Path(folder)
    config, weights, vocabularies = check_adapter(backbone, folder)
    info = read_info(folder)
    config.__dict__["design"] = info["design"]
    config.inference_mode = not trainable
    config.base_model_name_or_path = None  # PEFT sets it to the name of this base
    for path, rows in vocabularies.items():
        _resize_vocabulary(unwrap_peft(backbone.model), path, rows, folder)
    model = inject_adapters(backbone.model, config, name)
    set_peft_model_state_dict(model, weights, adapter_name=name)
    if (folder / INFO_FILE).is_file():
        backbone.transliterate = info.get(TRANSLITERATED) is True  # older adapters were trained on captions as written
    return model


def check_adapter(backbone: Any, folder: Path) -> tuple[PeftConfig, dict[str, torch.Tensor], dict[str, int]]:
    """Read an adapter that fits this backbone, which is not changed; TalimError as `load`.

    Returned are its configuration and weights, with the module paths of this base, and the result of `check_fit`.
    """
    info = read_info(folder)
    if (folder / INFO_FILE).is_file():  # a folder of plain PEFT can only be checked by shapes
        _check_base(info["base"], backbone, folder)
    config, weights = read_config(folder), _read_weights(folder)
    if not isinstance(config, AdapterConfig):
        paths = [path for path, _ in unwrap_peft(backbone.model).named_modules()]
        config, weights = as_named_here(config, weights, [path.replace(".base_layer", "") for path in paths], folder)
    vocabularies = check_fit(config, weights, backbone.model, folder)
    _check_content(folder, info, weights)
    return config, weights, vocabularies


def _check_content(folder: Path, info: dict[str, Any], weights: dict[str, torch.Tensor]) -> None:
    """TalimError if a file is not the one that was written, or a weight is no finite number."""
    check_files(folder, info)
    for key, weight in weights.items():
        if weight.is_floating_point() and not bool(weight.isfinite().all()):
            raise TalimError(f"{folder / WEIGHTS_FILE}: {key} holds NaN or infinity; this adapter cannot be used")


def check_files(folder: Path, info: dict[str, Any]) -> None:
    """TalimError if a file is not the one whose checksum `read_info` gives."""
    checksums = info.get("sha256") or {}
    for file, expected in checksums.items() if isinstance(checksums, dict) else ():
        if file in (WEIGHTS_FILE, CONFIG_FILE) and _checksum(folder / file) != expected:
            raise TalimError(
                f"{folder / file} was changed after it was written: its checksum is not that in {INFO_FILE}; copy the "
                f"adapter folder again (if you changed it on purpose, delete sha256 from {INFO_FILE})"
            )


def _check_base(stored: dict[str, Any], backbone: Any, folder: Path) -> None:
    """Compare fingerprints; the name counts only if no fingerprint was stored."""
    trained_on, actual = stored.get("fingerprint"), backbone.fingerprint
    if trained_on == actual or (trained_on is None and stored.get("name") == backbone.name):
        return
    name = "@".join(str(part) for part in (stored.get("name"), stored.get("revision")) if part)
    this = "@".join(filter(None, [backbone.name, backbone.revision]))
    raise TalimError(
        f"{folder} was trained on base {name} (fingerprint {str(trained_on)[:12]}), but this is "
        f"{this} (fingerprint {actual[:12]}); load it with --base {name}"
    )


def read_config(folder: Path) -> PeftConfig:
    """The stored PEFT configuration; TalimError if it is not valid or talim does not support it."""
    path = folder / CONFIG_FILE
    values = _read_json(path)
    if not isinstance(values, dict) or not isinstance(values.get("peft_type"), str):
        raise TalimError(f"{path}: expected an object with a peft_type; is it an adapter of PEFT?")
    try:
        config = PeftConfig.from_peft_type(**values)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error
    except KeyError as error:
        raise TalimError(f"{path}: {error!s:.80} is no PEFT method that is installed here") from error
    except Exception as error:  # PEFT's own classes raise anything for values of other types
        raise TalimError(f"{path} is no valid PEFT configuration: {str(error) or type(error).__name__:.200}") from error
    if not isinstance(config, AdapterConfig) and (reason := peft_baselines.unsuited(config)):
        raise TalimError(f"{folder} holds a {values.get('peft_type')} adapter, which talim cannot use: {reason}")
    if not isinstance(config.base_model_name_or_path, str | None):
        raise TalimError(f"{path}: base_model_name_or_path is no text")
    try:
        regex_time.expressions(config)
    except TalimError as error:
        raise TalimError(f"{path}: {error}") from error
    return config


def weights_file(folder: Path) -> Path:
    """The file with an adapter's weights: safetensors, else pickled where there is only that."""
    pickled = folder / PICKLED_FILE
    return pickled if pickled.is_file() and not (folder / WEIGHTS_FILE).is_file() else folder / WEIGHTS_FILE


def _read_weights(folder: Path) -> dict[str, torch.Tensor]:
    path = weights_file(folder)
    if path.name == PICKLED_FILE:
        return _read_pickled(path)
    try:
        return load_file(path)
    except (OSError, SafetensorError, ValueError) as error:
        raise TalimError(f"{path} cannot be read ({error}); copy the adapter folder again") from error


def _read_pickled(path: Path) -> dict[str, torch.Tensor]:
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises anything for bytes that are no pickle of its own
        raise TalimError(
            f"{path} cannot be read without running code in it ({str(error).split('.')[0]:.120})"
        ) from error
    named = isinstance(weights, dict) and all(isinstance(key, str) for key in weights)
    if not named or not all(isinstance(weight, torch.Tensor) for weight in weights.values()):
        raise TalimError(f"{path}: expected tensors by name, as PEFT's save_pretrained writes them")
    return weights


def _open_weights(folder: Path) -> Any:
    path = folder / WEIGHTS_FILE
    try:
        return safe_open(path, framework="pt")
    except (OSError, SafetensorError, ValueError) as error:
        raise TalimError(f"{path} cannot be read ({error}); copy the adapter folder again") from error


def check_fit(config: PeftConfig, weights: dict[str, Any], model: nn.Module, folder: Path) -> dict[str, int]:
    """TalimError if names or shapes of the weights differ from the configuration; the model is not changed.

    Returned is the number of rows of every embedding of the base that the adapter brings in another size, by path.
    """
    plain = unwrap_peft(model)
    modules = [path for path, _ in plain.named_modules()]
    if isinstance(config, AdapterConfig):
        for block in config.blocks:
            if block["module"] not in modules:
                where = f"{folder} has an adapter at {block['module']}"
                raise TalimError(f"{where}, which this model lacks; is it another base?")
    regex_time.check_time(regex_time.expressions(config), modules)
    expected = _expected_shapes(config, plain, folder)
    embeddings, vocabularies = _embedding_weights(plain), {}
    for key in weights.keys() - expected.keys():
        path = key.removeprefix(KEY_PREFIX).replace(".base_layer.", ".")
        if path in embeddings:  # stored with save_embedding_layers
            rows = weights[key].shape[0]
            expected[key] = (rows, *embeddings[path][1:])
            if rows != embeddings[path][0]:
                vocabularies[path.rpartition(".")[0]] = rows
    report_unmatched(expected.keys() - weights.keys(), weights.keys() - expected.keys())
    for key, shape in expected.items():
        if tuple(weights[key].shape) != shape:
            raise TalimError(f"{folder}: {key} has shape {tuple(weights[key].shape)}, expected {shape}")
    return vocabularies


def _expected_shapes(config: PeftConfig, plain: nn.Module, folder: Path) -> dict[str, tuple[int, ...]]:
    """Names and shapes of an adapter's weights: PEFT itself adds it to a copy of the model that has no memory."""
    config = copy.deepcopy(config)
    if getattr(config, "init_lora_weights", None):
        config.init_lora_weights = False  # type: ignore[attr-defined]  # some ways to draw them need the base's values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come again when the adapter is loaded
        try:
            try:
                adapted = get_peft_model(_without_memory(plain), config, "checked", low_cpu_mem_usage=True)  # type: ignore[arg-type]
            except NotImplementedError:  # shira draws places by values
                adapted = get_peft_model(_without_memory(plain, "cpu"), config, "checked")  # type: ignore[arg-type]
            weights = get_peft_model_state_dict(adapted, adapter_name="checked", save_embedding_layers=False)
        except TalimError:
            raise
        except Exception as error:  # whatever PEFT meets in a configuration of others
            cause = " ".join(str(error).split()) or type(error).__name__
            raise TalimError(f"{folder}: its configuration does not fit this model: {cause:.300}") from error
    return {key: tuple(weight.shape) for key, weight in weights.items()}


def _without_memory(model: nn.Module, device: str = "meta") -> nn.Module:
    """A copy of a model on the meta device, or of its shapes on another one, without the adapters that it has."""
    empty_tensors: dict[int, Any] = {}
    for tensor in [*model.parameters(), *model.buffers()]:
        empty = torch.empty_like(tensor, device=device)
        is_weight = isinstance(tensor, nn.Parameter)
        empty_tensors[id(tensor)] = nn.Parameter(empty, requires_grad=False) if is_weight else empty
    replica = copy.deepcopy(model, empty_tensors)
    wrapper = replica.__dict__.pop("talim_wrapper", None)
    return replica if wrapper is None else wrapper.base_model.unload()


def _embedding_weights(model: nn.Module) -> dict[str, tuple[int, ...]]:
    """Shapes of the weights of input and output embeddings, by path."""
    shapes: dict[str, tuple[int, ...]] = {}
    parts: list[Any] = [part for part in model.modules() if hasattr(part, "get_output_embeddings")]
    outputs = [head for part in parts if (head := part.get_output_embeddings()) is not None]
    heads = {id(module) for head in outputs for module in head.modules()}  # MusicGen has one for each codebook
    for path, module in model.named_modules():
        if isinstance(module, nn.Embedding) or (isinstance(module, nn.Linear) and id(module) in heads):
            for name, weight in module.named_parameters(recurse=False):
                shapes[f"{path.replace('.base_layer', '')}.{name}"] = tuple(weight.shape)
    return shapes


def _resize_vocabulary(model: nn.Module, path: str, rows: int, folder: Path) -> None:
    """Give an embedding of the base as many rows as the adapter brings; TalimError where the model cannot."""
    before, parts = model.get_submodule(path), list[Any](model.modules())
    for part in parts:
        if _num_rows(model, path) == rows:  # the part holds both embeddings
            break
        if hasattr(part, "resize_token_embeddings") and any(module is before for module in part.modules()):
            try:
                part.resize_token_embeddings(rows, mean_resizing=False)
            except (NotImplementedError, AttributeError):
                continue  # a model of several parts; the part itself can
    if _num_rows(model, path) != rows:
        raise TalimError(f"{folder}: {path} has a vocabulary of {rows}, which this model cannot be given")
    warnings.warn(
        f"{folder} brings its own vocabulary: {path} of the base now has {format_counted(rows, 'row')}", stacklevel=3
    )


def _num_rows(model: nn.Module, path: str) -> int:
    return model.get_parameter(f"{path}.weight").shape[0]


def _read_json(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TalimError(f"{path} cannot be read ({error}); copy the adapter folder again") from error
