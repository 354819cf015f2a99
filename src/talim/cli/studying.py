"""The command that runs a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli.options import Device, Json, show

EXAMPLE = "Example: `talim study studies/demo.yaml --out my-study`"


def study(
    file: Annotated[Path, typer.Argument(help="YAML file of grids: bases x designs x corpora x seeds.")],
    out: Annotated[Path, typer.Option(help="Folder of the study; the same command goes on there.")],
    retry: Annotated[bool, typer.Option("--retry", help="Run trials again that failed.")] = False,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Run every trial of a study that has no result yet; killed at any moment, the same command goes on."""
    from talim.stages import progress
    from talim.study.conduct import conduct

    found = conduct(file, out, progress.for_terminal(), retry=retry, device=device)
    broken = [f"failed: {line['id']} {line['design']}: {line['error']}" for line in found["failed"]]
    words = [f"{found['done']} of {found['trials']} trials are done: {found['results']}", *broken]
    show(found, json_, "\n".join(words))
    if broken:
        raise typer.Exit(1)
