"""`talim designs`."""

from __future__ import annotations

from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import ClipSecondsOption, JsonOption, show

EXAMPLE = "Example: `talim designs --base musicgen-medium --budget 40M`"


def designs(
    base: Annotated[str, typer.Option(help="Base model: known name or a folder with config.json.")],
    budget: Annotated[list[str] | None, typer.Option(help="Size: 40M, 250k or 2.5% of the base. Repeatable.")] = None,
    design: Annotated[
        list[str] | None, typer.Option(help="Only this design, such as conv@shallow:20M. Repeatable.")
    ] = None,
    clip_seconds: ClipSecondsOption = None,
    json_: JsonOption = False,
) -> None:
    """List adapter designs with their exact cost; needs no weights and no network."""
    early_checks.check_described(base, design or ())
    from talim import api
    from talim.planning.tables import render_designs

    table = api.designs(base, budgets=budget or (), designs=design or (), crop_seconds=clip_seconds)
    show(table, json_, "" if json_ else render_designs(table))
