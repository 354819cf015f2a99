"""Finds and describes stored adapters."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from talim.errors import TalimError
from talim.terminal_text import one_line

CONFIG_FILE = "adapter_config.json"
MAX_LISTED = 5  # values of a list that are shown; --json has all


def find_adapters(folder: Path) -> list[dict[str, Any]]:
    """`adapter_info` of every adapter below `folder`; for an unreadable one, or a folder, its path and error."""
    if not folder.is_dir():
        raise TalimError(f"{folder}: no such folder; give one that holds adapters or runs")
    rows: list[dict[str, Any]] = []

    def unreadable(error: OSError) -> None:
        rows.append({"folder": str(error.filename), "error": error.strerror or str(error)})

    for root, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = [name for name in folders if not name.startswith(".")]
        if CONFIG_FILE in files:
            try:
                rows.append(adapter_info(Path(root)))
            except (TalimError, OSError) as error:
                rows.append({"folder": root, "error": str(error)})
    return sorted(rows, key=lambda row: row["folder"])


def adapter_info(folder: Path) -> dict[str, Any]:
    """Folder, PEFT method, talim.json and size in bytes; no weights are read. TalimError if it is no adapter."""
    from talim.adapters import peft_baselines, serialization

    info = serialization.read_info(folder)
    size = (
        sum(path.stat().st_size for path in folder.glob("*.safetensors"))
        or serialization.weights_file(folder).stat().st_size
    )
    method = peft_baselines.peft_type_name(serialization.read_config(folder))
    return {"folder": str(folder), "method": method, **info, "bytes": size}


def info_lines(info: dict[str, Any]) -> list[str]:
    """`adapter_info` for people: a line per fact, those in groups joined, long lists counted."""
    return [f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in info.items()]


def _plain(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return f"{len(value)} values" if len(value) > MAX_LISTED else ", ".join(map(_plain, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "unknown" if value is None else f"{value:,}" if isinstance(value, int) else str(value)


def adapter_line(row: dict[str, Any]) -> str:
    """One printable line about one row of `find_adapters`."""
    if "error" in row:
        return f"{one_line(row['folder'])}  unreadable: {one_line(row['error'])}"
    base = row.get("base") or {}
    parameters, name = f"{row['parameters']:,} parameters", f"for {base.get('name') or '?'}"
    parts = (row["folder"], row["design"], parameters, name, f"{row['bytes'] / 1e6:.1f} MB")
    return "  ".join(one_line(part) for part in parts)
