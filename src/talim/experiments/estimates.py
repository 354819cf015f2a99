"""Predicts memory and time of a study's trials by tracing one training step of each, before anything is run."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talim.errors import TalimError
from talim.experiments.study_file import TrialSpec
from talim.html.formatting import format_counted, format_memory, format_setting
from talim.html.languages import ENGLISH, words
from talim.planning.tables import PlanTeller, format_kwh, format_si, training_needs
from talim.planning.training_job import TrainingJob, prepared_clip_seconds, training_job
from talim.progress import Progress, format_duration


class TrialEstimates:
    """Memory and time of trials on a GPU (None: this CPU); equal settings are traced once and cached on disk.

    Paths of prepared corpora start from `corpora`, the folder of the study's file.
    """

    def __init__(self, corpora: Path, gpu: str | None = None, progress: Progress | None = None) -> None:
        self.corpora, self.gpu, self.progress = corpora, gpu, progress or Progress()
        self._estimates: dict[tuple[Any, ...], dict[str, Any] | None] = {}

    def estimate(self, trial: TrialSpec, base: str) -> dict[str, Any] | None:
        """`memory_bytes`, `hours` and more of the training; None if the base or the design cannot be traced.

        UsageError for a GPU that is not known.
        """
        from talim.planning.plan import plan_total
        from talim.planning.trace_cache import default_cache_folder

        job, hardware = job_of(trial, base, self.corpora), self._hardware
        key = tuple(vars(job).values())
        if key not in self._estimates:
            try:
                total = plan_total([job], hardware, cache=default_cache_folder(), progress=self.progress)
                self._estimates[key] = total["runs"][0]
            except TalimError:
                self._estimates[key] = None
        return self._estimates[key]

    def memory_bytes(self, trial: TrialSpec, base: str) -> int | None:
        """Memory of the training, None if it cannot be predicted."""
        estimate = self.estimate(trial, base)
        return None if estimate is None else int(estimate["memory_bytes"])

    @functools.cached_property
    def _hardware(self) -> Any:
        from talim.planning.cpu_calibration import hardware_profile
        from talim.planning.trace_cache import default_cache_folder

        return hardware_profile(self.gpu, None, default_cache_folder(), False, self.progress)


def job_of(trial: TrialSpec, base: str, corpora: Path) -> TrainingJob:
    """A trial's training; a prepared corpus that the study names, by a path from `corpora`, has clips of its own."""
    spec = trial.corpus_spec
    prepared = None if spec.corpus is None else prepared_clip_seconds(corpora / str(spec.corpus))
    return training_job(trial.recipe.model_dump(mode="json"), prepared or spec.clip_seconds, base)


def total_message(total: dict[str, Any], language: str = ENGLISH) -> str:
    """The result of `talim.planning.plan.plan_total` for a study, in sentences of a language."""
    tell = PlanTeller(language)
    parts = [
        tell("total_time", time=tell.time(total["hours"])),
        tell("total_file", size=format_si(total["file_bytes"])),
    ]
    if total["energy_joules"] is not None:
        parts.append(format_kwh(total["energy_joules"]))
    if total["money"] is not None:
        parts.append(tell("total_money", amount=f"{total['money']:.2f}"))
    size = _common_size(total["runs"], tell)
    summed = tell(
        "total",
        trials=tell.count(total["num_runs"], "trial"),
        hardware=tell.phrase(total["hardware"]),
        parts=words(language)["comma"].join(parts),
        memory=format_memory(total["memory_bytes"]),
        size=f"{size[0].upper()}{size[1:]}{words(language)['parts']}" if size else "",
    )
    unknown = [tell("energy_unknown")] if total["energy_joules"] is None else []
    return words(language)["join"].join([summed, *unknown])


def _common_size(runs: Sequence[Mapping[str, Any]], tell: PlanTeller) -> str:
    """The training of each of these runs: "each 50 steps of 4 clips of 10 s"; empty where they differ."""
    sizes = {(run["steps"], run["batch_size"], format_setting(run["crop_seconds"])) for run in runs}
    if len(sizes) != 1:
        return ""
    ((steps, clips, seconds),) = sizes
    return tell("total_size", steps=tell.count(steps, "step"), clips=tell.count(clips, "clip"), seconds=seconds)


def trial_lines(rows: Sequence[tuple[TrialSpec, str, dict[str, Any] | None]], growth: int = 0) -> str:
    """The trials of a dry run, a line each: id, status, grid, trial, predicted memory and time; and what is to run.

    `growth` is the most tuning trials that may be added to those of the rows.
    """
    lines = []
    for trial, status, estimate in rows:
        cost = "not predicted"
        if estimate is not None:
            cost = training_needs(estimate)
        lines.append(f"{trial.id}  {status:7}  {trial.grid}: {trial.name}  ({cost})")
    preliminary = [row for row in rows if row[0].stage != "trial"]
    if preliminary:
        counts = Counter(trial.stage for trial, _, _ in preliminary)
        names = " and ".join(format_counted(count, f"{stage} trial") for stage, count in counts.items())
        lines.append(f"first {names}: {_training_time(preliminary)}")
        if growth:
            more = format_counted(growth, "trial")
            lines.append(f"the grids of tuning grow where a best value is at an edge: by {more} more at most")
    trials = [row for row in rows if row[0].stage == "trial"]
    to_run = [row for row in trials if row[1] != "done"]
    counted = f"{len(to_run)} of {format_counted(len(trials), 'trial')}"
    size = _common_size([row for _, _, row in to_run if row is not None], PlanTeller(ENGLISH))
    guess = ", at a first guess of what those choose, with ids to be decided" if preliminary else ""
    lines.append(f"{counted} to run: {_training_time(to_run)}{size and f', {size}'}{guess}")
    return "\n".join(lines)


def _training_time(rows: Sequence[tuple[TrialSpec, str, dict[str, Any] | None]]) -> str:
    hours = sum(estimate["hours"] for _, _, estimate in rows if estimate is not None)
    return f"{format_duration(hours * 3600)} of training"
