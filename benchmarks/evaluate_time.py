"""Time that `talim evaluate` needs for its scores of a number of clips of ten seconds.

    python -m benchmarks.evaluate_time --clips 100 --num-workers 2

Four in ten clips stand for the adapter's outputs, as many for the base's, the others for held-out music; as many as
outputs are training clips. All are synthetic and made before the clock starts. CPU time of all processes is printed
beside wall time, as the machine may be busy: on `num-workers` free cores the analysis of single clips takes CPU time
over `num-workers`, and everything after it the whole CPU time.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import numpy as np  # noqa: E402

from talim.audio import Audio  # noqa: E402
from talim.corpus.manifest import UNKNOWN, Clip  # noqa: E402
from talim.evaluation import adherence_scores, copy_scores, music_scores, score_table, tradition_scores  # noqa: E402
from talim.metrics.cache import MetricCache  # noqa: E402
from talim.synthesis.performer import perform  # noqa: E402

SECONDS = 10.0


def clip(seed: int) -> tuple[Clip, Audio]:
    """The corpus labels of a synthetic performance, and its audio."""
    slug = ("hindustani", "makam")[seed % 2]
    piece = perform(seed, slug, SECONDS)
    truth: Any = piece.truth
    name = f"{seed}.flac"
    labels = Clip(
        id=str(seed),
        file=name,
        recording=str(seed),
        performer=UNKNOWN,
        start_seconds=0.0,
        seconds=SECONDS,
        caption=f"piece {seed}",
        split="held_out",
        audio_hash="",
        source_file=name,
        source_hash="",
        tradition=slug,
        mode=truth.mode,
        cycle=truth.cycle or "none",
    )
    return labels, Audio(np.asarray(piece.samples, np.float32)[None], piece.rate_hz)


def cpu_seconds() -> float:
    """CPU time of this process and of its finished children."""
    return sum(os.times()[:4])


class Clock:
    """Prints the wall and CPU seconds of each part."""

    def __init__(self) -> None:
        self.first = self.last = (time.perf_counter(), cpu_seconds())

    def lap(self, part: str, since: tuple[float, float] | None = None) -> None:
        """Print the time since the last call, or since `since`."""
        now = time.perf_counter(), cpu_seconds()
        wall, cpu = (a - b for a, b in zip(now, since or self.last, strict=True))
        print(f"{part:32s} {wall:8.1f} {cpu:8.1f}", flush=True)
        self.last = now


def main(arguments: Iterable[str] | None = None) -> None:
    """Print wall and CPU seconds by part."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--num-workers", type=int, default=2)
    options = parser.parse_args(None if arguments is None else list(arguments))
    outputs = round(0.4 * options.clips)
    clips = [clip(seed) for seed in range(options.clips + outputs)]
    adapted, base, held_out, training = (
        clips[:outputs],
        clips[outputs : 2 * outputs],
        clips[2 * outputs : options.clips],
        clips[options.clips :],
    )
    with tempfile.TemporaryDirectory() as folder:
        cache = MetricCache(folder)
        print(f"{'part':32s} {'wall':>8s} {'CPU':>8s}  seconds")
        clock = Clock()
        prompts, held_out_labels = [labels for labels, _ in adapted], [labels for labels, _ in held_out]
        sets = [
            music_scores.load_inputs(
                [sound for _, sound in part], [labels for labels, _ in part], SECONDS, cache, options.num_workers
            )
            for part in (adapted, base, held_out)
        ]
        clock.lap(f"analysis of {options.clips} clips")
        score_table.clip_measure_rows(sets[0], sets[2], sets[1])
        score_table.distance_rows(sets[0], sets[2], sets[1], cache, np.random.default_rng(0))
        clock.lap("distances")
        tradition_scores.tradition_scores(prompts, sets[0], sets[1], held_out_labels, sets[2])
        clock.lap("mode and cycle")
        adherence_scores.prompt_adherence_scores(prompts, sets[0], sets[1], held_out_labels, sets[2], cache)
        clock.lap("prompt adherence")
        sounds = {labels.file: sound for labels, sound in training}
        corpus: Any = SimpleNamespace(
            train=[labels for labels, _ in training], folder=Path(), read_clip=lambda labels: sounds[labels.file]
        )
        copy_scores.copy_scores(corpus, sets[0], sets[1], sets[2], "synthetic clips have none", cache)
        clock.lap("copies")
        clock.lap("all", clock.first)


if __name__ == "__main__":
    main()
