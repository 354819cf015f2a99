"""`talim study`."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated, Any

import typer

from talim.cli import early_checks
from talim.cli.options import DeviceOption, JsonOption, show
from talim.html.formatting import format_counted

EXAMPLE = "Example: `talim study studies/demo.yaml --out my-study`"


def study(
    file: Annotated[Path, typer.Argument(help="YAML file of grids: bases x designs x corpora x seeds.")],
    out: Annotated[Path, typer.Option(help="Folder of the study. Rerun the same command to resume.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the trials and their predicted cost; run none.")
    ] = False,
    gpu: Annotated[str | None, typer.Option(help="With --dry-run: GPU by name; this CPU if not given.")] = None,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Run failed trials again.")] = False,
    num_workers: Annotated[
        int, typer.Option(min=0, max=1024, help="Trials in parallel; 0: one per GPU, or one per core.")
    ] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Ray cluster to run on; `local` starts one here.")
    ] = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Run every trial of a study that has no result yet.

    Exit status 1 if a trial failed, or with --dry-run if one cannot run.
    """
    early_checks.check_loadable(device=device)
    early_checks.require_yaml(file, "the YAML file of a study")
    early_checks.check_name(out)
    if dry_run:
        _list_trials(file, out, gpu, json_)
        return
    from talim import api

    summary = api.study(file, out, retry_failed=retry_failed, num_workers=num_workers, ray=ray, device=device)
    failed = [f"failed: {row['id']} {row['design']}: {row['error']}" for row in summary["failed"]]
    done = f"{summary['done']} of {format_counted(summary['trials'], 'trial')} are done: {summary['results']}"
    lines = [*summary["notes"], done, *failed]
    retry = [f"next: {_command(file, out)} --retry-failed"] if failed else []
    lines += [*retry, f"next: talim report {shlex.quote(str(out))}"]
    show(summary, json_, "\n".join(lines))
    if failed:
        raise typer.Exit(1)


def _command(file: Path, out: Path) -> str:
    return f"talim study {shlex.quote(str(file))} --out {shlex.quote(str(out))}"


def _list_trials(file: Path, out: Path, gpu: str | None, json_: bool) -> None:
    from talim import progress
    from talim.experiments import study_file
    from talim.experiments.estimates import TrialEstimates, trial_lines
    from talim.experiments.preliminary_trials import growth_bound
    from talim.experiments.runner import list_trials, study_problems

    estimates = TrialEstimates(file.parent, gpu, progress.default())
    rows = [(trial, status, estimates.estimate(trial, base)) for trial, status, base in list_trials(file, out)]
    trials: list[dict[str, Any]] = [
        {"id": trial.id, "grid": trial.grid, "trial": trial.name, "status": status, "planned": cost}
        for trial, status, cost in rows
    ]
    problems = study_problems(file)
    growth = growth_bound(study_file.load(file))
    lines = [trial_lines(rows, growth), *(f"cannot run: {problem}" for problem in problems)]
    if not problems:
        lines.append(f"next: {_command(file, out)}")
    show({"trials": trials, "growth": growth, "problems": problems}, json_, "\n".join(lines))
    if problems:
        raise typer.Exit(1)
