"""Ten epochs over an hour of music at MusicGen-small's shape with random weights and the frozen-layer cache.

    python -m benchmarks.one_hour --design conv@post:2M --minutes 60 --threads 2

Clips of 5 s, batch size 1, bf16. Tokens and text states exist beforehand, as after `talim prepare` and the first run
on a corpus; filling the cache is included. CPU time is printed beside wall time, as the machine may be busy.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import torch

from research.validation import frozen_cache_speedup
from research.validation.random_musicgen import random_musicgen
from talim.corpus.feature_cache import FeatureCache
from talim.design import site_selection
from talim.progress import default
from talim.recipe import Recipe
from talim.training.frozen_cache import FrozenLayerCache

CLIP_SECONDS, EPOCHS = 5.0, 10


def main() -> None:
    """Print the number of clips and steps and the time that they took."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--design", default="conv@post:2M")
    parser.add_argument("--minutes", type=float, default=60.0, help="length of the music")
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    backbone = random_musicgen(frozen_cache_speedup.SHAPE, torch.bfloat16)
    items = frozen_cache_speedup.random_items(
        round(CLIP_SECONDS * backbone.frame_rate_hz), round(60 * options.minutes / CLIP_SECONDS)
    )
    training = {"batch_size": 1}
    recipe = Recipe.model_validate({"design": options.design, "corpus": "none", "training": training})
    steps, progress = EPOCHS * len(items), default()
    with (
        tempfile.TemporaryDirectory() as folder,
        frozen_cache_speedup.trainer_with(recipe, backbone, items, Path(folder)) as trainer,
    ):
        below = site_selection.num_frozen_layers(recipe.design, backbone.sites())
        cache = FrozenLayerCache(backbone, below, FeatureCache(Path(folder) / "cache", 10**11))
        wall, cpu = time.perf_counter(), time.process_time()
        for step in range(1, steps + 1):
            frozen_cache_speedup.timed_steps(trainer, cache, [step])
            progress.step("training", step, steps)
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(
        f"{options.design}, {options.minutes:g} min of music, {len(items)} clips, {EPOCHS} epochs, {steps} steps, "
        f"{options.threads} threads: {wall / 60:.1f} min wall time, {cpu / 60:.1f} min CPU time"
    )


if __name__ == "__main__":
    main()
