"""`talim report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import JsonOption, show

EXAMPLE = "Example: `talim report my-run`, or `talim report my-study --goal jingle --max memory=6GB`"


def report(
    folder: Annotated[Path, typer.Argument(help="A run, a folder of runs, or a study.")],
    goal: Annotated[
        str | None, typer.Option(help="Study: what to recommend for: learning, jingle or background.")
    ] = None,
    max_: Annotated[
        list[str] | None,
        typer.Option(
            "--max",
            metavar="COST=LIMIT",
            help="Study: parameters=2M, flops=5P, seconds=2h, memory=6GB or bytes=20MB. Repeatable.",
        ),
    ] = None,
    minimize: Annotated[
        str | None, typer.Option(help="Study: cost to minimise: parameters, flops, seconds, memory or bytes.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Study: tolerated loss of quality, as a fraction of the best design's gain.", show_default="0.1"
        ),
    ] = None,
    claims: Annotated[
        Path | None, typer.Option(help="Study: YAML file of hypotheses to test, instead of DIR/claims.yaml.")
    ] = None,
    audio: Annotated[bool, typer.Option(help="Study: put audio on the page.")] = True,
    json_: JsonOption = False,
) -> None:
    """Write one self-contained HTML page about a run, a folder of runs, a proof of concept or a study."""
    early_checks.require_folder(folder, "a run, a folder of runs, a proof of concept or a study")
    if claims is not None:
        early_checks.require_yaml(claims, "a YAML file of hypotheses")
    from talim import api
    from talim.atomic_io import read_json
    from talim.experiments.goals import parse_criteria
    from talim.experiments.results import is_study
    from talim.reporting import messages

    page = api.report(folder, parse_criteria(goal, minimize, max_ or (), tolerance), claims, audio=audio)
    study = read_json(page.with_name("study.json")) if is_study(folder) else None
    value = {"page": str(page)} | ({name: study[name] for name in ("controls", "verdicts", "summary")} if study else {})
    show(value, json_, messages.report_message(page, folder, study))
