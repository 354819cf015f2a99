"""librosa, whose functions are compiled by one process at a time."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

COMPILED_MODULES = ("librosa.util.utils", "librosa.core.audio", "librosa.core.pitch")
QUIET_SECONDS = 4.0  # of loading what was compiled before


@cache
def load_librosa(*more: str) -> ModuleType:
    """librosa, its compiled core imported, and `more` of its modules: all that have compiled functions must be named.

    The first import in an installation compiles them, which takes up to a minute, and numba stores the result. Two
    processes that do so at the same time mix their files up, after which both crash, and so does every later one
    (numba issue 10128). A lock beside these files prevents that.
    """
    with _notice_if_long("librosa's functions are compiled, once in this installation"), _one_process_at_a_time():
        for name in (*COMPILED_MODULES, *more):
            importlib.import_module(name)
        return importlib.import_module("librosa")


@contextmanager
def _one_process_at_a_time() -> Iterator[None]:
    from filelock import FileLock

    with ExitStack() as stack:
        # no lock where the file system has none: an import that waits for nobody is what librosa itself does
        with suppress(OSError, NotImplementedError):
            stack.enter_context(FileLock(_folder_of_compiled() / "talim-compiles-librosa.lock"))
        yield


def _folder_of_compiled() -> Path:
    """Where numba stores what it compiles, or a folder that every process of this user finds."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        Path(given).mkdir(parents=True, exist_ok=True)
        return Path(given)
    spec = find_spec("librosa")
    assert spec is not None
    assert spec.origin is not None
    package = Path(spec.origin).parent
    return package if os.access(package, os.W_OK) else Path(tempfile.gettempdir())


@contextmanager
def _notice_if_long(text: str) -> Iterator[None]:
    timer = threading.Timer(QUIET_SECONDS, print, (f"{text} ...",), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
