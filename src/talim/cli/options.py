"""Options that several commands share, and how a result is printed."""

from __future__ import annotations

import json
import os
import sys
from typing import Annotated, Any

import typer

from talim import progress
from talim.atomic_io import to_jsonable
from talim.terminal_text import printable

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on standard output.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
SeedOption = Annotated[int, typer.Option(help="Random seed.")]
BaseOption = Annotated[str | None, typer.Option(help="Base model: name, Hub id, NAME@REVISION or folder.")]
DesignOption = Annotated[str | None, typer.Option(help="Adapter as KIND@SITE:SIZE, for example linear@all:2.5%.")]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Any recipe key. Repeatable.")
]
ProtocolOption = Annotated[str, typer.Option(help="default, or paper: adds VGGish FAD and PANNs FD.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Clips measured in parallel.")]
ClipSecondsOption = Annotated[
    float | None,
    typer.Option(help="Length of a training clip, at most the base's window.", show_default="10, as talim prepare"),
]
HeldOutOption = Annotated[list[str] | None, typer.Option(help="A recording to keep out of training. Repeatable.")]
SamplingStepsOption = Annotated[int | None, typer.Option(help="Denoising steps (Mustango only).", show_default="100")]
SamplerOption = Annotated[str | None, typer.Option(help="ddpm, ddim or dpm++ (Mustango only).", show_default="ddpm")]
HostOption = Annotated[str, typer.Option(help="Address to serve at; by default reachable from this machine only.")]
UrlOption = Annotated[str | None, typer.Option(help="Public address, if a proxy serves it by https.")]
ProxyOption = Annotated[
    str | None, typer.Option(help="Address of the proxy before this server, whose X-Forwarded-For is believed.")
]
NoServeOption = Annotated[bool, typer.Option("--no-serve", help="Create files and links without serving.")]
DatabaseOption = Annotated[str | None, typer.Option(help="Database URL; an SQLite file in the folder if not given.")]
CaptionOption = Annotated[str | None, typer.Option(help="Caption of every recording that has none in its metadata.")]


def begin(text: str) -> None:
    """Say on standard error what begins, before libraries are loaded, which takes seconds."""
    if os.environ.get("RANK", "0") == "0":  # of several processes that train together
        progress.default().log(text)


def show(document: Any, as_json: bool, text: str) -> None:
    """Print the document as JSON, or `text`, on standard output, without control codes of others."""
    if as_json:
        document = to_jsonable(document)
        text = json.dumps(document, indent=2, ensure_ascii=False)
        if not is_plain(text):
            text = json.dumps(document, indent=2)
    print(printable(text, keep="\n\t"))


def is_plain(text: str) -> bool:
    """Whether standard output takes the text as it stands."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return printable(text, keep="\n") == text
