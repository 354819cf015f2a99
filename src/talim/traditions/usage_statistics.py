"""How a tradition's modes are practised, where somebody has counted: `practice.json`, an optional file of its folder.

    {"sources": ["..."], "modes": {"rast": {"heard": 109, "weights": {"0": 20.1, "9": 12.9, ...}}}}

`heard` is how often the mode is met with, in any unit that is the same for all modes of the file. `weights` is the
share of time on each note, in any unit, written in the tradition's own notation. Modes that are left out, and
traditions without the file, are told by their grammar alone.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.errors import TalimError
from talim.traditions.notation import Notation


@dataclass(frozen=True)
class UsageStatistics:
    """What was counted of one mode: how often it is heard, and the `shares` of time per note (cents: share)."""

    heard: float | None = None
    shares: Mapping[float, float] = field(default_factory=dict)


def read_usage_statistics(
    file: Path, notation: Notation, slugs: Collection[str]
) -> dict[str, UsageStatistics]:
    """The practice of each mode that the file speaks of; empty where there is no file.

    Raises TalimError, with the file and the mode, for unknown modes, unknown notes and numbers that are none.
    """
    if not file.is_file():
        return {}
    whole = read_json(file)
    modes = whole.get("modes") if isinstance(whole, dict) else None
    if not isinstance(modes, dict):
        raise TalimError(
            f'{file}: expected {{"modes": {{slug: {{"heard": ..., "weights": {{note: share}}}}}}}}'
        )
    found = {}
    for slug, entry in modes.items():
        if slug not in slugs:
            raise TalimError(f"{file}: {slug!r} is no mode of modes.json; write the mode's slug")
        try:
            found[slug] = parse_usage_statistics(entry, notation)
        except TalimError as error:
            raise TalimError(f"{file}: {slug}: {error}") from error
    return found


def parse_usage_statistics(entry: Any, notation: Notation) -> UsageStatistics:
    """One mode's entry."""
    if not isinstance(entry, dict) or set(entry) - {"heard", "weights"}:
        raise TalimError("expected an object with 'heard' and 'weights' only")
    heard, weights = entry.get("heard"), entry.get("weights", {})
    if not isinstance(weights, dict):
        raise TalimError("'weights' must be an object of note: share")
    shares = {
        notation.note(note): nonnegative_number(share, f"the share of {note}")
        for note, share in weights.items()
    }
    if shares and not sum(shares.values()) > 0:
        raise TalimError("'weights' must have a share above 0")
    if heard is not None and not nonnegative_number(heard, "'heard'") > 0:
        raise TalimError("'heard' must be above 0")
    return UsageStatistics(heard, shares)


def nonnegative_number(value: Any, what: str) -> float:
    """`value` as a number that is not below 0."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise TalimError(f"{what} must be a number, 0 or above, not {value!r}")
    return float(value)
