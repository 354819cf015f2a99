"""What a process that runs many trials keeps between them; results do not depend on what it ran before."""

from __future__ import annotations

import functools
import gc
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from talim.evaluation.base_results import BaseResults
from talim.evaluation.loss_by_event import frame_losses
from talim.experiments import study_corpora
from talim.planning import training_step
from talim.training.batches import encode_clips
from talim.training.reference_predictors import measure_reference_losses

if TYPE_CHECKING:
    import numpy as np

    from talim.backbones.protocol import Backbone
    from talim.corpus.manifest import Corpus
    from talim.experiments.study_file import TrialSpec
    from talim.progress import Progress
    from talim.recipe import Recipe
    from talim.synthesis.ground_truth import GroundTruth
    from talim.training.crops import EncodedClip


class TrialWorkerCache:
    """What a process keeps between trials: the last base, and by corpus its ground truth and what the base makes alone.

    Of a synthetic corpus also its held-out pieces in other performances, as the base takes them.
    """

    def __init__(self) -> None:
        self._base: tuple[tuple[str, str, str], Backbone] | None = None
        self._ground_truth: dict[str, dict[str, GroundTruth]] = {}
        self._base_losses: dict[tuple[Any, ...], list[np.ndarray]] = {}
        self._reference_losses: dict[tuple[Any, ...], Mapping[str, np.ndarray]] = {}
        self._performed_otherwise: dict[tuple[Any, ...], np.ndarray] = {}
        self._base_results: dict[str, BaseResults] = {}

    def base(self, recipe: Recipe, device: str) -> Backbone:
        """The recipe's base without adapters; a different base is released first."""
        from talim.backbones.load import load

        key = (recipe.base, recipe.training.precision, device)
        if self._base is None or self._base[0] != key:
            self._base = None
            self._base_losses.clear()
            self._reference_losses.clear()
            self._performed_otherwise.clear()
            self._base_results.clear()
            gc.collect()
            backbone = load(recipe.base, precision=recipe.training.precision, device=device)
            _warm_up(backbone.device.type, "bf16" if backbone.dtype == torch.bfloat16 else "fp32")
            self._base = key, backbone
        return self._base[1]

    def ground_truth(self, spec: TrialSpec, corpus: Corpus) -> dict[str, GroundTruth]:
        """The ground truth by held-out recording; empty for a corpus that is not synthetic."""
        if corpus.hash not in self._ground_truth:
            self._ground_truth[corpus.hash] = study_corpora.ground_truth_of(spec.corpus_spec, corpus)
        return self._ground_truth[corpus.hash]

    def performed_otherwise(
        self, spec: TrialSpec, backbone: Backbone, clips: Sequence[EncodedClip], **changes: bool
    ) -> list[EncodedClip]:
        """The clips of a synthetic corpus as their pieces are performed with other options (`PerformanceRequest`)."""
        found = []
        for clip in clips:
            key = (clip.clip.audio_hash, *sorted(changes.items()))
            if key not in self._performed_otherwise:
                sound = study_corpora.perform_otherwise(spec.corpus_spec, clip.clip, **changes)
                self._performed_otherwise[key] = backbone.encode(sound)[:, : clip.targets.shape[1]]
            found.append(replace(clip, targets=self._performed_otherwise[key]))
        return found

    def base_losses(
        self,
        key: tuple[Any, ...],
        backbone: Backbone,
        clips: Sequence[EncodedClip],
        batch_size: int,
        progress: Progress,
    ) -> list[np.ndarray]:
        """The base's losses by clip and frame; the same for all trials on a corpus."""
        if key not in self._base_losses:
            self._base_losses[key] = frame_losses(backbone, clips, batch_size, progress, "loss without adapter")
        return self._base_losses[key]

    def base_results(self, corpus: Corpus) -> BaseResults:
        """What evaluations left of the base alone on a corpus: losses, samples, clips through its codec."""
        return self._base_results.setdefault(corpus.hash, BaseResults())

    def reference_losses(
        self,
        key: tuple[Any, ...],
        corpus: Corpus,
        backbone: Backbone,
        clips: Sequence[EncodedClip],
        batch_size: int,
        progress: Progress,
    ) -> Mapping[str, np.ndarray]:
        """The losses [clips, K] of predictors that need no model; the same for all trials on a corpus."""
        if key not in self._reference_losses:
            training = encode_clips(corpus, corpus.train, backbone, progress)
            self._reference_losses[key] = measure_reference_losses(training, clips, backbone, batch_size).losses
        return self._reference_losses[key]


@functools.cache
def _warm_up(device: str, precision: str) -> None:
    """Take a short step, so that one-time allocations of kernels are not attributed to the first trial."""
    if device == "cpu":
        step = replace(training_step.MINIATURE, crop_seconds=1.0, precision=precision)
        training_step.measure_step(step, 1)
