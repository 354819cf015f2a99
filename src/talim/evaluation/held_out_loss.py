"""Losses on held-out clips; of a finished run also alone, without making music, for a curve that asks no more."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from talim.adapters import serialization
from talim.atomic_io import read_json, write_json
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation import bootstrap
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run
from talim.training import batches, frozen_cache
from talim.training.batches import EncodedClip

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

FILE = "held_out.json"


def prepare_held_out(
    recipe: Recipe, corpus: Corpus, backbone: Backbone, progress: Progress
) -> tuple[list[EncodedClip], frozen_cache.FrozenLayerCache | None]:
    """The held-out clips as the base meets them, and what is kept of the layers below the recipe's design."""
    items = batches.encode_clips(corpus, corpus.held_out, backbone, progress, recipe.training.predict_beats_chords)
    kept, _ = frozen_cache.make_frozen_cache(
        recipe, corpus, backbone, progress, held_out=[item.whole for item in items]
    )
    return items, kept


def per_clip_losses(
    backbone: Backbone,
    items: Sequence[EncodedClip],
    batch_size: int,
    progress: Progress,
    title: str,
    kept: frozen_cache.FrozenLayerCache | None = None,
) -> np.ndarray:
    """Each clip's loss by part (codebook, noise level), float64 [clips, K], with its words and without dropout."""
    found = []
    with torch.no_grad():
        for _, batch in batches.held_out_batches(items, backbone, batch_size, kept):
            found.append(backbone.loss(batch).per_item.double().cpu().numpy())
            progress.step(title, sum(len(f) for f in found), len(items))
    return np.concatenate(found)


def held_out_loss(
    run_folder: Path | str, progress: Progress | None = None, device: str = "auto"
) -> dict[str, Any]:
    """{"mean", "ci95", "per_recording"} of the loss with the adapter; kept in RUN/held_out.json.

    TalimError if the run is not finished.
    """
    from talim.backbones.load import load
    from talim.training.train import stored_recipe

    run, progress = Run(run_folder), progress or Progress()
    file = run.folder / FILE
    if file.is_file():
        return read_json(file)
    if not run.finished:
        raise TalimError(
            f"{run.folder}: training is not finished; go on with: talim train --out {run.folder}"
        )
    recipe = stored_recipe(run)
    corpus = Corpus.load(recipe.corpus)
    backbone = load(recipe.base, precision=recipe.training.precision, device=device)
    serialization.load(backbone, run.adapter)
    backbone.model.eval()
    items, kept = prepare_held_out(recipe, corpus, backbone, progress)
    losses = per_clip_losses(backbone, items, recipe.training.batch_size, progress, "held-out loss", kept)
    mine = bootstrap.mean_by_recording(losses.mean(axis=1).tolist(), [item.clip.recording for item in items])
    told = {
        "mean": float(np.mean(list(mine.values()))),
        "ci95": bootstrap.bootstrap_ci(mine),
        "per_recording": mine,
    }
    write_json(file, told)
    return told
