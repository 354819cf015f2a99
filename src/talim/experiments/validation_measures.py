"""The measures of a preliminary trial: losses of base and adapter on validation clips, never on the test side."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.adapters import injection, serialization
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation.held_out_loss import prepare_held_out
from talim.evaluation.loss_by_event import frame_losses
from talim.experiments.loss_measures import reduction_measures
from talim.progress import Progress
from talim.recipe import Recipe

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.training.crops import EncodedClip

    BaseLosses = Callable[[tuple[Any, ...], Backbone, Sequence[EncodedClip], int, Progress], list[np.ndarray]]


def validation_measures(
    adapter: Path, recipe: Recipe, corpus: Corpus, backbone: Backbone, losses_of_base: BaseLosses, progress: Progress
) -> dict[str, dict[str, float]]:
    """`base_loss`, `adapted_loss` and `loss_reduction` by validation recording; TalimError without validation clips.

    `losses_of_base` gives the base's losses by clip and frame, perhaps kept from an earlier trial with the same key.
    """
    if not corpus.validation:
        raise TalimError(
            f"{corpus.folder}: no validation recordings, on which settings are chosen: give the corpus more recordings"
        )
    batch_size = recipe.training.batch_size
    clips, frozen_cache = prepare_held_out(recipe, corpus, backbone, progress, corpus.validation)
    key = (corpus.hash, "validation", batch_size, recipe.training.predict_beats_chords, recipe.training.melody_from)
    backbone.model.eval()
    base_losses = losses_of_base(key, backbone, clips, batch_size, progress)
    with injection.temporary_adapters(backbone.model):
        serialization.load(backbone, adapter)
        backbone.model.eval()
        adapted_losses = frame_losses(backbone, clips, batch_size, progress, "validation loss", frozen_cache)
    return reduction_measures(clips, base_losses, adapted_losses)
