"""`talim adapters list|info|check`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import BaseOption, JsonOption, show
from talim.terminal_text import one_line

app = typer.Typer(no_args_is_help=True, help="List, describe and check stored adapters.")


@app.command("list", epilog="Example: `talim adapters list runs`")
def adapters_list(
    folder: Annotated[Path, typer.Argument(help="Folder to search, at any depth.")] = Path(), json_: JsonOption = False
) -> None:
    """List every adapter below a folder."""
    early_checks.require_folder(folder, "a folder to search for adapters")
    from talim.adapters import inspect

    rows = inspect.find_adapters(folder)
    lines = [inspect.adapter_line(row) for row in rows]
    show(rows, json_, "\n".join(lines) or f"no adapter in {folder} or below it")


@app.command("info", epilog="Example: `talim adapters info my-run/adapter`")
def adapters_info(
    folder: Annotated[Path, typer.Argument(help="Folder of an adapter.")], json_: JsonOption = False
) -> None:
    """Print an adapter's design, size, base model and versions."""
    early_checks.require_folder(folder, "the folder of an adapter")
    from talim.adapters import inspect

    info = inspect.adapter_info(folder)
    show(info, json_, "\n".join(one_line(line) for line in inspect.info_lines(info)))


@app.command("check", epilog="Example: `talim adapters check my-run/adapter --base nano-musicgen`")
def adapters_check(
    folder: Annotated[Path, typer.Argument(help="Folder of an adapter.")],
    base: BaseOption = None,
    json_: JsonOption = False,
) -> None:
    """Load an adapter into a base. Exit status 1 if it does not fit."""
    early_checks.require_folder(folder, "the folder of an adapter")
    early_checks.check_loadable(base)
    from talim.generation import sources

    result = sources.check_adapter(folder, base)
    show(result, json_, one_line(f"{folder}: fits {result['base']}"))
