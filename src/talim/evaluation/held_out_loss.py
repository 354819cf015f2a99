"""Losses on held-out clips, and the validation loss of a finished run without generating music."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from talim.adapters import serialization
from talim.atomic_io import read_json, write_json
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation import intervals
from talim.evaluation.kept_parts import KeptParts
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run
from talim.training import batches, frozen_cache
from talim.training.crops import EncodedClip

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.corpus.manifest import Clip

FILE = "validation.json"
NOTHING_KEPT = KeptParts()


def prepare_held_out(
    recipe: Recipe, corpus: Corpus, backbone: Backbone, progress: Progress, chosen: Sequence[Clip] | None = None
) -> tuple[list[EncodedClip], frozen_cache.FrozenLayerCache | None]:
    """The encoded held-out (or `chosen`) clips, and cached activations of the layers below the design, if any."""
    options = recipe.training.predict_beats_chords, recipe.training.melody_from
    clips = batches.encode_clips(corpus, corpus.held_out if chosen is None else chosen, backbone, progress, *options)
    crops = [clip.full_length for clip in clips]
    cache, _ = frozen_cache.make_frozen_cache(recipe, corpus, backbone, progress, held_out=crops)
    return clips, cache


def per_clip_losses(
    backbone: Backbone,
    clips: Sequence[EncodedClip],
    batch_size: int,
    progress: Progress,
    title: str,
    cache: frozen_cache.FrozenLayerCache | None = None,
    kept: KeptParts = NOTHING_KEPT,
) -> np.ndarray:
    """Each clip's loss by part (codebook or noise level), float64 [clips, K], with its caption and without dropout.

    The losses of each batch are `kept` under the `title`, which says what they are.
    """
    groups = [clips[first : first + batch_size] for first in range(0, len(clips), batch_size)]

    def make(missing: list[int]) -> Iterator[tuple[int, np.ndarray]]:
        for number in missing:
            with torch.no_grad():
                ((_, batch),) = batches.held_out_batches(groups[number], backbone, batch_size, cache)
                losses = backbone.loss(batch).per_item.double().cpu().numpy()
            yield number, losses
            progress.step(title, min((number + 1) * batch_size, len(clips)), len(clips))

    progress.step(title, 0, len(clips))
    return np.concatenate(kept.arrays(title, [[item.clip.id for item in group] for group in groups], "part", make))


def validation_loss(run_folder: Path | str, progress: Progress | None = None, device: str = "auto") -> dict[str, Any]:
    """{"mean", "ci95", "per_recording"} of the adapted loss on validation clips; stored in RUN/validation.json.

    Read from there if it is. TalimError if the run is not finished or its corpus has no validation clips.
    """
    from talim.backbones.load import load

    run, progress = Run(run_folder), progress or Progress()
    file = run.folder / FILE
    if file.is_file():
        return read_json(file)
    if not run.finished:
        raise TalimError(f"{run.folder}: training is not finished; resume it with: {run.resume_command}")
    recipe = run.recipe
    corpus = Corpus.load(recipe.corpus)
    backbone = load(run.base, precision=recipe.training.precision, device=device)
    serialization.load(backbone, run.adapter)
    backbone.model.eval()
    clips, cache = prepare_held_out(recipe, corpus, backbone, progress, corpus.validation)
    losses = per_clip_losses(backbone, clips, recipe.training.batch_size, progress, "validation loss", cache)
    per_recording = intervals.mean_by_recording(losses.mean(axis=1).tolist(), [clip.clip.sound_group for clip in clips])
    result = {
        "mean": float(np.mean(list(per_recording.values()))),
        "ci95": intervals.mean_interval(per_recording, bounds=intervals.NOT_NEGATIVE),
        "per_recording": per_recording,
    }
    write_json(file, result)
    return result
