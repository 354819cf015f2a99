"""The modules of decoding whose functions numba compiles, imported together."""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

from talim.compiled_modules import import_compiled

PACKAGE = "talim.backbones.musicgen.decoding"
MODULES = ("frame_kernels", "int8_kernels")


@cache
def kernels(module: str) -> Any:
    """One of `MODULES`."""
    import_compiled(PACKAGE, tuple(f"{PACKAGE}.{name}" for name in MODULES), "functions for decoding")
    return importlib.import_module(f"{PACKAGE}.{module}")
