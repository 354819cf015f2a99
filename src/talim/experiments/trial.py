"""One trial in a process: train it, judge it, tell it in one line of results.jsonl.

A process may run many trials one after the other: the base is loaded once, and what a trial puts into it is taken out
again. A trial comes out the same wherever and after whatever it runs.
"""

from __future__ import annotations

import functools
import gc
import math
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from talim.adapters import injection, serialization
from talim.atomic_io import read_json, write_json
from talim.corpus.manifest import Corpus
from talim.designs.site_selection import base_parameters
from talim.evaluation import bootstrap
from talim.evaluation.held_out_loss import prepare_held_out
from talim.evaluation.loss_by_event import EVENT_GROUPS, aggregate_by_event, frame_losses
from talim.experiments import study_corpora
from talim.experiments.study_file import GenerationSpec, TrialSpec, settings_hash, trial_factors
from talim.planning import training_step
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run
from talim.training.resource_usage import MemoryGrowth

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.generation.generate import GenerationOptions
    from talim.synthesis.ground_truth import GroundTruth
    from talim.training.batches import EncodedClip

MEMORY_FILE = "memory.json"
Measures = dict[str, dict[str, float]]


@dataclass(frozen=True)
class TrialJob:
    """A planned trial with the places it needs to be run, as it is sent to a process."""

    planned: TrialSpec
    folder: Path  # the study's
    corpus: Path
    base: str  # as `talim.backbones.load` takes it
    device: str = "auto"

    @property
    def run(self) -> Run:
        """The trial's run folder."""
        return Run(self.folder / "runs" / self.planned.id)


class TrialWorkerCache:
    """What a process keeps between trials: the last base, and of the last corpora the truth and the base's losses."""

    def __init__(self) -> None:
        self._base: tuple[tuple[str, str, str], Backbone] | None = None
        self._truths: dict[str, dict[str, GroundTruth]] = {}
        self._before: dict[tuple[Any, ...], list[np.ndarray]] = {}

    def base(self, recipe: Recipe, device: str) -> Backbone:
        """The recipe's base, plain; another one that was here is let go first."""
        from talim.backbones.load import load

        key = (recipe.base, recipe.training.precision, device)
        if self._base is None or self._base[0] != key:
            self._base = None
            self._before.clear()
            gc.collect()
            backbone = load(recipe.base, precision=recipe.training.precision, device=device)
            _warm_up(backbone.device.type)
            self._base = key, backbone
        return self._base[1]

    def truths(self, planned: TrialSpec, corpus: Corpus) -> dict[str, GroundTruth]:
        """By held-out recording; nothing where what was played is not on record."""
        if corpus.hash not in self._truths:
            self._truths[corpus.hash] = study_corpora.ground_truth_of(planned.source, corpus)
        return self._truths[corpus.hash]

    def before(
        self,
        key: tuple[Any, ...],
        backbone: Backbone,
        items: Sequence[EncodedClip],
        size: int,
        progress: Progress,
    ) -> list[np.ndarray]:
        """The plain base's losses frame by frame; the same for all trials on a corpus."""
        if key not in self._before:
            self._before[key] = frame_losses(backbone, items, size, progress, "loss without adapter")
        return self._before[key]


@functools.cache
def _warm_up(device: str) -> None:
    """Take a few steps, so that what kernels keep after their first use is not told as the first trial's memory."""
    if device == "cpu":
        training_step.measure_step(training_step.MINIATURE)


def run_trial(order: TrialJob, bench: TrialWorkerCache, progress: Progress | None = None) -> dict[str, Any]:
    """Run a trial, or go on with it where it was cut off; its line of results.jsonl, with status "done"."""
    from talim.training.train import train

    progress, run, planned = progress or Progress(), order.run, order.planned
    corpus = Corpus.load(order.corpus)
    recipe = planned.recipe.model_copy(update={"base": order.base, "corpus": str(order.corpus)})
    backbone = bench.base(recipe, order.device)
    if not run.finished:
        with MemoryGrowth(backbone) as growth:
            train(recipe, run.folder, progress, order.device, backbone)
        write_json(run.folder / MEMORY_FILE, {"peak_memory_bytes": growth.peak_bytes})
    measures = _loss_measures(order, recipe, corpus, backbone, bench, progress)
    directions = {name: "higher_is_better" for name in measures if name not in ("base_loss", "adapted_loss")}
    directions |= {name: "lower_is_better" for name in ("base_loss", "adapted_loss", "log_seconds", "log_memory")}
    if planned.samples is not None:
        scored, ways = _music_measures(order, backbone, progress)
        measures, directions = measures | scored, directions | ways
    cost = _cost(run)  # on a CPU the processor's own time counts, which no other program's work makes longer
    measures["log_seconds"] = {"run": math.log(cost["cpu_seconds"] or cost["seconds"])}
    if cost["peak_memory_bytes"]:
        measures["log_memory"] = {"run": math.log(cost["peak_memory_bytes"])}
    base, own = base_parameters(backbone), read_json(run.cost)["trainable_parameters"]
    return {
        **trial_record(planned),
        "status": "done",
        "factors": trial_factors(planned, base, own),
        "parameters": own,
        "percent": round(100 * own / base, 6),
        "measures": measures,
        "directions": {name: way for name, way in directions.items() if name in measures},
        "cost": cost,
        "run": f"runs/{planned.id}",
        "corpus_hash": corpus.hash,
        "settings_hash": settings_hash(planned, corpus.hash),
    }


def trial_record(planned: TrialSpec) -> dict[str, Any]:
    """How a line begins, whatever became of the trial."""
    return {
        "id": planned.id,
        "grid": planned.grid,
        "design": planned.design,
        "seed": planned.seed,
        "corpus": planned.corpus,
    }


def failed_trial_record(planned: TrialSpec, error: str) -> dict[str, Any]:
    """The line of a trial that broke."""
    return {
        **trial_record(planned),
        "status": "failed",
        "error": " ".join(error.split()) or "no reason was given",
    }


def _loss_measures(
    order: TrialJob,
    recipe: Recipe,
    corpus: Corpus,
    backbone: Backbone,
    bench: TrialWorkerCache,
    progress: Progress,
) -> Measures:
    """Losses of the held-out recordings before and after, and where it is known what was played, at which moments."""
    size = recipe.training.batch_size
    items, kept = prepare_held_out(recipe, corpus, backbone, progress)
    key = (corpus.hash, size, recipe.training.predict_beats_chords)
    backbone.model.eval()
    before = bench.before(key, backbone, items, size, progress)
    with injection.temporary_adapters(backbone.model):
        serialization.load(backbone, order.run.adapter)
        backbone.model.eval()
        after = frame_losses(backbone, items, size, progress, "loss with adapter", kept)
    names = [item.clip.recording for item in items]
    means = {
        word: bootstrap.mean_by_recording([float(row.mean()) for row in rows], names)
        for word, rows in (("base_loss", before), ("adapted_loss", after))
    }
    means["loss_reduction"] = {name: means["base_loss"][name] - means["adapted_loss"][name] for name in means["base_loss"]}
    truths = bench.truths(order.planned, corpus)
    if truths:
        means |= _event_measures(aggregate_by_event(items, before, after, truths, backbone.frame_rate_hz))
    return means


def _event_measures(found: Mapping[str, Mapping[str, Mapping[str, float]]]) -> Measures:
    """By how much the loss fell at each kind of moment, and what was gained more where music came again."""
    falls: Measures = {f"loss_reduction_{group}": {} for group in EVENT_GROUPS}
    for recording, groups in found.items():
        for group, loss in groups.items():
            falls[f"loss_reduction_{group}"][recording] = float(loss["base_loss"] - loss["adapted_loss"])
    first, again = falls["loss_reduction_first"], falls["loss_reduction_repeat"]
    falls["repeat_gain"] = {name: again[name] - first[name] for name in again if name in first}
    return {name: values for name, values in falls.items() if values}


def _music_measures(
    order: TrialJob, backbone: Backbone, progress: Progress
) -> tuple[Measures, dict[str, str]]:
    """Every score of the music that was made which has a value, and the direction in which it is better."""
    from talim.evaluation.evaluate import evaluate

    run, wanted = order.run, order.planned.samples
    if wanted is not None and not run.scores.is_file():
        with injection.temporary_adapters(backbone.model):
            evaluate(
                run.folder,
                progress,
                prompts=wanted.clips,
                seconds=wanted.seconds,
                sampling=_sampling(wanted, backbone),
                backbone=backbone,
            )
    rows = read_json(run.scores)["scores"]
    known = {f"score.{row['name']}": row for row in rows if row.get("value") is not None}
    ways = {
        name: str(row["direction"]) for name, row in known.items()
    }
    return {name: {"run": float(row["value"])} for name, row in known.items()}, ways


def _sampling(wanted: GenerationSpec, backbone: Backbone) -> GenerationOptions:
    from talim.generation.generate import GenerationOptions

    if backbone.family != "mustango":
        return GenerationOptions()
    return GenerationOptions(sampling_steps=wanted.steps, sampler=wanted.sampler)


def _cost(run: Run) -> dict[str, Any]:
    cost, memory = read_json(run.cost), run.folder / MEMORY_FILE
    weights = [path.stat().st_size for path in run.adapter.glob("*.safetensors")]
    return {
        "seconds": cost["device_seconds"],
        "cpu_seconds": cost["cpu_seconds"] if cost["device"].startswith("CPU") else None,
        "peak_memory_bytes": read_json(memory)["peak_memory_bytes"] if memory.is_file() else None,
        "adapter_bytes": sum(weights),
        "energy_joules": cost["energy_joules"],
        "steps": cost["steps"],
        "flops": cost["flops"],
        "device": cost["device"],
    }


def delete_artifacts(run: Run) -> None:
    """The adapter and the sounds of a trial that has been judged; what is left can still be reported."""
    for folder in (run.adapter, run.samples, run.metrics_cache):
        shutil.rmtree(folder, ignore_errors=True)
