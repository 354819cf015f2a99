"""Files written whole or not at all: bytes, text, JSON, JSON lines and folders; OS errors become one-line messages."""

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
    """Turn an OSError (full disk, read-only, a file where a folder must be) into a TalimError that names the path."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        raise TalimError(f"{path}: cannot be written ({reason}); free space or choose another --out") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Atomic write: temporary file in the same folder, fsync, rename."""
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
    """The value in plain Python types; floats rounded to `digits` significant digits, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item, digits) for item in value]
    if isinstance(value, Real) and not isinstance(value, Integral):
        if not math.isfinite(value):
            return None
        return float(value) if digits is None else float(f"{value:.{digits}g}")
    return value


def write_json(path: Path, value: Any) -> None:
    """Atomic write of indented JSON; ValueError for NaN, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON; TalimError where the file is missing or damaged."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TalimError(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise TalimError(f"{path}: cannot be read as JSON ({error}); delete it and run the command again") from None


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one line; an incomplete last line, as a crash leaves it, is ended first."""
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
    """All lines; an incomplete last line, as a crash leaves it, is dropped; TalimError for one elsewhere."""
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
    """A temporary folder that replaces `final` when the block succeeds and is deleted otherwise."""
    with friendly_os_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{final.name}.", suffix=".part", dir=final.parent))
        temporary.chmod(0o755)
    try:
        with friendly_os_errors(final):
            yield temporary
        replace_folder(temporary, final)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def replace_folder(finished: Path, final: Path) -> None:
    """Rename the finished folder to `final`, replacing a folder of that name; readers never see a partial one."""
    with friendly_os_errors(final):
        previous = final.with_name(f".{final.name}.old-{os.getpid()}")
        if final.exists():
            os.replace(final, previous)
        os.replace(finished, final)
        shutil.rmtree(previous, ignore_errors=True)


def check_writable(path: Path) -> None:
    """TalimError if no file can be written at `path`; called before long work. Leaves no file."""
    existing = path
    if path.is_dir():
        raise TalimError(f"{path}: cannot be written (it is a folder); give a file name such as {path}/music.flac")
    while not existing.parent.exists():
        existing = existing.parent
    with friendly_os_errors(path):
        if not existing.parent.is_dir():
            raise NotADirectoryError(20, f"{existing.parent} is not a folder")
        with tempfile.TemporaryFile(dir=existing.parent) as handle:
            handle.write(b"0")
