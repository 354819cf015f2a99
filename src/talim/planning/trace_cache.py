"""Traces of training steps, cached on disk by step, base, talim's code and library versions."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import talim
from talim.atomic_io import parse_json, write_text
from talim.interrupts import deferred_interrupt
from talim.planning import training_step
from talim.planning.design_costs import base_model_facts
from talim.planning.tracer import Trace
from talim.planning.training_step import StepConfig
from talim.progress import Progress

LIBRARIES = ("torch", "transformers", "diffusers", "peft")
CODE = (  # of talim, that decides what a step does and how it is traced
    "adapters/**/*.py",
    "backbones/**/*.py",
    "design/**/*.py",
    "training/step.py",
    "planning/training_step.py",
    "planning/tracer.py",
)


def default_cache_folder() -> Path:
    """The folder of traces and CPU calibrations: $TALIM_CACHE, else `talim` in the user's cache folder."""
    if folder := os.environ.get("TALIM_CACHE"):
        return Path(folder)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "talim"


class TraceCache:
    """Traces by step, in memory and in `folder` (None: in memory only)."""

    def __init__(self, folder: Path | None, progress: Progress) -> None:
        self.folder, self.progress = folder, progress
        self._traces: dict[StepConfig, Trace] = {}

    def trace(self, config: StepConfig) -> Trace:
        """The trace of one step; a damaged file is replaced."""
        if config not in self._traces:
            self._traces[config] = self._read(config) or self._make(config)
        return self._traces[config]

    def is_traced(self, config: StepConfig) -> bool:
        """Whether `trace` has it without tracing."""
        return config in self._traces or self._read(config) is not None

    def _file(self, config: StepConfig) -> Path | None:
        return None if self.folder is None else self.folder / "traces" / f"{_key(config)}.json"

    def _read(self, config: StepConfig) -> Trace | None:
        file = self._file(config)
        try:
            return None if file is None else Trace.from_json(parse_json(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _make(self, config: StepConfig) -> Trace:
        checkpointed = ", checkpointed" if config.gradient_checkpointing else ""
        self.progress.log(
            f"tracing {config.design}, {config.crop_seconds:g} s, batch {config.batch_size}, "
            f"{config.precision}{checkpointed}: one training step of {config.base} is run without weights or data"
        )
        with deferred_interrupt():
            trace = training_step.trace_step(config, self.progress)
        if (file := self._file(config)) is not None:
            write_text(file, json.dumps(trace.to_json()))
        return trace


def _key(config: StepConfig) -> str:
    parts = [config.to_json(), repr(base_model_facts(config.base)), [version(name) for name in LIBRARIES], _code_hash()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _code_hash() -> str:
    digest = hashlib.sha256()
    root = Path(talim.__file__).parent
    for pattern in CODE:
        for file in sorted(root.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()
