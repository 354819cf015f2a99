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
from importlib.metadata import version
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
    folder, modules = _folder_of_compiled(), (*COMPILED_MODULES, *more)
    done = folder / "-".join(["talim-compiled", version("librosa"), version("numba"), *more])
    with _notice_if_long(not done.exists()), _one_process_at_a_time(folder):
        for name in modules:
            importlib.import_module(name)
        with suppress(OSError):
            done.touch()
        return importlib.import_module("librosa")


@contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    from filelock import FileLock

    with ExitStack() as stack:
        # no lock where the file system has none: an import that waits for nobody is what librosa itself does
        with suppress(OSError, NotImplementedError):
            stack.enter_context(FileLock(folder / "talim-compiles-librosa.lock"))
        yield


def _folder_of_compiled() -> Path:
    """Where numba stores what it compiles, or a folder that every process of this user finds."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        Path(given).mkdir(parents=True, exist_ok=True)
        return Path(given)
    spec = find_spec("librosa")
    assert spec is not None
    assert spec.origin is not None
    compiled = Path(spec.origin).parent / "__pycache__"
    return compiled if os.access(compiled, os.W_OK) else Path(tempfile.gettempdir())


@contextmanager
def _notice_if_long(needed: bool) -> Iterator[None]:
    notice = "compiling librosa's functions, once in this installation ..."
    timer = threading.Timer(QUIET_SECONDS, print, (notice,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    if needed:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
