"""The licence that a model card states in its YAML header, as a name for `talim.licences`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

UNKNOWN = "unknown"
MAX_HEADER = 20_000  # characters
MAX_NAME = 120


def licence_of_fields(fields: Mapping[str, Any]) -> str:
    """The licence in a card's fields: the Hub's identifier, for "other" the name given beside it, or "unknown"."""
    value = fields.get("license") or fields.get("licence")
    names = [item for item in (value if isinstance(value, list) else [value]) if isinstance(item, str) and item.strip()]
    if [name.strip().lower() for name in names] == ["other"]:
        other = fields.get("license_name")
        names = [other] if isinstance(other, str) and other.strip() else []
    return " and ".join(" ".join(name.split()) for name in names)[:MAX_NAME] or UNKNOWN


def licence_of_card(file: Path) -> str:
    """The licence that a README.md states; "unknown" where there is none, or the file or its header cannot be read."""
    try:
        text = file.read_text(encoding="utf-8-sig")[:MAX_HEADER]
    except (OSError, UnicodeDecodeError):
        return UNKNOWN
    lines = text.splitlines()
    if not lines or lines[0].strip() != "---":
        return UNKNOWN
    end = next((index for index, line in enumerate(lines[1:], 1) if line.strip() == "---"), None)
    if end is None:
        return UNKNOWN
    try:
        fields = yaml.safe_load("\n".join(lines[1:end]))
    except (yaml.YAMLError, ValueError, RecursionError):
        return UNKNOWN
    return licence_of_fields(fields) if isinstance(fields, dict) else UNKNOWN
