"""`talim modes`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import JsonOption, show
from talim.errors import UsageError

if TYPE_CHECKING:
    from talim.traditions.fitted_modes import FittedModes

EXAMPLE = (
    "Example: `talim modes my-recording.flac --tradition hindustani --tonic 146.8`, or "
    "`talim modes my-recordings --suggest suggested.csv`"
)


def modes(
    file: Annotated[
        Path,
        typer.Argument(
            help="A recording, or an .npz pitch track with cents, hop_s and tonic_hz; with --suggest a folder of "
            "recordings; with --fit a corpus of `talim prepare` whose recordings have labels."
        ),
    ],
    tradition: Annotated[
        str | None, typer.Option(help="hindustani, makam or a folder of your own; all built-in ones if not given.")
    ] = None,
    tonic: Annotated[
        float | None, typer.Option(min=8.0, max=20_000.0, help="Frequency of the tonic in Hz; estimated if not given.")
    ] = None,
    suggest: Annotated[
        Path | None,
        typer.Option(
            help="New CSV file for suggested labels of a folder of recordings: mode, tonic, tempo, tala, instruments, "
            "in columns that nothing reads until you rename them."
        ),
    ] = None,
    fit: Annotated[
        Path | None,
        typer.Option(help="New .npz file for what the labelled recordings of a corpus add to the tradition's facts."),
    ] = None,
    fitted: Annotated[
        Path | None, typer.Option(help="An .npz of --fit: recognise with what those recordings add.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """Recognise the raga or makam of a recording, with scores; or suggest labels for a folder; or fit a tradition.

    Exit status 1 if nothing could be told of any recording of the folder.
    """
    early_checks.require_path(file, "a recording or a pitch track")
    if fit is not None:
        _fit(file, tradition, fit, json_, {"--tonic": tonic, "--suggest": suggest, "--fitted": fitted})
        return
    if suggest is not None:
        _suggest(file, tradition, tonic, suggest, fitted, json_)
        return
    if file.is_dir():
        raise UsageError(f"{file} is a folder: give one recording, or --suggest {file / 'suggested.csv'} for all of it")
    from talim import progress
    from talim.evaluation.recognize_mode import modes_message, recognize_mode

    result = recognize_mode(file, tradition, tonic, progress.default(), _read_fitted(fitted))
    show(result, json_, modes_message(result))


def _read_fitted(file: Path | None) -> tuple[FittedModes, ...]:
    if file is None:
        return ()
    from talim.traditions.fitted_modes import load_fitted

    return (load_fitted(file),)


def _fit(folder: Path, tradition: str | None, out: Path, json_: bool, others: Mapping[str, object]) -> None:
    if given := [name for name, value in others.items() if value is not None]:
        raise UsageError(f"--fit does not go with {given[0]}: leave one of them out")
    if not folder.is_dir():
        raise UsageError(f"--fit is for a corpus of talim prepare; {folder} is a file")
    from talim import progress
    from talim.evaluation.fit_modes import fit_corpus, fit_message

    result = fit_corpus(folder, out, tradition, progress.default())
    show(result, json_, fit_message(result))


def _suggest(
    folder: Path, tradition: str | None, tonic: float | None, out: Path, fitted: Path | None, json_: bool
) -> None:
    if not folder.is_dir():
        raise UsageError(f"--suggest is for a folder of recordings; {folder} is a file: leave it out")
    if tonic is not None:
        raise UsageError("--tonic is of one recording; with --suggest each recording's own is estimated: leave it out")
    from talim import progress
    from talim.evaluation.suggested_labels import check_new, suggest_labels, suggestions_message, write_suggestions

    check_new(out)
    rows = suggest_labels(folder, tradition, progress.default(), _read_fitted(fitted))
    write_suggestions(out, rows)
    show(rows, json_, suggestions_message(out, folder, rows))
    if all(len(row) == 1 for row in rows):
        raise typer.Exit(1)
