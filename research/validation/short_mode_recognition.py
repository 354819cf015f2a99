"""Accuracy of mode recognition on short pieces, quoted at the check "mode" in docs/guides/briefs.md.

python -m research.validation.short_mode_recognition   (synthetic pieces of five ragas, three seeds each; takes minutes)
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from talim import audio
from talim.audio import Audio
from talim.errors import TalimError
from talim.evaluation.recognize_mode import recognize_mode
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performer import perform

RAGAS = ("yaman", "bhairav", "bhairavi", "malkauns", "todi")
SEEDS = range(3)


def rank(raga: str, seed: int, seconds: float, file: Path) -> int | None:
    """The rank of the performed raga among all; None if there is too little melody."""
    piece = perform(seed, "hindustani", seconds, PerformanceRequest(mode=raga))
    audio.write(file, Audio(np.atleast_2d(piece.samples), piece.rate_hz))
    try:
        ranked = recognize_mode(file, "hindustani")["modes"]
    except TalimError:
        return None
    return next(number for number, row in enumerate(ranked, start=1) if row["slug"] == raga)


def main() -> None:
    """Print, for each length, how often the true raga is among the top three."""
    with tempfile.TemporaryDirectory() as folder:
        for seconds in (10.0, 30.0, 60.0):
            ranks = [rank(raga, seed, seconds, Path(folder) / "x.flac") for raga in RAGAS for seed in SEEDS]
            top_3 = sum(each is not None and each <= 3 for each in ranks)
            print(f"{seconds:g} s: {top_3} of {len(ranks)} in the top 3; ranks {ranks}", flush=True)


if __name__ == "__main__":
    main()
