"""Imports of modules whose functions numba compiles: one process at a time, as others would mix up what it stores."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

QUIET_SECONDS = 4.0  # of loading what was compiled before


def import_compiled(package: str, modules: tuple[str, ...], what: str, *versions: str) -> None:
    """Import `modules`, all that have compiled functions, of a `package`; the notice of the first time names `what`.

    The first import in an installation compiles them, which takes up to a minute, and numba stores the result beside
    them or in NUMBA_CACHE_DIR. Two processes that do so at the same time mix their files up, after which both crash,
    and so does every later one (numba issue 10128). A lock beside these files prevents that. `versions` are those of
    which a new one is compiled again.
    """
    folder = _folder_of_compiled(package)
    done = folder / "-".join(["talim-compiled", package, *versions, version("numba"), *modules])
    with _notice_if_long(what, not done.exists()), _one_process_at_a_time(folder):
        for name in modules:
            importlib.import_module(name)
        with suppress(OSError):
            done.touch()


@contextmanager
def _one_process_at_a_time(folder: Path) -> Iterator[None]:
    from filelock import FileLock

    with ExitStack() as stack:
        # no lock where the file system has none: an import that waits for nobody is what numba itself does
        with suppress(OSError, NotImplementedError):
            stack.enter_context(FileLock(folder / "talim-compiles.lock"))
        yield


def _folder_of_compiled(package: str) -> Path:
    """Where numba stores what it compiles, or a folder that every process of this user finds."""
    if given := os.environ.get("NUMBA_CACHE_DIR"):
        Path(given).mkdir(parents=True, exist_ok=True)
        return Path(given)
    spec = find_spec(package)
    assert spec is not None
    assert spec.origin is not None
    compiled = Path(spec.origin).parent / "__pycache__"
    return compiled if os.access(compiled, os.W_OK) else Path(tempfile.gettempdir())


@contextmanager
def _notice_if_long(what: str, needed: bool) -> Iterator[None]:
    notice = f"compiling {what}, once in this installation ..."
    timer = threading.Timer(QUIET_SECONDS, print, (notice,), {"file": sys.stderr, "flush": True})
    timer.daemon = True
    if needed:
        timer.start()
    try:
        yield
    finally:
        timer.cancel()
