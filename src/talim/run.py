"""A run's folder: the paths of its files, its recipe, its lock, and the provenance written with results."""

from __future__ import annotations

import contextlib
import errno
import importlib.metadata
import itertools
import os
import platform
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from talim import progress
from talim import recipe as recipes
from talim.atomic_io import friendly_os_errors, read_json
from talim.errors import TalimError
from talim.recipe import Recipe

OWN_BASE = "./base/"  # of an exported run: the folder for a base that was a folder on another machine
POC_DECISIONS = "stages.json"  # in the folder of a proof of concept: its stages, and the design that it chose
POC_STAGE_CACHE = "stage_cache.json"  # likewise, from its first stage on
LOCKED_BY_ANOTHER = (errno.EWOULDBLOCK, errno.EAGAIN, errno.EACCES)


def is_poc(folder: Path) -> bool:
    """Whether a proof of concept was begun in this folder."""
    return (folder / POC_DECISIONS).is_file() or (folder / POC_STAGE_CACHE).is_file()


class Run:
    """Paths of the files in one run's folder; creating a Run touches nothing on disk."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.recipe_file = self.folder / "recipe.yaml"
        self.facts_file = self.folder / "run.json"
        self.adapter = self.folder / "adapter"
        self.log = self.folder / "log.jsonl"
        self.cost = self.folder / "cost.json"
        self.scores = self.folder / "scores.json"
        self.evaluation_time = self.folder / "evaluation_time.json"  # {"seconds"} that the scores took
        self.checkpoint = self.folder / "checkpoint.safetensors"
        self.samples = self.folder / "samples"
        self.continuations = self.folder / "continuations"
        self.metrics_cache = self.folder / "metrics_cache"

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def evaluation_seconds(self) -> float | None:
        """Seconds that its evaluation took; None where there was none, or it was not timed."""
        return float(read_json(self.evaluation_time)["seconds"]) if self.evaluation_time.is_file() else None

    @property
    def resume_command(self) -> str:
        """What goes on with an unfinished training: the proof of concept that the run is part of, else talim train."""
        above = self.folder.resolve().parent
        if is_poc(above):  # alone it would be given more time, and other steps than its rivals
            return f"the same talim poc command as before, with --out {shlex.quote(str(above))}"
        return f"talim train --out {shlex.quote(str(self.folder))}"

    @property
    def gentler_command(self) -> str:
        """The same training at a third of its learning rate, into a new folder beside this one."""
        name = self.folder.resolve().name
        folders = (self.folder.parent / f"{name}-{number}" for number in itertools.count(2))
        out = next(folder for folder in folders if not folder.exists())
        return (
            f"talim train --config {shlex.quote(str(self.recipe_file))} --out {shlex.quote(str(out))} "
            f"--set {self.recipe.training.gentler_rate}"
        )

    @property
    def recipe(self) -> Recipe:
        """The recipe that the run was started with; TalimError if the folder holds no run."""
        if not self.recipe_file.is_file():
            raise TalimError(f"{self.folder}: no run is here (recipe.yaml is missing); give --corpus to begin one")
        return recipes.load([self.recipe_file])

    @property
    def base(self) -> str:
        """The recipe's base, from the Hub at the commit that the run was begun with: NAME@COMMIT.

        A base that an exported run names as "./base/NAME" lies in the run's own folder.
        """
        name, facts = self.recipe.base, read_json(self.facts_file) if self.facts_file.is_file() else {}
        if name.startswith(OWN_BASE) and not Path(name).exists():
            return str(self.folder / name)
        stored = facts.get("base") if isinstance(facts, dict) else None
        revision = stored.get("revision") if isinstance(stored, dict) else None
        return f"{name.partition('@')[0]}@{revision}" if isinstance(revision, str) and revision else name

    @property
    def start(self) -> dict[str, Any] | None:
        """The facts of the adapter that training began from; None where it began anew."""
        facts = read_json(self.facts_file) if self.facts_file.is_file() else {}
        start = facts.get("init_from") if isinstance(facts, dict) else None
        return start if isinstance(start, dict) else None

    @property
    def finished(self) -> bool:
        """Whether training is complete: cost.json is the last file that it writes."""
        return self.cost.is_file() and self.adapter.is_dir()

    @contextlib.contextmanager
    def lock(self, *, to_read: bool = False) -> Iterator[None]:
        """Lock the folder for this process; a second one gets a TalimError. Released on any exit.

        Any number of processes may hold it `to_read`, which writes nothing. Where the file system has no locks,
        that is said and the work goes on.
        """
        place = self.folder / ".lock"
        if to_read and not os.access(place, os.R_OK):  # nobody has worked here, or nobody but they may know
            yield
            return
        with friendly_os_errors(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
            handle = open(place, "r" if to_read else "a")  # noqa: SIM115 (stays open while the lock is held)
        with handle:
            try:
                import fcntl

                fcntl.flock(handle, (fcntl.LOCK_SH if to_read else fcntl.LOCK_EX) | fcntl.LOCK_NB)
            except ImportError:  # Windows has no flock: users must not start two runs in one folder there
                pass
            except OSError as error:
                if error.errno in LOCKED_BY_ANOTHER:
                    wait = "; its files are not complete: wait until it has ended" * to_read
                    raise TalimError(f"{self.folder}: another talim process is working in this folder{wait}") from None
                progress.default().log(
                    f"warning: {self.folder} cannot be locked here ({error.strerror or error}): its file system has "
                    "no locks, so nothing keeps a second talim process out of this folder; do not start one"
                )
            yield


def provenance() -> dict[str, Any]:
    """Version of talim and its libraries, machine, command and time (UTC) of a result. Imports no torch."""
    return {
        "talim": _version("talim"),
        "libraries": {name: _version(name) for name in ("torch", "transformers", "diffusers", "peft", "numpy")},
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "commit": _commit(),
        "command": shlex.join(["talim", *sys.argv[1:]]),
        "time": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def version_changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Versions of talim, Python and the libraries that differ between two provenances, as (before, now)."""

    def versions(facts: Mapping[str, Any]) -> dict[str, Any]:
        libraries: Mapping[str, Any] = facts.get("libraries") or {}
        return {"talim": facts.get("talim"), "python": facts.get("python"), **libraries}

    old, new = versions(before), versions(now)
    return {name: (old.get(name), version) for name, version in new.items() if old.get(name) != version}


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    checkout = Path(__file__).resolve().parents[2]
    if not (checkout / ".git").exists():
        return None
    command = ["git", "-C", str(checkout), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def resolve_recipe(out: Path, configs: Sequence[Path], options: Mapping[str, Any], settings: Sequence[str]) -> Recipe:
    """Merge YAML files, options that are not None and --set texts; where all are empty, the recipe of the run `out`."""
    overrides = {key: value for key, value in options.items() if value is not None}
    overrides |= dict(recipes.parse_setting(text) for text in settings)
    run = Run(out)
    if not configs and not overrides and run.recipe_file.is_file():
        return run.recipe
    return recipes.load(configs, overrides)
