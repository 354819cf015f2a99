"""Sensitivity of the tempo drift on longer clips: clean, with drift, and after transforms that must not change it.

`python -m research.validation.tempo_drift --data FOLDER --work FOLDER` stores its results as `tempo-*.json` in the
work folder, for the page of `metric_sensitivity`; existing files are not measured again.
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

SECONDS = 28.0  # drift is defined from 24 s, and the offset removes one
TRADITIONS = ("hindustani", "makam")
SEEDS = range(8000, 8004)


def drifts(samples: np.ndarray) -> dict[str, dict[str, float | None]]:
    """The tempo drift of samples [T] at 16 kHz by degradation, None where it is undefined."""
    changes = {"tempo drift": degradations.add_tempo_drift, **degradations.INVARIANT_TRANSFORMS}
    variants = {"clean": samples, **{name: change(samples) for name, change in changes.items()}}
    drifts_by_change = {}
    for name, variant in variants.items():
        drift = rhythm.tempo_drift(rhythm.onset_strength(np.asarray(variant), degradations.RATE_HZ))
        drifts_by_change[name] = {"tempo_drift": drift if np.isfinite(drift) else None}
    return drifts_by_change


def clips(data: Path) -> Iterator[tuple[str, np.ndarray]]:
    """All real clips that are long enough, and synthetic compositions of both traditions with a drum."""
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
    """Measure the clips that the work folder does not hold yet."""
    for name, samples in clips(data):
        file = work / f"tempo-{name}.json"
        if not file.is_file():
            write_json(file, drifts(samples))


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the results."""
    parser = argparse.ArgumentParser(description="Measure the tempo drift before and after known changes.")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds audio")
    parser.add_argument("--work", type=Path, required=True, help="folder of the finished parts")
    options = parser.parse_args(arguments)
    measure(options.work, options.data)
    for file in sorted(options.work.glob("tempo-*.json")):
        print(file.stem, {name: each["tempo_drift"] for name, each in read_json(file).items()})


if __name__ == "__main__":
    main()
