"""`talim copies`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim import progress
from talim.cli import early_checks
from talim.cli.options import JsonOption, SeedOption, begin, show

EXAMPLE = "Example: `talim copies my-samples my-recordings --out my-copies`"


def copies(
    clips: Annotated[Path, typer.Argument(help="A clip or a folder of clips.")],
    training: Annotated[
        Path,
        typer.Argument(
            help="Folder of the recordings to compare with, for example those that an adapter was trained on."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for copies.json and copies.html.")],
    cache: Annotated[
        Path | None,
        typer.Option(
            help="Folder that keeps fingerprints and comparisons, with which a call goes on or is repeated.",
            show_default="OUT/metrics_cache",
        ),
    ] = None,
    seed: SeedOption = 0,
    json_: JsonOption = False,
) -> None:
    """Find passages copied from a folder's recordings, by audio fingerprint.

    Exit status 1 if there are any, or if clips could not be checked.
    """
    early_checks.require_path(clips, "a clip or a folder of clips")
    early_checks.require_path(training, "the recordings to compare with")
    begin(f"comparing {clips} with the recordings in {training}")
    from talim.evaluation.copy_report import find_copies_in_folders
    from talim.evaluation.copy_scores import copies_sentence

    result = find_copies_in_folders(clips, training, out, cache or out / "metrics_cache", seed, progress.default())
    page = out / "copies.html"
    warning = f"warning: of the recordings in {training}, {result['warning']}\n" if result["warning"] else ""
    show(result, json_, f"{copies_sentence(result)}\n{warning}page: {page}")
    if result["copied"] or result["checked"] < len(result["clips"]):
        raise typer.Exit(1)
