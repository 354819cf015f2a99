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
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from talim.adapters import injection
from talim.atomic_io import read_json, write_json
from talim.corpus.manifest import Corpus
from talim.design.site_selection import base_parameters
from talim.experiments.learning_curves import read_curve
from talim.experiments.loss_measures import Measures, loss_measures
from talim.experiments.score_measures import ScoreMeasures, score_measures
from talim.experiments.study_file import GenerationSpec, TrialSpec, settings_hash, trial_factors
from talim.experiments.validation_measures import validation_measures
from talim.experiments.worker_cache import TrialWorkerCache
from talim.interrupts import Interrupted
from talim.progress import Progress
from talim.recipe import Recipe
from talim.run import Run
from talim.training.frozen_cache import PRECISIONS
from talim.training.resource_usage import MemoryGrowth

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone

MEMORY_FILE = "memory.json"
METRICS_CACHE = "metrics_cache"  # of all trials of a study, in its folder
ResultT = TypeVar("ResultT")


def train_and_evaluate(
    recipe: Recipe,
    run: Run,
    evaluate: Callable[[], ResultT],
    progress: Progress,
    *,
    device: str = "auto",
    backbone: Backbone | None = None,
    seconds: float | None = None,
) -> ResultT:
    """Train the run (or resume it) unless it is finished, return the result of `evaluate`, and free the memory.

    Training ends after `seconds`, if given. With a loaded `backbone`, the recipe's base, the peak memory of training is
    written to RUN/memory.json. Interrupted by Ctrl-C, the message says to rerun the same command.
    """
    from talim.training.train import train

    try:
        with MemoryGrowth(backbone) if backbone and not run.finished else contextlib.nullcontext() as growth:
            train(recipe, run.folder, progress, device, backbone, seconds)
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
    training_corpus: Path | None = None  # if it is another one than that whose clips are measured
    precision: str = "auto"  # of the base where the recipe leaves it open

    @property
    def run(self) -> Run:
        return Run(self.folder / self.run_name)

    @property
    def run_name(self) -> str:
        """The run's folder in the study's: those of preliminary trials are apart."""
        return f"{'runs' if self.spec.stage == 'trial' else self.spec.stage}/{self.spec.id}"


def run_trial(job: TrialJob, cache: TrialWorkerCache, progress: Progress | None = None) -> dict[str, Any]:
    """Run a trial, or resume it; returns its line of results.jsonl, with status "done"."""
    progress, run, spec = progress or Progress(), job.run, job.spec
    corpus = Corpus.load(job.corpus)
    recipe = spec.recipe.model_copy(update={"base": job.base, "corpus": str(job.training_corpus or job.corpus)})
    # the run's own recipe stays as it is, so that a trial resumes though its study has a precision by now
    backbone = cache.base(in_precision(recipe, job.precision), job.device)
    _discard_other_precision(run, PRECISIONS[backbone.dtype], progress)
    measure = functools.partial(_measure, job, recipe, corpus, backbone, cache, progress)
    measured = train_and_evaluate(recipe, run, measure, progress, device=job.device, backbone=backbone)
    measures, directions = measured["measures"], measured["directions"]
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
        **{name: measured[name] for name in ("notes", "scores") if measured.get(name)},
        "cost": cost,
        "run": job.run_name,
        "corpus_hash": corpus.hash,
        "settings_hash": settings_hash(spec, corpus.hash),
        "precision": PRECISIONS[backbone.dtype],
        "protocol_hash": read_json(run.scores)["protocol"]["hash"] if run.scores.is_file() else "",
    }


def _discard_other_precision(run: Run, precision: str, progress: Progress) -> None:
    """Delete what a run in another precision left: its adapter would be measured as if it were trained in this one."""
    if run.facts_file.is_file() and not read_json(run.facts_file)["base"]["precision"].startswith(precision):
        progress.log(f"{run.folder}: was trained in another precision than {precision}; trained anew")
        shutil.rmtree(run.folder)


def in_precision(recipe: Recipe, precision: str) -> Recipe:
    """The recipe with this precision where it leaves it open."""
    if recipe.training.precision != "auto":
        return recipe
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"precision": precision})})


def trial_record(spec: TrialSpec) -> dict[str, Any]:
    """The first values of a trial's line of results.jsonl."""
    record = {"id": spec.id, "grid": spec.grid, "design": str(spec.design), "seed": spec.seed, "corpus": spec.corpus}
    control = {"control": spec.control, "inserted": spec.inserted, "trained_on": spec.trained_on}
    record |= {name: value for name, value in control.items() if value}
    return record | ({"tuned": dict(spec.tuned)} if spec.tuned else {})


def failed_trial_record(spec: TrialSpec, error: str) -> dict[str, Any]:
    """The line of a trial that failed."""
    reason = " ".join(error.split()) or "no error message"
    return {**trial_record(spec), "status": "failed", "error": reason}


HIGHER, LOWER = "higher_is_better", "lower_is_better"


def _measure(
    job: TrialJob, recipe: Recipe, corpus: Corpus, backbone: Backbone, cache: TrialWorkerCache, progress: Progress
) -> dict[str, Any]:
    """Losses and, if the study generates audio, its scores; the direction of each; why some have no value."""
    if job.spec.stage != "trial":
        losses = validation_measures(job.run.adapter, recipe, corpus, backbone, cache.base_losses, progress)
        return {"measures": losses, "directions": _loss_directions(losses)}
    measures, notes = loss_measures(job.spec, job.run, recipe, corpus, backbone, cache, progress)
    directions, facts = _loss_directions(measures), {}
    if job.spec.generation is not None:
        scores = _score_measures(job, job.spec.generation, corpus, backbone, cache, progress)
        measures, directions, notes = measures | scores.measures, directions | scores.directions, notes | scores.notes
        facts = scores.facts
    return {"measures": measures, "directions": directions, "notes": notes, "scores": facts}


def _loss_directions(measures: Measures) -> dict[str, str]:
    return {name: LOWER if name.endswith("_loss") else HIGHER for name in measures}


def _score_measures(
    job: TrialJob,
    generation: GenerationSpec,
    corpus: Corpus,
    backbone: Backbone,
    cache: TrialWorkerCache,
    progress: Progress,
) -> ScoreMeasures:
    """The scores of generated audio, which is generated and scored unless that is done.

    Real clips, and what the base makes alone, are the same for all trials on a corpus: measures of them are stored for
    the whole study, and the base's clips are made once a process.
    """
    from talim.evaluation.evaluate import evaluate
    from talim.generation.generate import GenerationOptions

    run = job.run
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
                metrics_cache=job.folder / METRICS_CACHE,
                base_results=cache.base_results(corpus),
            )
    return score_measures(read_json(run.scores))


def _cost(run: Run) -> dict[str, Any]:
    cost, memory = read_json(run.cost), run.folder / MEMORY_FILE
    weights = [path.stat().st_size for path in run.adapter.glob("*.safetensors")]
    return {
        "seconds": cost["device_seconds"],
        "cpu_seconds": cost["cpu_seconds"] if cost["device"].startswith("CPU") else None,
        "peak_memory_bytes": read_json(memory)["peak_memory_bytes"] if memory.is_file() else None,
        "adapter_bytes": sum(weights),
        **{name: cost[name] for name in ("energy_joules", "steps", "flops", "device")},
        **({"processor": cost["processor"]} if "processor" in cost else {}),
    }
