"""The language in which a command tells its result: the one that is asked for, else that of the locale."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Annotated, Any

import typer

from talim.cli.options import is_plain, show
from talim.errors import UsageError
from talim.html.languages import languages

LOCALE = ("LC_ALL", "LC_MESSAGES", "LANG")  # the first that is set decides
LanguageOption = Annotated[
    str | None,
    typer.Option(
        help=f"Language of the result on the terminal: {', '.join(languages())}.", show_default="of the locale, else en"
    ),
]


def check_language(given: str | None) -> None:
    """UsageError for a language that results are not told in."""
    if given is not None and given not in languages():
        raise UsageError(f"--language {given!r}: choose one of {', '.join(languages())}")


def show_in(given: str | None, document: Any, as_json: bool, tell: Callable[[str], str]) -> None:
    """Print the document as JSON, or what `tell` says in the language; English where the terminal has no letters."""
    name = next((os.environ[key] for key in LOCALE if os.environ.get(key)), "")
    wanted = given or name.partition("_")[0].partition(".")[0]
    text = tell(wanted if wanted in languages() else "en")
    show(document, as_json, text if given or is_plain(text) else tell("en"))
