"""librosa, whose functions are compiled by one process at a time."""

from __future__ import annotations

import importlib
from functools import cache
from importlib.metadata import version
from types import ModuleType

from talim.compiled_modules import import_compiled

COMPILED_MODULES = ("librosa.util.utils", "librosa.core.audio", "librosa.core.pitch")


@cache
def load_librosa(*more: str) -> ModuleType:
    """Import librosa with its compiled core, and `more` of its modules: those with compiled functions must be named."""
    import_compiled("librosa", (*COMPILED_MODULES, *more), "librosa's functions", version("librosa"))
    return importlib.import_module("librosa")
