"""Files written whole or not at all: bytes, text, JSON, JSON lines and folders; OS errors become one-line messages."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, BinaryIO

from talim.errors import TalimError

_UNFINISHED = re.compile(r"\.(.+)\.[0-9a-f]{8}\.part", re.DOTALL)  # a `temporary_name`


class FileTakenError(TalimError):
    """A file is in the way that may not be overwritten."""


@contextlib.contextmanager
def friendly_os_errors(path: Path) -> Iterator[None]:
    """Turn an OSError (full disk, read-only, a file where a folder must be) into a TalimError that names the path."""
    try:
        yield
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":  # of a write
            raise
        reason = getattr(error, "strerror", None) or str(error)
        raise TalimError(f"{path}: cannot be written ({reason}); free space or choose another --out") from error


def write_bytes(path: Path, data: bytes) -> None:
    """Atomic write: temporary file in the same folder, fsync, rename."""
    with new_file(path) as temporary:
        temporary.write_bytes(data)


@contextlib.contextmanager
def new_file(final: Path, overwrite: bool = True) -> Iterator[Path]:
    """A temporary file that replaces `final` when the block succeeds, with the mode that the umask gives new files.

    The block may write the file itself or replace it by another of that name. Without `overwrite`, FileTakenError if
    `final` exists by then.
    """
    with friendly_os_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(temporary_name(final))
        temporary.touch(exist_ok=False)
        mode = temporary.stat().st_mode
        try:
            yield temporary
            with open(temporary, "rb+") as handle:
                os.fsync(handle.fileno())
            temporary.chmod(mode)
            if not overwrite and os.path.lexists(final):
                raise FileTakenError(f"{final}: is there already, and is not overwritten; choose another name")
            os.replace(temporary, final)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise


def temporary_name(final: Path) -> str:
    """A hidden name beside `final` that no other writer uses; 255 bytes is the longest that file systems take."""
    return f".{_short_name(final)}.{secrets.token_hex(4)}.part"


def unfinished_files(final: Path) -> list[Path]:
    """What writers of `final` have begun beside it: under way, or left by a kill."""
    return [path for path, of in unfinished_in(final.parent) if of.name == _short_name(final)]


def unfinished_in(folder: Path) -> list[tuple[Path, Path]]:
    """Files that writers have begun in a folder, and what each becomes (its name cut to 200 bytes), sorted."""
    found = [(path, finished_path(path)) for path in folder.glob(".*.part") if path.is_file()]
    return sorted((path, final) for path, final in found if final is not None)


def finished_path(path: Path) -> Path | None:
    """What a temporary file becomes, its name cut to 200 bytes; None for any other file."""
    match = _UNFINISHED.fullmatch(path.name)
    return None if match is None else path.with_name(match[1])


def _short_name(final: Path) -> str:
    return os.fsencode(final.name)[:200].decode("utf-8", errors="ignore")


def write_text(path: Path, text: str) -> None:
    r"""Atomic write of UTF-8 text; halves of characters, as in names that are not UTF-8, become \udcff and the like.

    JSON reads that as the same character again.
    """
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def to_jsonable(value: Any, digits: int | None = None) -> Any:
    """The value in plain Python types; floats rounded to `digits` significant digits, NaN and infinity as None."""
    if isinstance(value, Mapping):
        return {str(key): to_jsonable(item, digits) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_jsonable(item, digits) for item in value]
    if isinstance(value, Real) and not isinstance(value, Integral):
        if not math.isfinite(value):
            return None
        rounded = float(value) if digits is None else float(f"{value:.{digits}g}")
        return rounded if math.isfinite(rounded) else float(value)  # the largest floats round up to infinity
    return value


def write_json(path: Path, value: Any) -> None:
    """Atomic write of indented JSON; ValueError for NaN, which JSON does not have."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def parse_json(text: str | bytes, unique: bool = False) -> Any:
    """The value of a JSON text; ValueError where it is none or nested too deeply, or with `unique` has a key twice."""
    try:
        return json.loads(text, object_pairs_hook=_unique_keys if unique else None)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {max(keys, key=keys.count)!r} is there twice")
    return values


def read_json(path: Path) -> Any:
    """Read JSON; TalimError where the file is missing or damaged."""
    try:
        return parse_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise TalimError(f"{path}: no such file") from None
    except (ValueError, OSError) as error:
        raise TalimError(f"{path}: cannot be read as JSON ({error}); delete it and run the command again") from None


def append_jsonl(path: Path, row: dict[str, Any]) -> None:
    """Append one line; an incomplete last line, as a crash leaves it, is cut off first."""
    line = json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n"
    with friendly_os_errors(path), open(path, "ab+") as handle:
        if handle.tell() > 0:
            handle.seek(-1, os.SEEK_END)
            if handle.read(1) != b"\n":
                line = _end_last_line(handle) + line
        handle.write(line.encode("utf-8", errors="backslashreplace"))


def _end_last_line(handle: BinaryIO) -> str:
    """Cut off the last line if it is no JSON; else return the line break that it lacks."""
    handle.seek(0)
    content = handle.read()
    start = content.rfind(b"\n") + 1
    try:
        parse_json(content[start:])
    except ValueError:
        handle.truncate(start)
        return ""
    return "\n"


def write_jsonl(path: Path, rows: list[dict[str, Any]]) -> None:
    """Atomic write of one JSON document per line."""
    write_text(path, "".join(json.dumps(r, ensure_ascii=False, allow_nan=False) + "\n" for r in rows))


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """All lines, which are JSON objects; an incomplete last one, as a crash leaves it, is dropped; else TalimError."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").rstrip("\n").split("\n")
    except FileNotFoundError:
        raise TalimError(f"{path}: no such file") from None
    except OSError as error:
        raise TalimError(f"{path}: cannot be read ({error.strerror or error})") from None
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            rows.append(parse_json(line))
        except ValueError:
            if number == len(lines):
                break
            raise TalimError(f"{path}: line {number} is not JSON; the file was edited or damaged") from None
        if not isinstance(rows[-1], dict):
            raise TalimError(f"{path}: line {number} is {line.strip()[:40]}: no JSON object; the file was edited")
    return rows


def check_keys(value: Any, types: Mapping[str, type | tuple[type, ...]], where: str, advice: str) -> None:
    """TalimError, beginning with `where`, unless `value` is a JSON object with these keys and types of values."""
    wrong = [
        name for name, kind in types.items() if not isinstance(value, dict) or not isinstance(value.get(name), kind)
    ]
    if wrong:
        raise TalimError(f"{where}: {wrong[0]} is missing or not as talim wrote it; {advice}")


@contextlib.contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """A temporary folder that replaces `final` when the block succeeds and is deleted otherwise."""
    with friendly_os_errors(final):
        final.parent.mkdir(parents=True, exist_ok=True)
        temporary = final.with_name(temporary_name(final))
        temporary.mkdir()
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
