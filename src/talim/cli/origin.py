"""`talim origin`: what a file says of how it was made; certificates that sign what is generated."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.default_command import DefaultCommandGroup
from talim.cli.options import JsonOption, show
from talim.terminal_text import one_line

app = typer.Typer(
    cls=DefaultCommandGroup,
    no_args_is_help=True,
    help="Say whether sound files are marked as made by a model: tags, content credentials (C2PA). `talim origin FILE` "
    "is `talim origin show FILE`.",
)


@app.command("show", epilog="Example: `talim origin morning.flac`")
def origin_show(
    files: Annotated[list[Path], typer.Argument(metavar="FILE...", help="Sound files.")], json_: JsonOption = False
) -> None:
    """Show the marks of sound files. A file without marks may have lost them."""
    for path in files:
        early_checks.require_file(path, "a sound file")
    from talim.audio.origin import origin_lines, origin_of

    origins = [origin_of(path) for path in files]
    text = ["\n  ".join(map(one_line, origin_lines(origin))) for origin in origins]
    show(origins, json_, "\n".join(text))


@app.command("certificate", epilog="Example: `talim origin certificate studio.pem --name 'My Studio'`")
def origin_certificate(
    file: Annotated[Path, typer.Argument(help="New file for the certificate and its private key.")],
    name: Annotated[str, typer.Option(help="Who signs, as it will stand in every file.")],
) -> None:
    """Make a certificate of your own that signs what talim generates."""
    early_checks.check_name(file)
    from talim.audio.credentials import VARIABLE, make_certificate

    make_certificate(file, name)
    print(
        f"{file}: a certificate and its private key, which nobody else should have. What is generated is signed with:\n"
        f"export {VARIABLE}={file.resolve()}"
    )
