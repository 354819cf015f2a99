"""TODO docstring."""

from __future__ import annotations

import contextlib
import json
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any

from talim.errors import TalimError


@contextlib.contextmanager
def friendly_os_errors(path: Path) -> Iterator[None]:
    """Turn an OSError (full disk, read-only, a file in a folder's place) into one line naming the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise TalimError(
            f"{path}: cannot be written ({reason}); free space or choose another --out"
        ) from error


def write_bytes(path: Path, data: bytes) -> None:
    """Write a whole file or nothing: temporary file in the same folder, fsync, rename."""
    with friendly_os_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
        try:
            with open(descriptor, "wb") as handle:
                handle.write(data)
                handle.flush()
                os.fsync(handle.fileno())
            os.chmod(name, 0o644)
            os.replace(name, path)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(name)
            raise


def write_text(path: Path, text: str) -> None:
    """Atomic write of UTF-8 text."""
    write_bytes(path, text.encode("utf-8"))


def to_jsonable(value: Any, digits: int | None = None) -> Any:
    """The value as JSON can hold it: no NumPy, `digits` significant ones of every float, null for what is no number."""
    if isinstance(value, Mapping):
        return {str(name): to_jsonable(each, digits) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(each, digits) for each in value]
    if isinstance(value, Real) and not isinstance(value, Integral):
        if not math.isfinite(value):
            return None
        return float(value) if digits is None else float(f"{value:.{digits}g}")
    return value


def write_json(path: Path, value: Any) -> None:
    """Atomic write of indented JSON; NaN is refused, because no other reader knows it."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; TalimError names the file and what is wrong with it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TalimError(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise TalimError(
            f"{path}: cannot be read as JSON ({error}); delete it and run the command again"
        ) from None


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Add one line; after a torn line of a crash a new line is begun first."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    with friendly_os_errors(path), open(path, "ab+") as handle:
        if handle.tell() > 0:
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                line = "\n" + line
        handle.write(line.encode("utf-8"))


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Atomic write of one JSON document per line."""
    write_text(path, "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Every whole line; a torn last line is what a crash leaves and is dropped, one elsewhere is an error."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
    except FileNotFoundError:
        raise TalimError(f"{path}: no such file") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(json.loads(line))
        except ValueError:
            if number == len(lines):
                break
            raise TalimError(f"{path}: line {number} is not JSON; the file was edited or damaged") from None
    return rows


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A temporary folder that takes the place of `final` when the block ends well, and vanishes otherwise."""
    with friendly_os_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
        made.chmod(0o755)
    try:
        with friendly_os_errors(final):
            yield made
        replace_folder(made, final)
    finally:
        shutil.rmtree(made, ignore_errors=True)


def replace_folder(made: Path, final: Path) -> None:
    """Put the finished folder `made` in the place of `final`; no reader ever sees it half filled."""
    with friendly_os_errors(final):
        aside = final.with_name(f".{final.name}.old-{os.getpid()}")
        if final.exists():
            os.replace(final, aside)
        os.replace(made, final)
        shutil.rmtree(aside, ignore_errors=True)


def check_writable(path: Path) -> None:
    """TalimError now, before minutes of work, if no file can be written at `path`. Leaves nothing behind."""
    existing = path
    if path.is_dir():
        raise TalimError(
            f"{path}: cannot be written (it is a folder); give a file name such as {path}/music.flac"
        )
    while not existing.parent.exists():
        existing = existing.parent
    with friendly_os_errors(path):
        if not existing.parent.is_dir():
            raise NotADirectoryError(20, f"{existing.parent} is not a folder")
        with tempfile.TemporaryFile(dir=existing.parent) as handle:
            handle.write(b"0")
