"""`talim demo`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.language import LanguageOption, check_language, show_in
from talim.cli.options import JsonOption

EXAMPLE = "Example: `talim demo --out my-demo`"


def demo(
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("talim-demo"),
    base: Annotated[str, typer.Option(help="Miniature base model; a larger one takes longer.")] = "nano-musicgen",
    language: LanguageOption = None,
    json_: JsonOption = False,
) -> None:
    """The full pipeline on a built-in corpus with a miniature model: minutes on two CPU cores."""
    check_language(language)
    early_checks.check_loadable(base)
    early_checks.check_name(out)
    from talim import progress
    from talim.html.languages import from_fields, to_fields
    from talim.poc.demo import compare_designs_sentence, demo_options
    from talim.poc.demo import demo as run_demo
    from talim.reporting import messages

    result = run_demo(out, progress.default(), demo_options(base))
    compared = compare_designs_sentence(result["designs"])
    lines = from_fields(result, "sentences")
    result |= to_fields("sentences", {code: [*lines.get(code, []), text] for code, text in compared.items()})
    # a gate that is not met is shown, too: it is a demonstration
    show_in(language, result, json_, lambda code: messages.poc_message(result, code))
