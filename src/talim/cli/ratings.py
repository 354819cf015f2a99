"""`talim ratings`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.language import LanguageOption, check_language, show_in
from talim.cli.options import JsonOption

EXAMPLE = "Example: `talim ratings my-poc --merge other-site.jsonl`"


def ratings(
    folder: Annotated[Path, typer.Argument(help="The folder that talim listen served.")],
    merge: Annotated[list[Path] | None, typer.Option(help="Another site's JSONL export. Repeatable.")] = None,
    scores: Annotated[
        Path | None, typer.Option(help="JSON of automatic scores by metric and condition, to correlate.")
    ] = None,
    database: Annotated[str | None, typer.Option(help="Database URL; DIR/votes.db if not given.")] = None,
    language: LanguageOption = None,
    json_: JsonOption = False,
) -> None:
    """Analyse a listening test: strengths with intervals over listeners, agreement, a page."""
    check_language(language)
    early_checks.require_folder(folder, "the folder that talim listen served")
    for path in [*(merge or ()), *([scores] if scores else [])]:
        early_checks.require_path(path, "a file of votes or scores")
    from talim.listening.ratings_report import rate_folder, sentences
    from talim.reporting.messages import people_message

    result = rate_folder(folder, merge or (), scores, database)
    lines = sentences(result).splitlines()
    show_in(language, result, json_, lambda code: people_message(result | {"sentences": lines}, code))
