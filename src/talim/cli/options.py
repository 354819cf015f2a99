"""What several commands share: options of one meaning, and how a result is printed."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

JsonOption = Annotated[bool, typer.Option("--json", help="Print the result as one JSON document on stdout.")]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 and so on.")]
SeedOption = Annotated[int, typer.Option(help="Every random draw follows from it.")]
BaseOption = Annotated[str | None, typer.Option(help="Base model: known name, Hub id or local folder.")]
DesignOption = Annotated[
    str | None, typer.Option(help="Adapter as KIND@SITE:SIZE, for example linear@all:2.5%.")
]
SettingsOption = Annotated[
    list[str] | None, typer.Option("--set", help="Any recipe key, as KEY=VALUE. May be repeated.")
]
ProtocolOption = Annotated[str, typer.Option(help="default, or paper: adds VGGish-FAD and PANNs-FD.")]
WorkersOption = Annotated[int, typer.Option(min=1, help="Clips to listen to at a time.")]
HeldOutOption = Annotated[
    list[str] | None, typer.Option(help="A recording to keep out of training. May be repeated.")
]
SamplingStepsOption = Annotated[
    int | None, typer.Option(help="Mustango: steps from noise to music.", show_default="100")
]
SamplerOption = Annotated[
    str | None, typer.Option(help="Mustango: ddpm, ddim or dpm++.", show_default="ddpm")
]
CaptionOption = Annotated[
    str | None, typer.Option(help="Words for all recordings that have none of their own.")
]


def show(document: Any, as_json: bool, text: str) -> None:
    """The document as JSON, or the text for people, on stdout."""
    print(json.dumps(document, indent=2, ensure_ascii=False) if as_json else text)
