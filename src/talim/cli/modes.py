"""`talim modes`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import JsonOption, show
from talim.errors import UsageError
from talim.terminal_text import one_line

if TYPE_CHECKING:
    from talim.progress import Progress
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
        str | None,
        typer.Option(
            metavar="HZ|NOTE",
            help="The tonic: its frequency in Hz, or a note by its English name (C#, Ab, E flat, D4) at A4 = 440 Hz; "
            "estimated if not given.",
        ),
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

    shown = progress.default()
    tonic_hz = None if tonic is None else _tonic_hz(tonic, shown)
    result = recognize_mode(file, tradition, tonic_hz, shown, _read_fitted(fitted))
    show(result, json_, modes_message(result))


def _tonic_hz(text: str, shown: Progress) -> float:
    """The tonic as in the column `tonic` of metadata; UsageError, with the forms that are read, for all else."""
    from talim.corpus.labels import NUMBERS, names_tonic_by_note, numbers_in

    unit, low, high = NUMBERS["tonic_hz"]
    found = numbers_in("tonic_hz", text)
    if len(found) != 1:
        raise UsageError(
            f"--tonic {one_line(repr(text), 50)}: expected one frequency from {low:g} to {high:g} {unit.capitalize()}, "
            "or one note by its English name: C#, Db, Ab, E flat, B, D4; other names, such as As, Es and H in German, "
            "re and komal re, mean different notes to different people and are not read"
        )
    if names_tonic_by_note({"tonic": text}):
        german = "; for the German B, write Bb" * (text.strip().upper() == "B")
        shown.log(f"tonic: {text.strip()} is read by its English name, as {found[0]:.1f} Hz at A4 = 440 Hz{german}")
    return found[0]


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
    folder: Path, tradition: str | None, tonic: str | None, out: Path, fitted: Path | None, json_: bool
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
