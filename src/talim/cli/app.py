"""`talim app`: the whole road in the browser."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import HostOption

EXAMPLE = "Example: `talim app my-work`"


def app(
    folder: Annotated[Path, typer.Argument(help="Folder in which the app works; made if there is none.")] = Path(
        "talim-app"
    ),
    host: HostOption = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0 takes a free one.")] = 8768,
    no_browser: Annotated[
        bool, typer.Option("--no-browser", help="Do not open the browser, which is done where there is a screen.")
    ] = False,
) -> None:
    """From recordings to music in the browser: every page runs a command of talim in one folder, and shows it."""
    early_checks.check_name(folder)
    from talim.listening import server

    server.require_packages()
    from talim.app.launch import serve_app

    serve_app(folder, host, port, not no_browser)
