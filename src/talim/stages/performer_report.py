"""How the performer moves beside real players: the same measures of real pitch tracks and of performed ones.

Run it:  python -m talim.stages.performer_report --hindustani DIR --makam DIR --out docs/performer.md
DIR holds pitch tracks (.npz with cents and hop_s, anywhere below it) and, where there is one, metadata.csv with the
tempo of each (tempo_mpm, or tempo_bpm). Nothing of the real tracks is kept but the percentiles in the table.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talim.errors import TalimError
from talim.metrics.movement import MEANING, measures
from talim.run import write_text
from talim.traditions.arranging import Wishes
from talim.traditions.performer import perform
from talim.traditions.truth import HOP_SECONDS, Truth

PERCENTILES = (5, 50, 95)
FIRST_SEED = 50_000
CYCLES = {
    "tempo_bpm": "beats (matras, pulses) a minute in metred parts",
    "cycle_seconds": "length of a cycle (s)",
    "strokes_per_second": "beats that fall in a second",
}


@dataclass(frozen=True)
class Row:
    """One measure: percentiles of the real tracks, percentiles of the performed ones, and what it means."""

    name: str
    real: tuple[float, float, float]
    performed: tuple[float, float, float]
    meaning: str

    @property
    def inside(self) -> bool:
        """Whether the performed median lies within the real tracks' 5th to 95th percentile."""
        return self.real[0] <= self.performed[1] <= self.real[2]


def real_measures(folder: Path) -> list[dict[str, float]]:
    """The measures of every pitch track below a folder; TalimError where there is none."""
    found = []
    for file in sorted(folder.rglob("*.npz")):
        with np.load(file, allow_pickle=False) as track:
            if "cents" not in track or "hop_s" not in track:
                raise TalimError(f"{file}: a pitch track has the arrays cents and hop_s, this one {list(track)}")
            found.append(measures(track["cents"], float(track["hop_s"])))
    if not found:
        raise TalimError(f"{folder}: no pitch tracks (.npz) found; name a folder that holds some")
    return found


def performed_truths(tradition: str, count: int, seconds: float) -> list[Truth]:
    """Truths of `count` performances of mixed forms, seeds FIRST_SEED and on."""
    truths = [perform(FIRST_SEED + n, tradition, seconds).truth for n in range(count)]
    return [truth for truth in truths if truth is not None]


def rows(real: Sequence[dict[str, float]], performed: Sequence[dict[str, float]]) -> list[Row]:
    """One row a measure, in the order of MEANING."""
    return [
        Row(name, spread([m[name] for m in real]), spread([m[name] for m in performed]), meaning)
        for name, meaning in MEANING.items()
    ]


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """5th, 50th and 95th percentile of the values that are numbers; NaN thrice where none is."""
    known = np.array([v for v in values if np.isfinite(v)])
    low, middle, high = np.percentile(known, PERCENTILES) if known.size else (np.nan,) * 3
    return float(low), float(middle), float(high)
