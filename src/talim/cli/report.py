"""The command line of `talim report`: the page of a run, of several, or of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli.options import JsonOption, show

EXAMPLE = "Example: `talim report my-study --goal jingle --limit memory=6GB`"


def report(
    folder: Annotated[Path, typer.Argument(help="A run, a folder of runs, or a study.")],
    goal: Annotated[
        str | None, typer.Option(help="Of a study, what to advise for: learning, jingle or background.")
    ] = None,
    limit: Annotated[
        list[str] | None,
        typer.Option(
            help="Of a study: parameters=2M, operations=5P, seconds=2h, memory=6GB or bytes=20MB. May be repeated."
        ),
    ] = None,
    price: Annotated[
        str | None,
        typer.Option(
            help="Of a study, what is to be saved: parameters, operations, seconds, memory or bytes."
        ),
    ] = None,
    margin: Annotated[
        float | None,
        typer.Option(help="Of a study: how much of the best's gain may be missing.", show_default="0.1"),
    ] = None,
    claims: Annotated[
        Path | None, typer.Option(help="Of a study: claims to judge, instead of DIR/claims.yaml.")
    ] = None,
    sounds: Annotated[bool, typer.Option(help="Of a study: put sounds on the page.")] = True,
    json_: JsonOption = False,
) -> None:
    """Write one self-contained HTML page about a run or a study: listen, compare, see what it cost, what to take."""
    from talim.experiments.goals import parse_criteria
    from talim.reporting.run_report import write_report as work

    page = work(folder, parse_criteria(goal, price, limit or (), margin), claims, sounds=sounds)
    show({"page": str(page)}, json_, str(page))
