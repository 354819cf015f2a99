"""Traces kept by what they were made from: the setting, the base's numbers, talim's code and the libraries."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

from talim.atomic_io import write_text
from talim.planning import training_step
from talim.planning.design_costs import base_model_facts
from talim.planning.tracer import Trace
from talim.planning.training_step import StepConfig
from talim.progress import Progress

LIBRARIES = ("torch", "transformers", "diffusers", "peft")
CODE = (
    "adapters/**/*.py",
    "backbones/**/*.py",
    "designs/**/*.py",
    "training/step.py",
    "planning/training_step.py",
    "planning/tracer.py",
)  # what decides what a step does and how it is seen


def default_cache_folder() -> Path:
    """Where traces and calibrations are kept: $TALIM_CACHE, else talim's folder in the user's cache."""
    if asked := os.environ.get("TALIM_CACHE"):
        return Path(asked)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "talim"


class TraceCache:
    """Gives every setting's trace, from its folder where it is there; None keeps nothing on disk."""

    def __init__(self, folder: Path | None, progress: Progress) -> None:
        self.folder, self.progress = folder, progress
        self._held: dict[StepConfig, Trace] = {}

    def trace(self, setting: StepConfig) -> Trace:
        """The trace of one step of a setting; a damaged file is made anew."""
        if setting not in self._held:
            self._held[setting] = self._read(setting) or self._make(setting)
        return self._held[setting]

    def _file(self, setting: StepConfig) -> Path | None:
        return None if self.folder is None else self.folder / "traces" / f"{_name(setting)}.json"

    def _read(self, setting: StepConfig) -> Trace | None:
        file = self._file(setting)
        try:
            return None if file is None else Trace.of_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _make(self, setting: StepConfig) -> Trace:
        words = f"{setting.design}, {setting.seconds:g} s, batch {setting.batch}, {setting.precision}"
        again = ", checkpointed" if setting.checkpointing else ""
        self.progress.log(f"tracing {words}{again}")
        made = training_step.trace_step(setting)
        if (file := self._file(setting)) is not None:
            write_text(file, json.dumps(made.to_json()))
        return made


def _name(setting: StepConfig) -> str:
    facts = [
        setting.facts(),
        repr(base_model_facts(setting.base)),
        [version(name) for name in LIBRARIES],
        _code_hash(),
    ]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _code_hash() -> str:
    """What talim's own code is, so that no trace outlives a change."""
    digest = hashlib.sha256()
    root = Path(__file__).parents[1]
    for pattern in CODE:
        for file in sorted(root.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()
