"""Tempo drift on music that is long enough to tell it: clean, drifting, and after what must leave it alone.

`python -m research.validation.tempo_drift --data FOLDER --work FOLDER` keeps what it measures as `pulse-*.json` in the work folder,
from which `sensitivity` makes its page; what lies there already is not measured again.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from research.validation import degradations
from talim import audio
from talim.atomic_io import read_json, write_json
from talim.metrics import rhythm
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performer import perform

SECONDS = 28.0  # drift is answered from 24 s on, and an offset takes one
TRADITIONS = ("hindustani", "makam")
SEEDS = range(8000, 8004)


def drifts(samples: np.ndarray) -> dict[str, dict[str, float | None]]:
    """By damage the tempo drift (`tempo_drift`, None where it is not answered) of samples [T] at 16 kHz."""
    ways = {"tempo drift": degradations.add_tempo_drift, **degradations.INVARIANT_TRANSFORMS}
    changed = {"clean": samples, **{name: way(samples) for name, way in ways.items()}}
    found = {}
    for name, sound in changed.items():
        drift = rhythm.tempo_drift(rhythm.onset_strength(np.asarray(sound), degradations.RATE_HZ))
        found[name] = {"tempo_drift": drift if np.isfinite(drift) else None}
    return found


def clips(data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """All real clips that are long enough, western ones too, and compositions of both traditions with a drum."""
    for file in [f for f in sorted((data / "audio").glob("*/*")) if audio.is_audio_name(f)]:
        whole = audio.read(file).mono().resample(degradations.RATE_HZ)
        if whole.frames >= SECONDS * degradations.RATE_HZ:
            yield file.stem, whole.cut(0, SECONDS).samples[0]
    for slug in TRADITIONS:
        for seed in SEEDS:
            yield (
                f"{slug}-{seed}",
                perform(seed, slug, SECONDS, PerformanceRequest(form="composition", ensemble=3)).samples,
            )


def measure(work: Path, data: Path) -> None:
    """Measure what the work folder does not hold."""
    for name, samples in clips(data):
        file = work / f"pulse-{name}.json"
        if not file.is_file():
            write_json(file, drifts(samples))


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Measure tempo drift before and after known damage.")
    parser.add_argument("--data", type=Path, required=True, help="holds audio")
    parser.add_argument("--work", type=Path, required=True, help="where finished parts are kept")
    asked = parser.parse_args(arguments)
    measure(asked.work, asked.data)
    for file in sorted(asked.work.glob("pulse-*.json")):
        found = {name: one["tempo_drift"] for name, one in read_json(file).items()}
        print(file.stem, found)


if __name__ == "__main__":
    main()
