"""Which files a base model's name means: one that ships, a folder, or an id of the Hugging Face Hub."""

from __future__ import annotations

import json
import os
import socket
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from talim.backbones import registry
from talim.errors import TalimError

NANO_FOLDER = Path(__file__).parent / "nano" / "weights"  # one folder for each of the family
NANO_MUSTANGO = "talim-nano-mustango"


@dataclass(frozen=True)
class ModelSource:
    """Where a base model's files are: a folder (`local`) or a Hub id, and what it is called in public."""

    place: str
    name: str
    local: bool
    known: registry.ModelEntry | None


def is_nano_mustango(source: ModelSource) -> bool:
    """Whether a folder holds a nano-mustango."""
    try:
        config = json.loads((Path(source.place) / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):  # whoever reads it in earnest says what is wrong
        return False
    return isinstance(config, dict) and config.get("model_type") == NANO_MUSTANGO


def family_by_name(name: str) -> str:
    """The family of a base by its name, before it is loaded; TalimError as `load` has it."""
    source = resolve_source(name)
    check_reachable(source)
    return source_family(source)


def source_family(source: ModelSource) -> str:
    """ "mustango" or "musicgen", by what is known of the name or by what lies in the folder."""
    if source.known is not None:
        return source.known.family
    if source.local:
        is_mustango = (Path(source.place) / "ldm").is_dir() or is_nano_mustango(source)
        return "mustango" if is_mustango else "musicgen"
    with friendly_load_errors(source):
        from huggingface_hub import hf_hub_download

        config = json.loads(Path(hf_hub_download(source.place, "config.json")).read_text(encoding="utf-8"))
    return "mustango" if "unet_model_config_path" in config else "musicgen"


def resolve_source(name: str) -> ModelSource:
    """Which files a name means; TalimError, with names that are near, where it means none."""
    known = registry.find_model(name)
    if known is not None and known.unsupported_reason:
        raise TalimError(f"base {name!r} is not supported: {known.unsupported_reason}")
    if known is not None and not known.hub:
        folder = NANO_FOLDER / known.name
        if not (folder / "config.json").is_file():
            raise TalimError(f"{name} is missing from this installation ({folder}); install talim again")
        return ModelSource(str(folder), known.name, True, known)
    folder = Path(name).expanduser()
    if known is None and ((folder / "config.json").is_file() or (folder / "ldm").is_dir()):
        return ModelSource(str(folder), folder.resolve().name, True, None)
    if folder.is_dir() and known is None:
        raise TalimError(
            f"base {name!r} is a folder without config.json; expected a MusicGen or Mustango checkpoint"
        )
    if known is not None:
        return ModelSource(known.hub, known.hub, False, known)
    if name.count("/") == 1 and not name.startswith((".", "/", "~")):
        return ModelSource(name, name, False, None)
    raise TalimError(f"base {name!r} is no known model and no folder; {_load_advice(name)}")


def source_licence(source: ModelSource) -> str:
    """The licence of a known model, or what a local folder's model card states, or "unknown"."""
    if source.known is not None:
        return source.known.licence
    try:
        lines = (Path(source.place) / "README.md").read_text(encoding="utf-8").splitlines()
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
    """Turn whatever a library throws while reading a model into one line that says what to type."""
    try:
        yield
    except TalimError:
        raise
    except Exception as error:
        cause = " ".join(str(error).split()).split(". ")[0][:200] or type(error).__name__
        if source.local:
            raise TalimError(f"base {source.name!r} at {source.place} cannot be read: {cause}") from error
        raise TalimError(
            f"base {source.name!r} could not be fetched from the Hugging Face Hub ({cause}); "
            f"{_load_advice(source.name)}"
        ) from error


def check_reachable(source: ModelSource) -> None:
    """TalimError at once, not after half a minute of retries, where a Hub model cannot be had."""
    if not source.local and (host := offline_error(source.place)):
        raise TalimError(
            f"base {source.name!r} is not on this machine, and {host} cannot be reached; "
            f"{_load_advice(source.name)}"
        )


def offline_error(hub_id: str) -> str:
    """The host that has to be asked for a model, as it is not on this machine, and is silent; else empty."""
    if is_cached(hub_id) or urllib.request.getproxies():
        return ""
    from huggingface_hub import constants

    host = urllib.parse.urlparse(os.environ.get("HF_ENDPOINT", constants.ENDPOINT)).hostname or ""
    try:
        with socket.create_connection((host, 443), timeout=5):
            return ""
    except OSError:
        return host


def is_cached(hub_id: str) -> bool:
    """Whether an earlier download of a Hub model is on this machine."""
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(hub_id, "config.json"), str)


def _load_advice(name: str) -> str:
    near = registry.closest_names(name)
    hint = f"did you mean {' or '.join(near)}? " if near and registry.find_model(name) is None else ""
    known = registry.find_model(name)
    hub = known.hub if known is not None and known.hub else "facebook/musicgen-small"
    return (
        f"{hint}use nano-musicgen (ships with talim), a Hub id such as {hub}, "
        f"or a folder made with: hf download {hub} --local-dir {hub.rsplit('/', 1)[-1]}"
    )
