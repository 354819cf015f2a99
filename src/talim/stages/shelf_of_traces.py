"""Traces kept by what they were made from: the setting, the base's numbers, talim's code and the libraries."""

from __future__ import annotations

import hashlib
import json
import os
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path

import talim
from talim.run import write_text
from talim.stages import rehearsal
from talim.stages.designs import numbers_of
from talim.stages.progress import Progress
from talim.stages.rehearsal import Setting
from talim.stages.tracing import Trace

LIBRARIES = ("torch", "transformers", "diffusers", "peft")
CODE = (
    "adapters/**/*.py",
    "backbones/**/*.py",
    "designs/**/*.py",
    "stages/step.py",
    "stages/rehearsal.py",
    "stages/tracing.py",
)  # what decides what a step does and how it is seen


def usual() -> Path:
    """Where traces and calibrations are kept: $TALIM_CACHE, else talim's folder in the user's cache."""
    if asked := os.environ.get("TALIM_CACHE"):
        return Path(asked)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "talim"


class Shelf:
    """Gives every setting's trace, from its folder where it is there; None keeps nothing on disk."""

    def __init__(self, folder: Path | None, progress: Progress) -> None:
        self.folder, self.progress = folder, progress
        self._held: dict[Setting, Trace] = {}

    def trace(self, setting: Setting) -> Trace:
        """The trace of one step of a setting; a damaged file is made anew."""
        if setting not in self._held:
            self._held[setting] = self._read(setting) or self._make(setting)
        return self._held[setting]

    def _file(self, setting: Setting) -> Path | None:
        return None if self.folder is None else self.folder / "traces" / f"{_name(setting)}.json"

    def _read(self, setting: Setting) -> Trace | None:
        file = self._file(setting)
        try:
            return None if file is None else Trace.of_json(json.loads(file.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def _make(self, setting: Setting) -> Trace:
        words = f"{setting.design}, {setting.seconds:g} s, batch {setting.batch}, {setting.precision}"
        again = ", checkpointed" if setting.checkpointing else ""
        self.progress.say(f"tracing {words}{again}")
        made = rehearsal.traced(setting)
        if (file := self._file(setting)) is not None:
            write_text(file, json.dumps(made.to_json()))
        return made


def _name(setting: Setting) -> str:
    facts = [setting.facts(), repr(numbers_of(setting.base)), [version(name) for name in LIBRARIES], _code()]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]


@lru_cache(maxsize=1)
def _code() -> str:
    """What talim's own code is, so that no trace outlives a change."""
    digest = hashlib.sha256()
    root = Path(talim.__file__).parent
    for pattern in CODE:
        for file in sorted(root.glob(pattern)):
            digest.update(file.read_bytes())
    return digest.hexdigest()
