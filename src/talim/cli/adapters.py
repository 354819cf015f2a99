"""`talim adapters`: look at stored adapters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli.options import BaseOption, JsonOption, show

app = typer.Typer(no_args_is_help=True, help="Look at stored adapters: list, info, check.")


@app.command("list", epilog="Example: `talim adapters list runs`")
def adapters_list(
    folder: Annotated[Path, typer.Argument(help="Where to look, at any depth.")] = Path("."),
    json_: JsonOption = False,
) -> None:
    """Name every adapter below a folder."""
    from talim.adapters import inspect

    rows = inspect.find_adapters(folder)
    show(
        rows,
        json_,
        "\n".join(inspect.adapter_line(row) for row in rows) or f"no adapter in {folder} or below it",
    )


@app.command("info", epilog="Example: `talim adapters info my-run/adapter`")
def adapters_info(
    folder: Annotated[Path, typer.Argument(help="Folder of an adapter.")],
    json_: JsonOption = False,
) -> None:
    """Tell what an adapter is and which base it belongs to."""
    from talim.adapters import inspect

    info = inspect.adapter_info(folder)
    show(info, json_, "\n".join(f"{key}: {value}" for key, value in info.items()))


@app.command("check", epilog="Example: `talim adapters check my-run/adapter --base nano-musicgen`")
def adapters_check(
    folder: Annotated[Path, typer.Argument(help="Folder of an adapter.")],
    base: BaseOption = None,
    json_: JsonOption = False,
) -> None:
    """Load an adapter into a base; exit 1 if it does not fit."""
    from talim.generation import sources

    result = sources.check_adapter(folder, base)
    show(result, json_, f"{folder}: fits {result['base']}")
