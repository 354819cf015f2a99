"""How the performer moves beside real players: the same measures of real pitch tracks and of performed ones.

Run it:  python -m research.validation.synthesis_realism --hindustani DIR --makam DIR DIR --out docs/performer.md
A DIR holds pitch tracks (.npz with cents and hop_s, anywhere below it), or a metadata.csv with tempi (columns
tempo_mpm and tala; or tempo_bpm, tempo_unit, usul_pulses and usul_mertebe), or both. Nothing of the real music is
kept but the percentiles in the table.
"""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from talim.atomic_io import write_text
from talim.errors import TalimError
from talim.metrics.pitch_contour import METRIC_DESCRIPTIONS, contour_measures
from talim.synthesis.ground_truth import HOP_SECONDS, GroundTruth
from talim.synthesis.performer import performance_ground_truth
from talim.traditions.tradition import Tradition, load

PERCENTILES = (5, 50, 95)
FIRST_SEED = 70_000
CYCLE_MEANING = {
    "tempo_bpm": "beats (matras, pulses) a minute, of every piece or section in a metre",
    "cycle_seconds": "length of its cycle (s)",
}
INTRODUCTION = """# The performer beside real players

Made by `{command}`.

Every measure is computed by `talim.metrics.pitch_contour` from pitch tracks alone, the same way for both: real tracks
({real} of them, made from recordings by other people's pitch trackers, with their gaps and octave errors) and performed
ones ({performed} performances of {seconds:g} s in mixed forms, instruments and ensembles, seeds {first} to {last}: the
leading player's pitch as it was rendered). Tempi of the real music are annotations: of the recordings' sections
(Hindustani), of scores (makam). A measure is *inside* where the performed median lies between the real 5th and 95th
percentile.

The performer's manners were tuned on these same real tracks, with other seeds, so the table shows that they could be
met, not that they would be met on other recordings. It is blind to whatever pitch alone does not show.
"""


@dataclass(frozen=True)
class PercentileComparison:
    """One measure: 5th, 50th and 95th percentile of the real tracks, and of the performed ones."""

    name: str
    real: tuple[float, float, float]
    performed: tuple[float, float, float]

    @property
    def inside(self) -> bool:
        """Whether the performed median lies within the real tracks' 5th to 95th percentile."""
        return self.real[0] <= self.performed[1] <= self.real[2]


def real_measures(folder: Path) -> list[dict[str, float]]:
    """The measures of every pitch track below a folder; TalimError where a file is no pitch track."""
    found = []
    for file in sorted(folder.rglob("*.npz")):
        with np.load(file, allow_pickle=False) as track:
            if "cents" not in track or "hop_s" not in track:
                raise TalimError(
                    f"{file}: a pitch track has the arrays cents and hop_s, this one {list(track)}"
                )
            found.append(contour_measures(track["cents"], float(track["hop_s"])))
    return found


def performed_truths(tradition: str, count: int, seconds: float) -> list[GroundTruth]:
    """Truths of `count` performances of mixed forms, seeds FIRST_SEED and on."""
    return [performance_ground_truth(FIRST_SEED + n, tradition, seconds) for n in range(count)]


def rows(
    real: Sequence[dict[str, float]], performed: Sequence[dict[str, float]], meaning: dict[str, str]
) -> list[PercentileComparison]:
    """One row a measure, in the order of `meaning`."""
    return [
        PercentileComparison(
            name, percentile_range([m[name] for m in real]), percentile_range([m[name] for m in performed])
        )
        for name in meaning
    ]


def percentile_range(values: Sequence[float]) -> tuple[float, float, float]:
    """5th, 50th and 95th percentile of the values that are numbers; NaN thrice where none is."""
    known = np.array([v for v in values if np.isfinite(v)])
    low, middle, high = np.percentile(known, PERCENTILES) if known.size else (np.nan,) * 3
    return float(low), float(middle), float(high)


def real_cycles(folder: Path, tradition: Tradition) -> list[dict[str, float]]:
    """Tempo and cycle length of every row with a tempo in the metadata.csv files below a folder."""
    found = []
    for file in sorted(folder.rglob("metadata.csv")):
        with open(file, encoding="utf-8", newline="") as handle:
            found += [cycle for row in csv.DictReader(handle) if (cycle := annotated(row, tradition))]
    return found


def annotated(row: dict[str, str], tradition: Tradition) -> dict[str, float] | None:
    """Tempo in beats a minute and cycle length of one row; None where it has no tempo or no known cycle."""
    try:
        if row.get("tempo_mpm"):
            tempo, beats = float(row["tempo_mpm"]), tradition.cycle(row["tala"]).beats
        elif row.get("tempo_bpm"):
            # A tempo is written for a note value (1/4), a pulse is the usul's own (1/8).
            above, below = row["tempo_unit"].split("/")
            tempo = float(row["tempo_bpm"]) * float(row["usul_mertebe"]) * float(above) / float(below)
            beats = float(row["usul_pulses"])
        else:
            return None
    except (KeyError, ValueError, ZeroDivisionError, TalimError):
        return None
    return {"tempo_bpm": tempo, "cycle_seconds": 60 * beats / tempo} if tempo > 0 and beats > 0 else None


def performed_cycles(truths: Sequence[GroundTruth]) -> list[dict[str, float]]:
    """Tempo and cycle length of every performance in a metre."""
    return [
        {"tempo_bpm": t.tempo_bpm, "cycle_seconds": 60 * t.cycle_beats / t.tempo_bpm}
        for t in truths
        if t.tempo_bpm and t.cycle_beats
    ]


def compare_tradition(
    tradition_name: str, folders: Sequence[Path], count: int, seconds: float
) -> tuple[list[PercentileComparison], int]:
    """All rows of one tradition, and the number of real pitch tracks."""
    tradition = load(tradition_name)
    real = [m for folder in folders for m in real_measures(folder)]
    if not real:
        names = ", ".join(map(str, folders))
        raise TalimError(f"{names}: no pitch tracks (.npz) found; name a folder that holds some")
    truths = performed_truths(tradition_name, count, seconds)
    performed = [contour_measures(truth.voices[0].cents, HOP_SECONDS) for truth in truths]
    annotations = [c for folder in folders for c in real_cycles(folder, tradition)]
    cycles = rows(annotations, performed_cycles(truths), CYCLE_MEANING) if annotations else []
    return rows(real, performed, METRIC_DESCRIPTIONS) + cycles, len(real)


def table(title: str, found: Sequence[PercentileComparison]) -> str:
    """One tradition as a Markdown table, with how many measures are inside."""
    lines = [
        f"## {title}",
        "",
        f"{sum(row.inside for row in found)} of {len(found)} measures are inside.",
        "",
        "| measure | real 5 % | real median | real 95 % | performed 5 % | performed median | performed 95 % | inside |",
        "|---|--:|--:|--:|--:|--:|--:|---|",
    ]
    for row in found:
        cells = " | ".join(format_significant(value) for value in (*row.real, *row.performed))
        lines.append(f"| {row.name} | {cells} | {'yes' if row.inside else '**no**'} |")
    return "\n".join(lines) + "\n"


def format_significant(value: float) -> str:
    """A number with three figures."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def page(parts: Sequence[str], introduction: str) -> str:
    """The whole document."""
    meanings = [f"| {name} | {meaning} |" for name, meaning in (METRIC_DESCRIPTIONS | CYCLE_MEANING).items()]
    legend = "\n".join(["## What is measured", "", "| measure | meaning |", "|---|---|", *meanings])
    return "\n".join([introduction, *parts, legend]) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, and write the page."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--hindustani", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--makam", type=Path, nargs="+", required=True, metavar="DIR")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE")
    parser.add_argument("--performances", type=int, default=60)
    parser.add_argument("--seconds", type=float, default=60.0)
    given = parser.parse_args(arguments)
    parts, total = [], 0
    for name, folders in (("hindustani", given.hindustani), ("makam", given.makam)):
        found, tracks = compare_tradition(name, folders, given.performances, given.seconds)
        parts.append(table(load(name).name, found))
        total += tracks
    introduction = INTRODUCTION.format(
        command="python -m research.validation.synthesis_realism --hindustani DIR --makam DIR DIR --out FILE",
        real=total,
        performed=2 * given.performances,
        seconds=given.seconds,
        first=FIRST_SEED,
        last=FIRST_SEED + given.performances - 1,
    )
    write_text(given.out, page(parts, introduction))


if __name__ == "__main__":
    try:
        main()
    except TalimError as error:
        sys.exit(f"{error}")
