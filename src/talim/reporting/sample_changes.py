"""What the adapter made better and worse in the generated audio, next to the untrained base, in plain words."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from talim.html.formatting import format_counted, format_number, format_percent

BETTER, WORSE, SAME = "better", "worse", "same"
SHARE = format_percent


def _distance(value: float) -> str:
    return format_number(value, 1)


# score of scores.json: its name on pages, and how its values are shown
NAMES: dict[str, tuple[str, Callable[[float], str]]] = {
    "pitched_fraction": ("time in which a pitch is heard", SHARE),
    "adherence_mode": ("fit to the prompt's mode", SHARE),
    "adherence_cycle": ("fit to the prompt's rhythmic cycle", SHARE),
    "adherence_tempo": ("fit to the prompt's tempo", SHARE),
    "adherence_instruments": ("fit to the prompt's instruments", SHARE),
    "adherence_clap": ("fit to the prompt's words", SHARE),
    "kernel_distance_timbre": ("distance to real music in timbre", _distance),
    "kernel_distance_pitch": ("distance to real music in pitch", _distance),
    "kernel_distance_rhythm": ("distance to real music in rhythm", _distance),
    "silent_fraction": ("silence", SHARE),
    "clipped_fraction": ("clipped samples", SHARE),
}


@dataclass(frozen=True)
class SampleChange:
    """One score of the samples: `verdict` is BETTER, WORSE or SAME than the untrained base's; `text` has the values."""

    name: str
    verdict: str
    text: str


def sample_changes(scores: Mapping[str, Any]) -> list[SampleChange]:
    """The scores of scores.json that were measured with and without the adapter, in the order of NAMES.

    Values that look the same at the printed precision are the same; no claim about significance is made.
    """
    rows = {row.get("name"): row for row in scores.get("scores") or [] if isinstance(row, dict)}
    changes = []
    for key, (name, show) in NAMES.items():
        row = rows.get(key) or {}
        value, baseline, reference = (_number(row.get(part)) for part in ("value", "baseline", "reference"))
        if value is None or baseline is None:
            continue
        after, before = (_distance_from_goal(each, row, reference) for each in (value, baseline))
        verdict = SAME if show(value) == show(baseline) or after == before else BETTER if after < before else WORSE
        real = "" if reference is None else f", real music {show(reference)}"
        changes.append(SampleChange(name, verdict, f"{name} {show(value)} (untrained base {show(baseline)}{real})"))
    return changes


def _distance_from_goal(value: float, row: Mapping[str, Any], reference: float | None) -> float:
    """Smaller is better. Without real music to match, more is better of all that should match it."""
    if row.get("direction") == "lower_is_better":
        return value
    if row.get("direction") == "match_reference" and reference is not None:
        return abs(value - reference)
    return -value


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else None


def samples_sentence(scores: Mapping[str, Any]) -> str:
    """What became worse and better in the samples; says so if nothing was measured."""
    changes = sample_changes(scores)
    if not changes:
        return "Whether the generated audio became better or worse was not measured: listen to it."
    count = _sample_count(scores)
    where = f"In {format_counted(count, 'generated clip')}" if count else "In the generated audio"
    parts = [
        f"{label}: {'; '.join(change.text for change in found)}"
        for label, verdict in (("worse than the untrained base", WORSE), ("better", BETTER))
        if (found := [change for change in changes if change.verdict == verdict])
    ]
    if not parts:
        return f"{where} none of {format_counted(len(changes), 'score')} differs from the untrained base."
    return f"{where}, {'. '.join([parts[0], *(part.capitalize() for part in parts[1:])])}."


def got_worse(scores: Mapping[str, Any]) -> Sequence[SampleChange]:
    """The scores of the samples that are worse than the untrained base's."""
    return [change for change in sample_changes(scores) if change.verdict == WORSE]


def _sample_count(scores: Mapping[str, Any]) -> int:
    """The number of generated clips that were scored; 0 if it is not recorded."""
    value = (scores.get("protocol") or {}).get("generated")
    return value if isinstance(value, int) else 0
