"""The command that runs a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from talim.cli.options import DeviceOption, JsonOption, show

EXAMPLE = "Example: `talim study studies/demo.yaml --out my-study`"


def study(
    file: Annotated[Path, typer.Argument(help="YAML file of grids: bases x designs x corpora x seeds.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command goes on there.")],
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the trials and what each will take; run none.")
    ] = False,
    gpu: Annotated[
        str | None, typer.Option(help="With --dry-run: a GPU that talim plan knows; else this CPU.")
    ] = None,
    retry: Annotated[bool, typer.Option("--retry", help="Run trials again that failed.")] = False,
    jobs: Annotated[int, typer.Option(min=0, help="Trials at a time; 0: one a GPU, or one a core.")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Run on this Ray cluster; local begins one here.")
    ] = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Run every trial of a study that has no result yet; killed at any moment, the same command goes on."""
    from talim.experiments import progress_table, runner

    if dry_run:
        _list(file, out, gpu, json_)
        return
    shown = progress_table.for_terminal()
    executor = runner.executor_for(jobs, ray, device, shown)
    found = runner.run_study(file, out, shown, retry=retry, device=device, execute=executor)
    broken = [f"failed: {line['id']} {line['design']}: {line['error']}" for line in found["failed"]]
    again = ["run them again with --retry"] if broken else []
    words = [f"{found['done']} of {found['trials']} trials are done: {found['results']}", *broken, *again]
    show(found, json_, "\n".join(words))
    if broken:
        raise typer.Exit(1)


def _list(file: Path, out: Path, gpu: str | None, json_: bool) -> None:
    from talim import progress
    from talim.experiments.estimates import TrialEstimates, trial_lines
    from talim.experiments.runner import list_trials

    foretold = TrialEstimates(gpu, progress.for_terminal())
    rows = [(each, status, foretold.of(each, base)) for each, status, base in list_trials(file, out)]
    told: list[dict[str, Any]] = [
        {"id": each.id, "grid": each.grid, "trial": each.name, "status": status, "planned": cost}
        for each, status, cost in rows
    ]
    show({"trials": told}, json_, trial_lines(rows))
