"""How long `talim evaluate` listens: everything that it measures of so many clips of ten seconds.

Run it:  python benchmarks/judging.py --clips 100 --jobs 2
Four in ten clips stand for outputs, as many for the base's, the others for held-out music; as many as outputs are for
training. All are performances, made before the clock starts. Process CPU time of all jobs is told beside the clock on
the wall, because a machine may be busy with other things: on `jobs` free cores it takes CPU time over `jobs` for what
is heard clip by clip, and the whole CPU time of what follows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402

from talim.audio import Audio  # noqa: E402
from talim.evaluation import adherence_scores, copy_scores, music_scores, score_table, tradition_scores  # noqa: E402
from talim.metrics.cache import MetricCache  # noqa: E402
from talim.synthesis.performer import perform  # noqa: E402
from talim.synthesis.western_instruments import RATE_HZ

SECONDS = 10.0


def clip(seed: int) -> tuple[Any, Audio]:
    """A performance and the words of a corpus for it."""
    slug = ("hindustani", "makam")[seed % 2]
    made = perform(seed, slug, SECONDS)
    words = {
        "tradition": slug, "mode": made.truth.mode, "cycle": made.truth.cycle or "none", "instruments": "unknown",
        "caption": f"piece {seed}", "recording": str(seed), "tonic_hz": None, "extra": {}, "file": f"{seed}.flac",
    }  # fmt: skip
    return SimpleNamespace(**words), Audio(np.asarray(made.samples, np.float32)[None], RATE_HZ)


def cpu_seconds() -> float:
    """Of this process and of those that it has waited for."""
    return sum(os.times()[:4])


class Clock:
    """Prints what each part took since the last."""

    def __init__(self) -> None:
        self.first = self.last = (time.perf_counter(), cpu_seconds())

    def tell(self, part: str, since: tuple[float, float] | None = None) -> None:
        """A line: wall and CPU seconds."""
        now = time.perf_counter(), cpu_seconds()
        wall, cpu = (a - b for a, b in zip(now, since or self.last, strict=True))
        print(f"{part:32s} {wall:8.1f} {cpu:8.1f}", flush=True)
        self.last = now


def main() -> None:
    """Print wall and CPU seconds by part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--jobs", type=int, default=2)
    given = parser.parse_args()
    outputs, real = round(0.4 * given.clips), given.clips - 2 * round(0.4 * given.clips)
    made = [clip(seed) for seed in range(2 * outputs + real + outputs)]
    own, base, held, known = (
        made[start:stop]
        for start, stop in (
            (0, outputs),
            (outputs, 2 * outputs),
            (2 * outputs, given.clips),
            (given.clips, None),
        )
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = MetricCache(folder)
        print(f"{'part':32s} {'wall':>8s} {'CPU':>8s}  seconds")
        clock = Clock()
        asked, chosen = [words for words, _ in own], [words for words, _ in held]
        sets = [
            music_scores.load_inputs(
                [sound for _, sound in part], [words for words, _ in part], SECONDS, cache, given.jobs
            )
            for part in (own, base, held)
        ]
        clock.tell(f"hearing {given.clips} clips")
        score_table.clip_measure_rows(sets[0], sets[2], sets[1])
        score_table.distance_rows(sets[0], sets[2], sets[1], cache, np.random.default_rng(0))
        clock.tell("distances")
        tradition_scores.tradition_scores(asked, sets[0], sets[1], chosen, sets[2])
        clock.tell("mode and cycle")
        adherence_scores.prompt_adherence_scores(asked, sets[0], sets[1], chosen, sets[2], cache)
        clock.tell("adherence")
        sounds = {words.file: sound for words, sound in known}
        corpus: Any = SimpleNamespace(
            train=[words for words, _ in known], folder=Path(), read_clip=lambda words: sounds[words.file]
        )
        copy_scores.copy_scores(corpus, sets[0], sets[1], sets[2], "performances have none", cache)
        clock.tell("copies")
        clock.tell("all", clock.first)


if __name__ == "__main__":
    main()
