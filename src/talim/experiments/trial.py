"""Trains, evaluates and tidies up one run; and one trial of a study, from its spec to its line of results.jsonl.

A worker process may run many trials: a base is loaded once, and every adapter is removed after its trial. Results do
not depend on what a process ran before.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import math
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from talim.adapters import injection, serialization
from talim.atomic_io import read_json, write_json
from talim.corpus.manifest import Corpus
from talim.design.site_selection import base_parameters
from talim.evaluation import intervals
from talim.evaluation.held_out_loss import prepare_held_out
from talim.evaluation.loss_by_event import (
    EVENT_GROUPS,
    aggregate_by_event,
    frame_losses,
    gains_on_returns,
    replace_first_occurrences,
)
from talim.evaluation.reference_predictors import measure_reference_losses
from talim.experiments import study_corpora
from talim.experiments.learning_curves import read_curve
from talim.experiments.study_file import GenerationSpec, TrialSpec, settings_hash, trial_factors
from talim.interrupts import Interrupted
from talim.planning import training_step
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run
from talim.training.batches import encode_clips
from talim.training.resource_usage import MemoryGrowth

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.synthesis.ground_truth import GroundTruth
    from talim.training.crops import EncodedClip

MEMORY_FILE = "memory.json"
Measures = dict[str, dict[str, float]]  # measure -> recording (or "run") -> value
ResultT = TypeVar("ResultT")


def train_and_evaluate(
    recipe: Recipe,
    run: Run,
    evaluate: Callable[[], ResultT],
    progress: Progress,
    *,
    device: str = "auto",
    backbone: Backbone | None = None,
) -> ResultT:
    """Train the run (or resume it) unless it is finished, return the result of `evaluate`, and free the memory.

    With a loaded `backbone`, the recipe's base, the peak memory of training is written to RUN/memory.json. Interrupted
    by Ctrl-C, the message says to rerun the same command.
    """
    from talim.training.train import train

    try:
        with MemoryGrowth(backbone) if backbone and not run.finished else contextlib.nullcontext() as growth:
            train(recipe, run.folder, progress, device, backbone)
        if growth is not None:
            write_json(run.folder / MEMORY_FILE, {"peak_memory_bytes": growth.peak_bytes})
        return evaluate()
    except Interrupted as interrupted:
        raise interrupted.for_outer_command() from None
    finally:
        free_memory()


def free_memory() -> None:
    """Release models that are no longer used: they hold reference cycles, so the garbage collector has to run."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def delete_artifacts(run: Run) -> None:
    """Delete the adapter and the audio of an evaluated run; the files that are left suffice for a report."""
    for folder in (run.adapter, run.samples, run.metrics_cache):
        shutil.rmtree(folder, ignore_errors=True)


@dataclass(frozen=True)
class TrialJob:
    """A trial with the paths that it needs, as it is sent to a process."""

    spec: TrialSpec
    folder: Path  # the study's
    corpus: Path
    base: str  # as `talim.backbones.load` takes it
    device: str = "auto"

    @property
    def run(self) -> Run:
        return Run(self.folder / "runs" / self.spec.id)


class TrialWorkerCache:
    """What a process keeps between trials: the last base, and by corpus its ground truth and the base's losses."""

    def __init__(self) -> None:
        self._base: tuple[tuple[str, str, str], Backbone] | None = None
        self._ground_truth: dict[str, dict[str, GroundTruth]] = {}
        self._base_losses: dict[tuple[Any, ...], list[np.ndarray]] = {}
        self._reference_losses: dict[tuple[Any, ...], Mapping[str, np.ndarray]] = {}

    def base(self, recipe: Recipe, device: str) -> Backbone:
        """The recipe's base without adapters; a different base is released first."""
        from talim.backbones.load import load

        key = (recipe.base, recipe.training.precision, device)
        if self._base is None or self._base[0] != key:
            self._base = None
            self._base_losses.clear()
            self._reference_losses.clear()
            gc.collect()
            backbone = load(recipe.base, precision=recipe.training.precision, device=device)
            _warm_up(backbone.device.type)
            self._base = key, backbone
        return self._base[1]

    def ground_truth(self, spec: TrialSpec, corpus: Corpus) -> dict[str, GroundTruth]:
        """The ground truth by held-out recording; empty for a corpus that is not synthetic."""
        if corpus.hash not in self._ground_truth:
            self._ground_truth[corpus.hash] = study_corpora.ground_truth_of(spec.corpus_spec, corpus)
        return self._ground_truth[corpus.hash]

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
def _warm_up(device: str) -> None:
    """Take a few steps, so that one-time allocations of kernels are not attributed to the first trial."""
    if device == "cpu":
        training_step.measure_step(training_step.MINIATURE)


def run_trial(job: TrialJob, cache: TrialWorkerCache, progress: Progress | None = None) -> dict[str, Any]:
    """Run a trial, or resume it; returns its line of results.jsonl, with status "done"."""
    progress, run, spec = progress or Progress(), job.run, job.spec
    corpus = Corpus.load(job.corpus)
    recipe = spec.recipe.model_copy(update={"base": job.base, "corpus": str(job.corpus)})
    backbone = cache.base(recipe, job.device)
    measure = functools.partial(_measure, job, recipe, corpus, backbone, cache, progress)
    measures, directions = train_and_evaluate(recipe, run, measure, progress, device=job.device, backbone=backbone)
    cost = _cost(run)
    # CPU time where there is any: other programs do not affect it
    measures["log_seconds"] = {"run": math.log(cost["cpu_seconds"] or cost["seconds"])}
    if cost["peak_memory_bytes"]:
        measures["log_memory"] = {"run": math.log(cost["peak_memory_bytes"])}
    base, trained = base_parameters(backbone), read_json(run.cost)["trainable_parameters"]
    return {
        **trial_record(spec),
        "status": "done",
        "factors": trial_factors(spec, base, trained),
        "parameters": trained,
        "trained_percent": round(100 * trained / base, 6),
        "measures": measures,
        "curve": read_curve(run),
        "directions": directions | dict.fromkeys(measures.keys() & {"log_seconds", "log_memory"}, LOWER),
        "cost": cost,
        "run": f"runs/{spec.id}",
        "corpus_hash": corpus.hash,
        "settings_hash": settings_hash(spec, corpus.hash),
        "protocol_hash": read_json(run.scores)["protocol"]["hash"] if run.scores.is_file() else "",
    }


def trial_record(spec: TrialSpec) -> dict[str, Any]:
    """The first values of a trial's line of results.jsonl."""
    return {"id": spec.id, "grid": spec.grid, "design": str(spec.design), "seed": spec.seed, "corpus": spec.corpus}


def failed_trial_record(spec: TrialSpec, error: str) -> dict[str, Any]:
    """The line of a trial that failed."""
    reason = " ".join(error.split()) or "no error message"
    return {**trial_record(spec), "status": "failed", "error": reason}


HIGHER, LOWER = "higher_is_better", "lower_is_better"


def _measure(
    job: TrialJob, recipe: Recipe, corpus: Corpus, backbone: Backbone, cache: TrialWorkerCache, progress: Progress
) -> tuple[Measures, dict[str, str]]:
    """Losses and, if the study generates audio, its scores; with the direction of each."""
    measures = _loss_measures(job, recipe, corpus, backbone, cache, progress)
    directions = {name: LOWER if name.endswith("_loss") else HIGHER for name in measures}
    if job.spec.generation is not None:
        scores, score_directions = _score_measures(job.run, job.spec.generation, backbone, progress)
        measures, directions = measures | scores, directions | score_directions
    return measures, directions


def _loss_measures(
    job: TrialJob, recipe: Recipe, corpus: Corpus, backbone: Backbone, cache: TrialWorkerCache, progress: Progress
) -> Measures:
    """Losses of base, adapter and predictors that need no model, by held-out recording, and the loss reduction.

    With ground truth also by musical event.
    """
    batch_size = recipe.training.batch_size
    clips, frozen_cache = prepare_held_out(recipe, corpus, backbone, progress)
    key = (corpus.hash, batch_size, recipe.training.predict_beats_chords, recipe.training.melody_from)
    backbone.model.eval()
    base_losses = cache.base_losses(key, backbone, clips, batch_size, progress)
    ground_truth, rate_hz = cache.ground_truth(job.spec, corpus), backbone.frame_rate_hz
    replaced = replace_first_occurrences(clips, ground_truth, rate_hz) if ground_truth else {}
    altered = [*replaced.values()]
    absent = cache.base_losses((*key, "replaced"), backbone, altered, batch_size, progress)
    with injection.temporary_adapters(backbone.model):
        serialization.load(backbone, job.run.adapter)
        backbone.model.eval()
        adapted_losses = frame_losses(backbone, clips, batch_size, progress, "loss with adapter", frozen_cache)
        adapted_absent = frame_losses(backbone, altered, batch_size, progress, "loss with adapter, others' themes")
    names = [item.clip.sound_group for item in clips]
    losses = [[float(row.mean()) for row in rows] for rows in (base_losses, adapted_losses)]
    base, adapted = (intervals.mean_by_recording(values, names) for values in losses)
    reduction = {name: base[name] - adapted[name] for name in base}
    measures: Measures = {"base_loss": base, "adapted_loss": adapted, "loss_reduction": reduction}
    references = cache.reference_losses(key, corpus, backbone, clips, batch_size, progress)
    for predictor, rows in references.items():
        measures[f"{predictor}_loss"] = intervals.mean_by_recording(rows.mean(axis=1).tolist(), names)
    if ground_truth:
        measures |= _event_measures(aggregate_by_event(clips, base_losses, adapted_losses, ground_truth, rate_hz))
    present = [base_losses[n] for n in replaced], [adapted_losses[n] for n in replaced]
    if gains := gains_on_returns(altered, present, (absent, adapted_absent), ground_truth, rate_hz):
        measures["repeat_gain"] = gains
    return measures


def _event_measures(events: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Measures:
    """The loss reduction by recording for each group of events."""
    reductions: Measures = {f"loss_reduction_{group}": {} for group in EVENT_GROUPS}
    for recording, groups in events.items():
        for group, loss in groups.items():
            reductions[f"loss_reduction_{group}"][recording] = float(loss["base_loss"] - loss["adapted_loss"])
    return {name: values for name, values in reductions.items() if values}


def _score_measures(
    run: Run, generation: GenerationSpec, backbone: Backbone, progress: Progress
) -> tuple[Measures, dict[str, str]]:
    """Every score of generated audio that has a value, as `score.NAME`, and its direction."""
    from talim.evaluation.evaluate import evaluate
    from talim.generation.generate import GenerationOptions

    if not run.scores.is_file():
        options = GenerationOptions()
        if backbone.family == "mustango":
            options = GenerationOptions(sampling_steps=generation.steps, sampler=generation.sampler)
        with injection.temporary_adapters(backbone.model):
            evaluate(
                run.folder,
                progress,
                num_prompts=generation.clips,
                num_continuations=0,  # only the scores of samples are compared
                seconds=generation.seconds,
                options=options,
                backbone=backbone,
            )
    rows = {f"score.{row['name']}": row for row in read_json(run.scores)["scores"] if row.get("value") is not None}
    directions = {name: str(row["direction"]) for name, row in rows.items()}
    return {name: {"run": float(row["value"])} for name, row in rows.items()}, directions


def _cost(run: Run) -> dict[str, Any]:
    cost, memory = read_json(run.cost), run.folder / MEMORY_FILE
    weights = [path.stat().st_size for path in run.adapter.glob("*.safetensors")]
    return {
        "seconds": cost["device_seconds"],
        "cpu_seconds": cost["cpu_seconds"] if cost["device"].startswith("CPU") else None,
        "peak_memory_bytes": read_json(memory)["peak_memory_bytes"] if memory.is_file() else None,
        "adapter_bytes": sum(weights),
        **{name: cost[name] for name in ("energy_joules", "steps", "flops", "device")},
    }
