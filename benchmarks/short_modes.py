"""How far a mode can be told from a short piece: the figures beside the check "mode" in docs/usefulness.md.

python benchmarks/short_modes.py   (performances of five ragas, three seeds each; minutes)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from talim import audio
from talim.audio import Audio
from talim.errors import TalimError
from talim.evaluation.recognize_mode import recognize_modes
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performer import perform

RAGAS = ("yaman", "bhairav", "bhairavi", "malkauns", "todi")
SEEDS = range(3)


def place(raga: str, seed: int, seconds: float, file: Path) -> int | None:
    """Which place the raga that is played takes among all; None where there is too little melody."""
    piece = perform(seed, "hindustani", seconds, PerformanceRequest(mode=raga))
    audio.write(file, Audio(np.atleast_2d(piece.samples), piece.rate_hz))
    try:
        ranked = recognize_modes(file, "hindustani")["modes"]
    except TalimError:
        return None
    return next(number for number, row in enumerate(ranked, start=1) if row["slug"] == raga)


def main() -> None:
    """Print, for each length, how often the true raga is among the first three."""
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (10.0, 30.0, 60.0):
            found = [place(raga, seed, seconds, Path(folder) / "x.flac") for raga in RAGAS for seed in SEEDS]
            near = sum(number is not None and number <= 3 for number in found)
            print(f"{seconds:g} s: {near} of {len(found)} among the first three; places {found}", flush=True)


if __name__ == "__main__":
    main()
