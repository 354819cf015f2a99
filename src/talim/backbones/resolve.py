"""Resolves a base model's name to files: shipped with talim, a local folder, or a Hugging Face Hub id."""

from __future__ import annotations

import os
import re
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from talim.atomic_io import parse_json
from talim.backbones import registry
from talim.errors import TalimError
from talim.out_of_memory import memory_that_ran_out
from talim.strict_yaml import shown_value

NANO_FOLDER = Path(__file__).parent / "nano" / "weights"  # one folder per model
NANO_MUSTANGO = "talim-nano-mustango"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}", re.ASCII)
CONFIG, MUSTANGO_CONFIG = "config.json", registry.UNET_CONFIG


@dataclass(frozen=True)
class ModelSource:
    """Location of a base model's files: a folder (`local`) or a Hub id; and its public name."""

    path_or_id: str
    name: str
    local: bool
    entry: registry.ModelEntry | None


def is_nano_mustango(source: ModelSource) -> bool:
    """Whether a folder holds a nano-mustango."""
    try:
        config = parse_json((Path(source.path_or_id) / CONFIG).read_text(encoding="utf-8"))
    except (OSError, ValueError):  # reported when the model is loaded
        return False
    return isinstance(config, dict) and config.get("model_type") == NANO_MUSTANGO


def family_by_name(name: str) -> str:
    """Family of a base by its name, without loading it; raises TalimError as `load` does."""
    return source_family(check_base(name))


def check_base(name: str) -> ModelSource:
    """The files of a base that can be loaded here, as far as is known without loading it; imports no torch.

    TalimError for a name that is unknown here and on the Hub, and for a model that is not on this machine while the
    Hub cannot be reached.
    """
    source = resolve_source(name)
    check_reachable(source)
    source_family(source)  # reads the configuration of a model that is not registered
    return source


def source_family(source: ModelSource) -> str:
    """ "mustango" or "musicgen", from the registry or from the files."""
    if source.entry is not None:
        return source.entry.family
    if source.local:
        is_mustango = (Path(source.path_or_id) / "ldm").is_dir() or is_nano_mustango(source)
        return "mustango" if is_mustango else "musicgen"
    with friendly_load_errors(source):
        from huggingface_hub import hf_hub_download

        config = parse_json(Path(hf_hub_download(source.path_or_id, "config.json")).read_text(encoding="utf-8"))
    return "mustango" if "unet_model_config_path" in config else "musicgen"


def resolve_source(name: str) -> ModelSource:
    """Files of a name; TalimError with similar names if there are none."""
    entry = registry.find_model(name)
    if entry is not None and entry.unsupported_reason:
        raise TalimError(f"base {name!r} is not supported: {entry.unsupported_reason}")
    if entry is not None and not entry.hub_id:
        folder = NANO_FOLDER / entry.name
        if not (folder / "config.json").is_file():
            raise TalimError(f"{name} is missing from this installation ({folder}); install talim again")
        return ModelSource(str(folder), entry.name, True, entry)
    if not name.strip() or "\0" in name or any(len(part.encode("utf-8", "replace")) > 255 for part in name.split("/")):
        raise TalimError(f"base {shown_value(name)} is no name of a model; {_load_advice('')}")
    folder = _expanded(name)
    if entry is None and ((folder / "config.json").is_file() or (folder / "ldm").is_dir()):
        return ModelSource(str(folder), folder.resolve().name or str(folder), True, None)
    if folder.is_dir() and entry is None:
        raise TalimError(f"base {name!r} is a folder without config.json; expected a MusicGen or Mustango checkpoint")
    if entry is not None:
        return ModelSource(entry.hub_id, entry.hub_id, False, entry)
    if HUB_ID.fullmatch(name) and "--" not in name and ".." not in name:
        return ModelSource(name, name, False, None)
    raise TalimError(f"base {name!r} is no known model and no folder; {_load_advice(name)}")


def _expanded(name: str) -> Path:
    """The path of a name; ~ stays as it is where there is no home directory."""
    try:
        return Path(name).expanduser()
    except RuntimeError:
        return Path(name)


def source_licence(source: ModelSource) -> str:
    """Licence from the registry, or from a local folder's model card, or "unknown"."""
    if source.entry is not None:
        return source.entry.licence
    try:
        lines = (Path(source.path_or_id) / "README.md").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return "unknown"
    for line in lines[1:60] if lines and lines[0].strip() == "---" else []:
        key, _, value = line.partition(":")
        if key.strip() in {"license", "licence"} and value.strip():
            return value.strip().strip("'\"")
        if line.strip() == "---":
            break
    return "unknown"


@contextmanager
def friendly_load_errors(source: ModelSource) -> Iterator[None]:
    """Turn any error of a library while loading a model into a one-line TalimError with advice."""
    try:
        yield
    except TalimError:
        raise
    except Exception as error:
        if memory_that_ran_out(error):
            raise
        cause = " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
        if source.local:
            raise TalimError(f"base {source.name!r} at {source.path_or_id} cannot be read: {cause}") from error
        if type(error).__name__ in ("RepositoryNotFoundError", "GatedRepoError", "EntryNotFoundError"):
            cause = f"the Hub has no such model, or not for everybody: {cause}"
        raise TalimError(
            f"base {source.name!r} could not be fetched from the Hugging Face Hub ({cause}); "
            f"{_load_advice(source.name)}"
        ) from error


def check_reachable(source: ModelSource) -> None:
    """TalimError if a Hub model is neither cached nor reachable, before any long retries."""
    if not source.local and (reason := offline_reason(source.path_or_id)):
        folder = source.path_or_id.rsplit("/", 1)[-1]
        entry, similar = source.entry, registry.closest_names(source.name)
        hint = f"did you mean {' or '.join(similar)}? " if similar and entry is None else ""
        raise TalimError(
            f"base {source.name!r} is not on this machine, and {reason}; {hint}connect and run this again; or fetch it "
            f"on another machine with: hf download {source.path_or_id} --local-dir {folder}, copy that folder here "
            f"and give --base {folder}; or use {registry.NANO}, which ships with talim"
        )


def offline_reason(hub_id: str) -> str:
    """Why a model that is not cached cannot be fetched from the Hub; empty if it is cached or may be fetched."""
    if is_cached(hub_id):
        return ""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set, so that nothing is fetched"
    host = offline_error(hub_id)
    return f"{host} cannot be reached" if host else ""


def offline_error(hub_id: str) -> str:
    """The Hub host if a model is not cached and the host cannot be reached; else an empty string."""
    if is_cached(hub_id) or urllib.request.getproxies():
        return ""
    from huggingface_hub import constants

    address = urllib.parse.urlparse(os.environ.get("HF_ENDPOINT", constants.ENDPOINT))
    host = address.hostname or ""
    try:
        with socket.create_connection((host, address.port or (80 if address.scheme == "http" else 443)), timeout=5):
            return ""
    except (OSError, ValueError):
        return host


def is_cached(hub_id: str) -> bool:
    """Whether a Hub model is in the local cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        return any(isinstance(try_to_load_from_cache(hub_id, name), str) for name in (CONFIG, MUSTANGO_CONFIG))
    except HFValidationError:
        return False


def _load_advice(name: str) -> str:
    entry, similar = registry.find_model(name), registry.closest_names(name)
    hint = f"did you mean {' or '.join(similar)}? " if similar and entry is None else ""
    hub_id = entry.hub_id if entry is not None and entry.hub_id else "facebook/musicgen-small"
    return (
        f"{hint}use nano-musicgen (ships with talim), a Hub id such as {hub_id}, "
        f"or a folder made with: hf download {hub_id} --local-dir {hub_id.rsplit('/', 1)[-1]}"
    )
