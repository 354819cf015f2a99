"""A run's folder: where each file lies, atomic writes, what is finished, and where the numbers came from."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from talim import recipe as recipes
from talim.atomic_io import friendly_os_errors
from talim.errors import TalimError
from talim.recipe import Recipe


class Run:
    """Names of the files in one run's folder; creating a Run touches nothing on disk."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.recipe_file = self.folder / "recipe.yaml"
        self.facts_file = self.folder / "run.json"
        self.adapter = self.folder / "adapter"
        self.log = self.folder / "log.jsonl"
        self.cost = self.folder / "cost.json"
        self.scores = self.folder / "scores.json"
        self.checkpoint = self.folder / "checkpoint.safetensors"
        self.samples = self.folder / "samples"

    @property
    def finished(self) -> bool:
        """Whether training came to its end: cost.json is the last thing it writes."""
        return self.cost.is_file() and self.adapter.is_dir()

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one process; a second one gets a TalimError. Freed on any exit."""
        with friendly_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = open(self.folder / ".lock", "a")  # noqa: SIM115 (kept open for as long as it is held)
        with handle:
            try:
                import fcntl

                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except ImportError:  # Windows has no flock: two runs in one folder are the user's care there
                pass
            except OSError:
                raise TalimError(f"{self.folder}: another talim process is working in this folder") from None
            yield


def provenance() -> dict[str, Any]:
    """Which program, libraries and machine made a result, and when (UTC). No torch is imported."""
    return {
        "talim": _version("talim"),
        "libraries": {
            name: _version(name) for name in ("torch", "transformers", "diffusers", "peft", "numpy")
        },
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "commit": _commit(),
        "command": " ".join(["talim", *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    here = Path(__file__).resolve().parents[2]
    if not (here / ".git").exists():
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def resolve_recipe(
    out: Path, configs: Sequence[Path], given: Mapping[str, Any], settings: Sequence[str]
) -> Recipe:
    """YAML files, then options that are not None, then --set; nothing at all means the run in `out`."""
    overrides = {key: value for key, value in given.items() if value is not None}
    overrides |= dict(recipes.parse_setting(text) for text in settings)
    run = Run(out)
    if not configs and not overrides and run.recipe_file.is_file():
        return recipes.load([run.recipe_file])
    return recipes.load(configs, overrides)
