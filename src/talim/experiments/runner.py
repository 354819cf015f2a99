"""A study conducted: its corpora made, every trial run that has no result yet, each result kept at once."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from talim.atomic_io import write_text
from talim.errors import TalimError
from talim.experiments import study_corpora, study_file
from talim.experiments.progress_table import StudyProgress, mean_loss_reduction
from talim.experiments.results_log import ResultRecord, ResultsLog
from talim.experiments.study_file import StudyConfig, TrialSpec
from talim.experiments.trial import (
    TrialJob,
    TrialWorkerCache,
    delete_artifacts,
    failed_trial_record,
    run_trial,
)
from talim.interrupts import Interrupted
from talim.progress import Progress
from talim.run import Run

TrialExecutor = Callable[[Sequence[TrialJob], Progress], Iterator[ResultRecord]]


def run_study(
    file: Path,
    out: Path,
    shown: StudyProgress | None = None,
    *,
    retry: bool = False,
    device: str = "auto",
    execute: TrialExecutor | None = None,
) -> dict[str, Any]:
    """Run what is missing of the study in `file` into the folder `out`; how many trials are done, and which failed.

    Trials that failed are left alone unless `retry`. Raises UsageError for a file that is no study, TalimError where
    a corpus cannot be had or another process works in the folder, `Stopped` after Ctrl-C.
    """
    study, shown = study_file.load(file), shown or StudyProgress()
    planned = study_file.expand(study)
    with Run(out).lock():
        write_text(out / "study.yaml", file.read_text(encoding="utf-8"))
        ledger = ResultsLog(out)
        missing = [each for each in planned if not ledger.done(each.id)]
        missing = [each for each in missing if retry or not ledger.failed(each.id)]
        orders = _trial_jobs(study, missing, file.parent, out, device, shown)
        shown.log(f"{out}: {len(planned)} trials, {len(missing)} of them to run")
        shown.begin(planned, {key: line for key, line in ledger.lines.items() if key not in _ids(missing)})
        try:
            for line in (execute or run_in_process)(orders, shown):
                ledger.add(line)
                shown.add(line, trial_message(line, ledger, planned))
                if study.keep == "results" and line["status"] == "done":
                    delete_artifacts(Run(out / "runs" / line["id"]))
        except Interrupted as stopped:
            raise stopped.for_outer_command() from None
        finally:
            shown.close()
    lines = [ledger.lines[each.id] for each in planned if each.id in ledger.lines]
    return {
        "study": str(out),
        "trials": len(planned),
        "done": sum(line["status"] == "done" for line in lines),
        "failed": [line for line in lines if line["status"] == "failed"],
        "results": str(ledger.path),
    }


def list_trials(file: Path, out: Path) -> list[tuple[TrialSpec, str, str]]:
    """Every trial with what is known of it ("done", "failed", "missing") and its base; nothing is written."""
    lines = ResultsLog(out, repair=False).lines
    planned = study_file.expand(study_file.load(file))
    return [
        (each, lines.get(each.id, {}).get("status", "missing"), resolve_base(each.base, file.parent))
        for each in planned
    ]


def executor_for(jobs: int, ray: str | None, device: str, progress: Progress) -> TrialExecutor:
    """Where trials run: on a Ray cluster, in worker processes (of one thread, or on a GPU each), or here.

    `jobs` 0 is one worker a GPU, or one a core where there is none.
    """
    if ray is not None:
        from talim.experiments.estimates import TrialEstimates
        from talim.experiments.ray_executor import RayExecutor

        foretold = TrialEstimates(None, progress)
        return RayExecutor(
            ray, run_trial_safely, lambda order: foretold.needs(order.planned, order.base), jobs or None
        )
    if jobs == 1:
        return run_in_process
    from talim.experiments.local_executor import ProcessExecutor, visible_gpus

    gpus = visible_gpus() if device in ("auto", "cuda") else []
    return ProcessExecutor(jobs or os.cpu_count() or 1, run_trial_safely, gpus[: jobs or None])


def run_in_process(orders: Sequence[TrialJob], progress: Progress) -> Iterator[ResultRecord]:
    """One trial after the other, here."""
    bench = TrialWorkerCache()
    for order in orders:
        yield run_trial_safely(order, bench, progress)


def run_trial_safely(order: TrialJob, bench: TrialWorkerCache, progress: Progress) -> ResultRecord:
    """The line of a trial, whatever becomes of it; only a wish to stop is passed on."""
    try:
        return run_trial(order, bench, progress)
    except Interrupted:
        raise
    except Exception as error:
        return failed_trial_record(
            order.planned, str(error) if isinstance(error, TalimError) else f"{type(error).__name__}: {error}"
        )


def trial_message(line: ResultRecord, ledger: ResultsLog, planned: Iterable[TrialSpec]) -> str:
    """A finished trial in a line, with how far the study is."""
    planned = list(planned)
    count = sum(each.id in ledger.lines for each in planned)
    what = f"[{count}/{len(planned)}] {line['id']} {line['design']}, {line['corpus']}, seed {line['seed']}: "
    if line["status"] == "failed":
        return what + f"failed: {line['error']}"
    return what + f"the loss fell by {mean_loss_reduction(line):.4f} in {line['cost']['seconds']:.1f} s"


def _ids(planned: Sequence[TrialSpec]) -> set[str]:
    return {each.id for each in planned}


def _trial_jobs(
    study: StudyConfig, missing: Sequence[TrialSpec], beside: Path, out: Path, device: str, progress: Progress
) -> list[TrialJob]:
    """What is to be run, on corpora that are there."""
    places = {}
    for name in dict.fromkeys(each.corpus for each in missing):
        places[name] = study_corpora.build_corpus(
            study.corpora[name], name, out, beside, progress
        ).folder.resolve()
    return [
        TrialJob(each, out.resolve(), places[each.corpus], resolve_base(each.base, beside), device)
        for each in missing
    ]


def resolve_base(name: str, beside: Path) -> str:
    """A folder beside the YAML file, or what else the name stands for."""
    folder = beside / name
    return str(folder.resolve()) if (folder / "config.json").is_file() or (folder / "ldm").is_dir() else name
