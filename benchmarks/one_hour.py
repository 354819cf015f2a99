"""How long ten epochs over an hour of music take at MusicGen-small's real shape, random weights, with a kept prefix.

Run it:  python benchmarks/one_hour.py --design conv@post:2M --minutes 60 --threads 2
Clips of 5 s, batch 1, bf16. Tokens and text states are there already, as `talim prepare` and the first run of a corpus
leave them; filling the prefix is part of it. CPU time is told beside the clock on the wall, because a machine may be
busy with other things.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from research.validation import frozen_cache_speedup
from talim import recipe as recipes
from talim.corpus.feature_cache import BoundedFeatureCache
from talim.designs import expression, site_selection
from talim.progress import for_terminal
from talim.training.frozen_cache import FrozenLayerCache

CLIP_SECONDS, EPOCHS = 5.0, 10


def main() -> None:
    """Print the clips, the steps and the seconds that they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--design", default="conv@post:2M")
    parser.add_argument("--minutes", type=float, default=60.0, help="of music; fewer for a first look")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backbone = frozen_cache_speedup.random_base(**frozen_cache_speedup.SMALL_MUSICGEN, dtype=torch.bfloat16)
    items = frozen_cache_speedup.random_items(
        round(CLIP_SECONDS * backbone.frame_rate_hz), round(60 * options.minutes / CLIP_SECONDS)
    )
    training = {"batch_size": 1}
    recipe = recipes.build({"design": options.design, "corpus": "none", "training": training})
    steps, progress = EPOCHS * len(items), for_terminal()
    with (
        tempfile.TemporaryDirectory() as folder,
        frozen_cache_speedup.loop_over(recipe, backbone, items, Path(folder)) as loop,
    ):
        below = site_selection.num_frozen_layers(expression.Design.parse(options.design), backbone.sites())
        kept = FrozenLayerCache(backbone, below, BoundedFeatureCache(Path(folder) / "prefix", 10**11))
        wall, cpu = time.perf_counter(), time.process_time()
        for step in range(1, steps + 1):
            frozen_cache_speedup.timed_steps(loop, kept, [step])
            progress.step("training", step, steps)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{options.design}, {options.minutes:g} min of music, {len(items)} clips, {EPOCHS} epochs, {steps} steps, "
        f"{options.threads} threads: {wall / 60:.1f} min on the wall, {cpu / 60:.1f} min of CPU time"
    )


if __name__ == "__main__":
    main()
