"""`talim modes`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import JsonOption, show

EXAMPLE = "Example: `talim modes my-recording.flac --tradition hindustani --tonic 146.8`"


def modes(
    file: Annotated[Path, typer.Argument(help="A recording, or an .npz pitch track with cents, hop_s and tonic_hz.")],
    tradition: Annotated[
        str | None, typer.Option(help="hindustani, makam or a folder of your own; all built-in ones if not given.")
    ] = None,
    tonic: Annotated[
        float | None, typer.Option(min=8.0, max=20_000.0, help="Frequency of the tonic in Hz; estimated if not given.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Recognise the raga or makam of a recording, with scores."""
    early_checks.require_path(file, "a recording or a pitch track")
    from talim import progress
    from talim.evaluation.recognize_mode import modes_message, recognize_mode

    result = recognize_mode(file, tradition, tonic, progress.default())
    show(result, json_, modes_message(result))
