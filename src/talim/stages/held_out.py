"""The held-out loss of a finished run alone, without making music: for runs that only a curve asks about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from talim.adapters import store
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.run import Run, read_json, write_json
from talim.stages import batches, intervals, prefix
from talim.stages.progress import Progress

FILE = "held_out.json"


def held_out_loss(
    run_folder: Path | str, progress: Progress | None = None, device: str = "auto"
) -> dict[str, Any]:
    """{"mean", "interval", "per_recording"} of the loss with the adapter; kept in RUN/held_out.json.

    TalimError if the run is not finished.
    """
    from talim.backbones.load import load
    from talim.stages.evaluate import per_clip_losses
    from talim.stages.train import stored_recipe

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
    store.load(backbone, run.adapter)
    backbone.model.eval()
    items = batches.items(corpus, corpus.held_out, backbone, progress, recipe.training.predict_music)
    kept, _ = prefix.chosen(recipe, corpus, backbone, progress, held_out=[item.whole for item in items])
    losses = per_clip_losses(backbone, items, recipe.training.batch_size, progress, "held-out loss", kept)
    mine = intervals.by_recording(losses.mean(axis=1).tolist(), [item.clip.recording for item in items])
    told = {
        "mean": float(np.mean(list(mine.values()))),
        "interval": intervals.interval(mine),
        "per_recording": mine,
    }
    write_json(file, told)
    return told
