"""Finds and describes stored adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talim.errors import TalimError


def find_adapters(folder: Path) -> list[dict[str, Any]]:
    """`adapter_info` of every adapter below `folder`; for an unreadable one its folder and error."""
    if not folder.is_dir():
        raise TalimError(f"{folder}: no such folder; give one that holds adapters or runs")
    rows = []
    for config in sorted(folder.rglob("adapter_config.json")):
        if any(part.startswith(".") for part in config.relative_to(folder).parts):
            continue
        try:
            rows.append(adapter_info(config.parent))
        except TalimError as error:
            rows.append({"folder": str(config.parent), "error": str(error)})
    return rows


def adapter_info(folder: Path) -> dict[str, Any]:
    """Folder, PEFT method, talim.json and size in bytes; no weights are read. TalimError if it is no adapter."""
    from talim.adapters import peft_baselines, serialization

    info = serialization.read_info(folder)
    size = sum(path.stat().st_size for path in folder.glob("*.safetensors"))
    method = peft_baselines.peft_type_name(serialization.read_config(folder))
    return {"folder": str(folder), "method": method, **info, "bytes": size}


def adapter_line(row: dict[str, Any]) -> str:
    """One line about one row of `find_adapters`."""
    if "error" in row:
        return f"{row['folder']}  unreadable: {row['error']}"
    base = row.get("base") or {}
    parameters = f"{row['parameters']:,} parameters  for {base.get('name') or '?'}"
    return f"{row['folder']}  {row['design']}  {parameters}  {row['bytes'] / 1e6:.1f} MB"
