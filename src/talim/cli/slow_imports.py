"""Imports that take seconds: said before they begin, and out of the reach of Ctrl-C until they are done."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

from talim.cli.options import begin
from talim.interrupts import deferred_interrupt

SLOW_TO_LOAD = {"torch": "PyTorch", "transformers": "transformers", "librosa": "librosa"}


class _SlowImports(MetaPathFinder):
    """Says once that something is loading that takes seconds, and keeps Ctrl-C from its C++ code, which would abort."""

    def __init__(self, command: str) -> None:
        self.command, self.process, self.announced = command, os.getpid(), False

    def find_spec(self, fullname: str, path: Any, target: Any = None) -> ModuleSpec | None:
        if fullname not in SLOW_TO_LOAD:
            return None
        if not self.announced and self.process == os.getpid():  # forked workers load what their parent did not
            self.announced = True
            begin(f"{self.command}: loading {SLOW_TO_LOAD[fullname]}, which takes a while on a busy machine")
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return None
        execute = spec.loader.exec_module

        def uninterrupted(module: ModuleType) -> None:
            with deferred_interrupt():
                execute(module)

        spec.loader.exec_module = uninterrupted
        return spec


@contextmanager
def announced_loading(command: str) -> Iterator[None]:
    """Inside, the first import of PyTorch or the like says what is loading before it is, whichever code imports it."""
    finder = _SlowImports(command)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
