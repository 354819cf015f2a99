"""The scores of a trial's generated audio as its measures, from the run's scores.json."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from talim.evaluation import intervals
from talim.evaluation.score_table import UNIT_RANGES

PREFIX = "score."


@dataclass(frozen=True)
class ScoreMeasures:
    """Each score as `score.NAME`: by recording of the prompts, or once as "run" where it is of all clips together.

    `notes` say why a score has no value or decides nothing; such ones are no measures. `facts` are, by the score's own
    name, its value for real music ("reference") and the base ("baseline"), the p value of telling these apart
    ("separation_p"), and the values beyond which it cannot go ("floor", "ceiling").
    """

    measures: dict[str, dict[str, float]] = field(default_factory=dict)
    directions: dict[str, str] = field(default_factory=dict)
    notes: dict[str, str] = field(default_factory=dict)
    facts: dict[str, dict[str, float | None]] = field(default_factory=dict)


def score_measures(scores: Mapping[str, Any]) -> ScoreMeasures:
    """The measures in the content of a scores.json."""
    found = ScoreMeasures()
    recordings = [prompt["recording"] for prompt in scores["prompts"]]
    for row in scores["scores"]:
        name = PREFIX + row["name"]
        if row.get("value") is None:
            found.notes[name] = str(row["sentence"]).rpartition("not measured, because ")[2]
            continue
        if row.get("undecided"):
            found.notes[name] = row["undecided"]
            continue
        found.measures[name] = _by_recording(row, recordings)
        found.directions[name] = str(row["direction"])
        found.facts[row["name"]] = {
            **{fact: row.get(fact) for fact in ("reference", "baseline", "separation_p")},
            **_bounds(row),
        }
    return found


def _by_recording(row: Mapping[str, Any], recordings: Sequence[str]) -> dict[str, float]:
    values = [(value, name) for value, name in zip(row.get("per_prompt") or [], recordings, strict=False)]
    measured = [(float(value), name) for value, name in values if value is not None]
    if not measured or row["name"].startswith("copied_"):  # a copy is told of all clips together
        return {"run": float(row["value"])}
    return intervals.mean_by_recording(*map(list, zip(*measured, strict=True)))


def _bounds(row: Mapping[str, Any]) -> dict[str, float | None]:
    """The least and greatest value; of a distance the least is that of real music through the base's codec."""
    low, high = UNIT_RANGES.get(row["unit"], intervals.UNBOUNDED)
    if row.get("resynthesis") is not None:
        low = row["resynthesis"]
    return {"floor": low if math.isfinite(low) else None, "ceiling": high if math.isfinite(high) else None}
