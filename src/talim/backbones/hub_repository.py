"""A model's repository: what it holds at a commit, asked of the Hub, or known from the cache of huggingface_hub."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from talim.backbones import hub_errors
from talim.backbones.card_licence import licence_of_fields
from talim.backbones.checkpoint_layout import (
    AUDIOCRAFT_FILES,
    CONFIG,
    PREDICTOR_WEIGHTS,
    explains,
    lacks_tokenizer,
    lacks_weights,
    needed_files,
)
from talim.backbones.registry import UNET_CONFIG
from talim.errors import TalimError

PROBE_SECONDS = 5.0  # to wait for the Hub where the files are here already
ANSWER_SECONDS = 30.0  # where nothing can be done without an answer
# one of them is in every checkpoint
MARKERS = (CONFIG, UNET_CONFIG, *AUDIOCRAFT_FILES)


@dataclass(frozen=True)
class RepositoryFile:
    """A file's size in bytes, and its SHA-256 if it lies in the large-file storage."""

    size: int
    sha256: str = ""


@dataclass(frozen=True)
class HubRepository:
    """A repository's files at one commit, the licence that its model card states, and whether it has conditions."""

    hub_id: str
    commit: str
    files: Mapping[str, RepositoryFile]
    licence: str = "unknown"
    gated: bool = False


def ask(hub_id: str, revision: str, name: str, seconds: float = ANSWER_SECONDS) -> HubRepository:
    """What the Hub holds now, by one request that is not repeated.

    HubUnreachableError where it cannot be asked, TalimError where it refuses. Answers and errors are kept for a minute.
    """
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        raise hub_errors.HubUnreachableError(hub_errors.SWITCHED_OFF)
    answer = _ask(hub_id, revision, name, seconds, hub_errors.endpoint(), int(time.monotonic() // 60))
    if isinstance(answer, TalimError):
        raise answer
    return answer


@lru_cache(maxsize=32)
def _ask(
    hub_id: str, revision: str, name: str, seconds: float, endpoint: str, minute: int
) -> HubRepository | TalimError:
    from huggingface_hub import HfApi
    from huggingface_hub.utils import httpx

    timeout: Any = httpx.Timeout(seconds, connect=PROBE_SECONDS)  # accepted, though the signature says float
    try:
        info = HfApi(endpoint=endpoint).model_info(hub_id, revision=revision, files_metadata=True, timeout=timeout)
        files = {
            file.rfilename: RepositoryFile(file.size or 0, file.lfs.sha256 if file.lfs is not None else "")
            for file in info.siblings or ()
        }
        commit = info.sha or ""
    except Exception as error:
        return hub_errors.explain(error, name, hub_id, revision, seconds)
    if not commit:
        return hub_errors.HubUnreachableError(hub_errors.NO_HUB.format(host=hub_errors.host_name()))
    licence = licence_of_fields(info.card_data.to_dict() if info.card_data else {})
    return HubRepository(hub_id, commit, files, licence, bool(info.gated))


def hub_ids(hub_id: str) -> tuple[str, ...]:
    """The id of a repository, and the one that it had before, under which other programs may have cached it."""
    former = hub_id.removeprefix("google-t5/")
    return (hub_id, former) if former != hub_id else (hub_id,)


def cached_file(hub_id: str, revision: str, name: str) -> Path | None:
    """The path of a cached file; None if it is not in the cache."""
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(hub_id, name, revision=revision)
    except HFValidationError:
        return None
    return Path(found) if isinstance(found, str) else None


def cached_folder(hub_id: str, revision: str) -> Path | None:
    """The folder of a cached commit, complete or not; its name is the commit."""
    for name in MARKERS:
        if file := cached_file(hub_id, revision, name):
            return file.parents[name.count("/")]
    return None


def missing_files(hub_id: str, folder: Path, predictors: bool = False) -> list[str]:
    """Files that a cached commit lacks for loading, told from its listing.

    Where that is not cached too (other programs fetched single files), the weights and any tokenizer are looked for.
    """
    from huggingface_hub import get_cached_repo_tree
    from huggingface_hub.errors import CachedRepoTreeNotFoundError

    here = [str(file.relative_to(folder).as_posix()) for file in folder.rglob("*") if file.is_file()]
    try:
        sizes = {file.path: file.size for file in get_cached_repo_tree(hub_id, revision=folder.name)}
    except (CachedRepoTreeNotFoundError, OSError, ValueError):
        networks = [name for name in PREDICTOR_WEIGHTS if predictors and name not in here]
        return ["weights"] * lacks_weights(here) + ["tokenizer"] * lacks_tokenizer(here) + networks
    needed = [name for name in needed_files(list(sizes), predictors) if not explains(name)]
    return [name for name in needed if name not in here or (folder / name).stat().st_size != sizes[name]]
