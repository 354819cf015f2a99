"""Runs a study: builds its corpora, runs every trial that has no result yet, and saves each result at once."""

from __future__ import annotations

import functools
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from talim.atomic_io import write_text
from talim.backbones.resolve import is_model_folder
from talim.errors import DivergedError, TalimError, UsageError
from talim.experiments import study_corpora, study_file
from talim.experiments.preliminary_trials import (
    DIVERGED,
    Decision,
    decide,
    decision_notes,
    foreseen,
    is_outcome,
    undecided,
)
from talim.experiments.progress_table import StudyProgress, mean_loss_reduction
from talim.experiments.results import COPY_OF, STUDY_COPY
from talim.experiments.results_log import ResultRecord, ResultsLog
from talim.experiments.study_file import StudyChoices, StudyConfig, TrialSpec
from talim.experiments.trial import (
    METRICS_CACHE,
    TrialJob,
    TrialWorkerCache,
    delete_artifacts,
    failed_trial_record,
    in_precision,
    run_trial,
    trial_record,
)
from talim.experiments.tuning import TUNING_LOG
from talim.html.formatting import format_counted
from talim.interrupts import Interrupted
from talim.progress import Progress
from talim.run import Run

FEASIBLE_SECONDS = 10.0  # of a clip: whether a design is possible does not depend on it
MAX_WORKERS = 1024  # trials in parallel
TrialExecutor = Callable[[Sequence[TrialJob], Progress], Iterator[ResultRecord]]


def run_study(
    file: Path,
    out: Path,
    progress: Progress | None = None,
    *,
    retry_failed: bool = False,
    device: str = "auto",
    execute: TrialExecutor | None = None,
) -> dict[str, Any]:
    """Run what is missing of the study in `file` into the folder `out`; returns the counts and the failed trials.

    Preliminary trials (`tune`, `plateau`) come first; `notes` say what they chose, and how many trials are left out as
    they failed. Failed trials are run again with `retry_failed` only. Raises UsageError for a file that is not a study,
    TalimError if a corpus cannot be built or another process uses the folder, `Interrupted` after Ctrl-C.
    """
    study = study_file.load(file)
    reporter = progress if isinstance(progress, StudyProgress) else StudyProgress(progress)
    with Run(out).lock():
        if file.resolve() != (out / STUDY_COPY).resolve():
            write_text(out / STUDY_COPY, f"{COPY_OF}{file.resolve()}\n{file.read_text(encoding='utf-8')}")
        log = ResultsLog(out)
        precision = _precision_so_far(log, ResultsLog(out, name=TUNING_LOG))
        if precision != "auto" and any(trial.recipe.training.precision == "auto" for trial in study_file.expand(study)):
            reporter.log(f"training in {precision}, as in the trials that {out} has")
        runner = _StudyRunner(study, file.parent, out, device, reporter, execute or run_in_process, precision)
        try:
            decision = runner.run_preliminary(retry_failed)
            trials = study_file.expand(study, decision.choices)
            left_out = {trial.id for trial in undecided(study, decision, trials)}
            if kept := _adopt(log, [trial for trial in trials if trial.id not in left_out]):
                reporter.log(
                    f"{format_counted(kept, 'trial')} kept: tuned by another rule, which chose the same settings"
                )
            done = {trial.id for trial in trials if _is_done(trial, log.lines.get(trial.id, {}), precision)}
            to_run = [trial for trial in trials if trial.id not in done | left_out]
            if again := sum(log.done(trial.id) for trial in to_run):
                reporter.log(f"{format_counted(again, 'trial')} in another precision than {precision}: run again")
            missing = [trial for trial in to_run if retry_failed or not log.failed(trial.id)]
            runner.run(missing, trials, log)
            if study.retain == "results":  # not before: the trials share it
                shutil.rmtree(out / METRICS_CACHE, ignore_errors=True)
        except Interrupted as interrupted:
            raise interrupted.for_outer_command() from None
        finally:
            reporter.close()
    lines = [log.lines[trial.id] for trial in trials if trial.id in log.lines]
    return {
        "study": str(out),
        "trials": len(trials),
        "done": sum(line["status"] == "done" for line in lines),
        "failed": [*decision.failed, *(line for line in lines if line["status"] == "failed")],
        "notes": decision_notes(decision, len(left_out)),
        "results": str(log.path),
    }


@dataclass(frozen=True)
class _StudyRunner:
    """Runs trials of a study in its folder `out` and logs their lines; paths of its file start at `base_folder`."""

    study: StudyConfig
    base_folder: Path
    out: Path
    device: str
    reporter: StudyProgress
    execute: TrialExecutor
    precision: str = "auto"  # where recipes leave it open

    def run_preliminary(self, retry_failed: bool) -> Decision:
        """Run preliminary trials until all is decided that they decide, and store it."""
        if self.study.tune is None and self.study.plateau is None:
            return Decision(StudyChoices())
        log = ResultsLog(self.out, name=TUNING_LOG)
        if retry_failed:
            log.lines = {id_: line for id_, line in log.lines.items() if is_outcome(line)}
        known: dict[str, TrialSpec] = {}
        while (decision := decide(self.study, log.lines)).missing:
            known |= {trial.id: trial for trial in decision.missing}
            self.run(decision.missing, [*known.values()], log)
        decision.write(self.out)
        for line in decision_notes(decision, 0):
            self.reporter.log(line)
        return decision

    def run(self, missing: Sequence[TrialSpec], trials: Sequence[TrialSpec], log: ResultsLog) -> None:
        """Run the missing ones of the trials."""
        jobs = _trial_jobs(self.study, missing, self.base_folder, self.out, self.device, self.reporter)
        jobs = [replace(job, precision=self.precision) for job in jobs]
        self.reporter.log(f"{self.out}: {format_counted(len(trials), 'trial')}, {len(missing)} to run")
        to_run = {trial.id: trial.stage != "trial" for trial in missing}
        self.reporter.begin(trials, {id_: line for id_, line in log.lines.items() if id_ not in to_run})
        runs = {job.spec.id: job.run for job in jobs}
        for line in self.execute(jobs, self.reporter):
            log.add(line)
            self.reporter.add(line, trial_message(line, log, trials))
            if line["status"] == "done" and (self.study.retain == "results" or to_run[line["id"]]):
                delete_artifacts(runs[line["id"]])


def _adopt(log: ResultsLog, trials: Sequence[TrialSpec]) -> int:
    """Put results that another rule of tuning led to into the table of the present one; returns how many."""
    adopted = 0
    for trial in trials:
        line = log.lines.get(trial.id, {})
        if log.done(trial.id) and line.get("corpus_hash"):
            settings = study_file.settings_hash(trial, line["corpus_hash"])
            if settings != line["settings_hash"]:
                log.add({**line, **trial_record(trial), "settings_hash": settings})
                adopted += 1
    return adopted


def _is_done(trial: TrialSpec, line: ResultRecord, precision: str) -> bool:
    """Whether a trial has a result, in the precision of its study if its recipe leaves it open."""
    other = trial.recipe.training.precision == "auto" and line.get("precision", precision) != precision
    return line.get("status") == "done" and (precision == "auto" or not other)


def _precision_so_far(*logs: ResultsLog) -> str:
    """The precision of most trials in the first log that has any, as a study may go on on another machine; or auto."""
    for log in logs:
        if counts := Counter(line["precision"] for line in log.lines.values() if line.get("precision")):
            return counts.most_common(1)[0][0]
    return "auto"


def list_trials(file: Path, out: Path) -> list[tuple[TrialSpec, str, str]]:
    """Every trial with its status ("done", "failed" or "missing") and its resolved base; writes nothing.

    Preliminary trials that are missing come first; others may follow from their results.
    """
    study = study_file.load(file)
    log, tuning = ResultsLog(out, repair=False), ResultsLog(out, repair=False, name=TUNING_LOG)
    decision, precision = decide(study, tuning.lines), _precision_so_far(log, tuning)
    return [
        (
            replace(trial, recipe=in_precision(trial.recipe, precision)),
            log.lines.get(trial.id, {}).get("status", "missing"),
            resolve_base(trial.base, file.parent),
        )
        for trial in (*foreseen(study, decision), *study_file.expand(study, decision.choices))
    ]


def study_problems(file: Path) -> list[str]:
    """What would stop the study's trials, found without running any: missing corpora, impossible designs."""
    from talim.planning.base_facts import base_model_facts, check_sites
    from talim.planning.plan import feasible_design_cost

    study, problems = study_file.load(file), []
    trials = study_file.expand(study)
    for name in dict.fromkeys(trial.corpus for trial in trials):
        if problem := study_corpora.missing_source(study.corpora[name], name, file.parent):
            problems.append(problem)
    for base, design in {(resolve_base(trial.base, file.parent), trial.recipe.design): None for trial in trials}:
        try:
            check_sites(design, base)
            feasible_design_cost(design, base_model_facts(base), FEASIBLE_SECONDS)
        except UsageError as error:
            problems.append(f"{design} in {base}: {error}")
        except TalimError:  # of a base that is not on this machine nothing is known yet
            continue
    return problems


def executor_for(num_workers: int, ray: str | None, device: str, corpora: Path, progress: Progress) -> TrialExecutor:
    """Where trials run: on a Ray cluster, in single-threaded worker processes, or in this process.

    `num_workers` 0 is one worker per GPU, or one per core if there is none; more than there are GPUs share them.
    `corpora` is the study file's folder.
    """
    if not 0 <= num_workers <= MAX_WORKERS:
        raise UsageError(f"--num-workers {num_workers}: give 0 (one per GPU or core) to {MAX_WORKERS}")
    if ray is not None:
        from talim.experiments.estimates import TrialEstimates
        from talim.experiments.ray_executor import RayExecutor

        estimates = TrialEstimates(corpora, None, progress)

        def memory_bytes(job: TrialJob) -> int | None:
            spec = replace(job.spec, recipe=in_precision(job.spec.recipe, job.precision))
            return estimates.memory_bytes(spec, job.base)

        return RayExecutor(ray, run_trial_safely, memory_bytes, num_workers or None)
    if num_workers == 1:
        return run_in_process
    from talim.experiments.local_executor import ProcessExecutor, visible_gpus

    gpus = visible_gpus() if device in ("auto", "cuda", "gpu") else []
    return ProcessExecutor(num_workers or len(gpus) or os.cpu_count() or 1, run_trial_safely, gpus)


def run_in_process(jobs: Sequence[TrialJob], progress: Progress) -> Iterator[ResultRecord]:
    """An executor that runs one trial after the other in this process."""
    cache = TrialWorkerCache()
    for job in jobs:
        yield run_trial_safely(job, cache, progress)


def run_trial_safely(job: TrialJob, cache: TrialWorkerCache, progress: Progress) -> ResultRecord:
    """The line of a trial, also if it fails; only Interrupted is passed on."""
    try:
        return run_trial(job, cache, progress)
    except Interrupted:
        raise
    except Exception as error:
        reason = str(error) if isinstance(error, TalimError) else f"{type(error).__name__}: {error}"
        diverged = {DIVERGED: True} if isinstance(error, DivergedError) else {}
        return failed_trial_record(job.spec, reason) | diverged


def trial_message(line: ResultRecord, log: ResultsLog, trials: Sequence[TrialSpec]) -> str:
    """A finished trial in a line, with the number of trials that have results."""
    count = sum(trial.id in log.lines for trial in trials)
    settings = "".join(f", {key.split('.')[-1]} {value:g}" for key, value in line.get("tuned", {}).items())
    text = f"[{count}/{len(trials)}] {line['id']} {line['design']}, {line['corpus']}, seed {line['seed']}{settings}: "
    if line["status"] == "failed":
        return text + f"failed: {line['error']}"
    return text + f"loss reduction {mean_loss_reduction(line):.4f} in {line['cost']['seconds']:.1f} s"


def _trial_jobs(
    study: StudyConfig, missing: Sequence[TrialSpec], base_folder: Path, out: Path, device: str, progress: Progress
) -> list[TrialJob]:
    """The jobs of the missing trials; their corpora are built first."""
    build = functools.partial(study_corpora.build_corpus, out=out, base_folder=base_folder, progress=progress)
    altered = {trial.trained_on: trial.corpus for trial in missing if trial.trained_on}
    names = dict.fromkeys(trial.corpus for trial in missing if trial.corpus not in altered)
    built = {name: build(study.corpora[name], name) for name in names}
    for name, measured_on in altered.items():
        # what is measured must not be trained on in any performance of it
        held_out = {clip.recording for clip in built[measured_on].held_out}
        built[name] = build(study.corpora[name], name, held_out=held_out)
    folders = {name: corpus.folder.resolve() for name, corpus in built.items()}
    return [
        TrialJob(
            trial,
            out.resolve(),
            folders[trial.corpus],
            resolve_base(trial.base, base_folder),
            device,
            folders.get(trial.trained_on),
        )
        for trial in missing
    ]


def resolve_base(name: str, base_folder: Path) -> str:
    """The path of a model folder relative to `base_folder`, else the name itself."""
    folder = base_folder / name
    return str(folder.resolve()) if is_model_folder(folder) else name
