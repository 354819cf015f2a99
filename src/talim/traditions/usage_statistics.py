"""Usage statistics of a tradition's modes, from the optional file `practice.json` of its folder.

    {"sources": ["..."], "modes": {"rast": {"heard": 109, "weights": {"0": 20.1, "9": 12.9, ...}}}}

`heard` is the number of recordings, scores or performances of the mode, in the same unit for all modes of the file.
`weights` are the shares of time on each note, in any unit, written in the tradition's own notation. Modes without an
entry, and traditions without the file, are recognised by their notated lines alone.
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
    """Counts of one mode: of recordings, and the time on each note (cents: share, in any unit)."""

    count: float | None = None
    weights: Mapping[float, float] = field(default_factory=dict)


def read_usage_statistics(file: Path, notation: Notation, slugs: Collection[str]) -> dict[str, UsageStatistics]:
    """The statistics by mode; empty where there is no file.

    Raises TalimError, with the file and the mode, for unknown modes or notes and for invalid numbers.
    """
    if not file.is_file():
        return {}
    content = read_json(file)
    modes = content.get("modes") if isinstance(content, dict) else None
    if not isinstance(modes, dict):
        raise TalimError(f'{file}: expected {{"modes": {{slug: {{"heard": ..., "weights": {{note: share}}}}}}}}')
    statistics = {}
    for slug, entry in modes.items():
        if slug not in slugs:
            raise TalimError(f"{file}: {slug!r} is no mode of modes.json; write the mode's slug")
        try:
            statistics[slug] = _parse(entry, notation)
        except TalimError as error:
            raise TalimError(f"{file}: {slug}: {error}") from error
    return statistics


def _parse(entry: Any, notation: Notation) -> UsageStatistics:
    if not isinstance(entry, dict) or set(entry) - {"heard", "weights"}:
        raise TalimError("expected an object with 'heard' and 'weights' only")
    count, weights = entry.get("heard"), entry.get("weights", {})
    if not isinstance(weights, dict):
        raise TalimError("'weights' must be an object of note: share")
    by_cents = {notation.note(note): _nonnegative(weight, f"the share of {note}") for note, weight in weights.items()}
    if by_cents and not sum(by_cents.values()) > 0:
        raise TalimError("'weights' must have a share above 0")
    if count is not None and not _nonnegative(count, "'heard'") > 0:
        raise TalimError("'heard' must be above 0")
    return UsageStatistics(count, by_cents)


def _nonnegative(value: Any, name: str) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not math.isfinite(value) or value < 0:
        raise TalimError(f"{name} must be a number, 0 or above, not {value!r}")
    return float(value)
