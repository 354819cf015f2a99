"""The commands that go the whole road: on one's own recordings, and on a built-in corpus."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli.options import (
    CaptionOption,
    DeviceOption,
    HeldOutOption,
    JsonOption,
    SeedOption,
    SettingsOption,
    show,
)

POC_EXAMPLE = "Example: `talim poc my-recordings --out my-poc --describe 'sitar, raga Yaman' --hours 1`"
DEMO_EXAMPLE = "Example: `talim demo --out my-demo`"


def poc(
    folder: Annotated[Path, typer.Argument(help="Folder of your own recordings.")],
    out: Annotated[Path, typer.Option(help="Folder for everything; the same command goes on there.")],
    base: Annotated[str, typer.Option(help="Base model: known name, Hub id or folder.")] = "nano-musicgen",
    hours: Annotated[
        float | None, typer.Option(help="Time to spend in all; a few steps are timed first.")
    ] = None,
    describe: CaptionOption = None,
    design: Annotated[
        list[str] | None,
        typer.Option(
            help="Adapter as KIND@SITE:SIZE. May be repeated; else linear, conv and transformer at 2.7 %."
        ),
    ] = None,
    seed: SeedOption = 0,
    held_out: HeldOutOption = None,
    use: Annotated[
        str,
        typer.Option(help="any, or commercial: leaves out what forbids that or whose licence is unknown."),
    ] = "any",
    gates: Annotated[
        Path | None, typer.Option(help="YAML file with your own thresholds (docs/poc.md).")
    ] = None,
    stage: Annotated[str, typer.Option(help="all; or go on from the finished runs: extend, hybrid.")] = "all",
    curve: Annotated[
        bool,
        typer.Option("--curve/--no-curve", help="Learn from a quarter and a half of the recordings too."),
    ] = True,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """From your recordings to a page in one command: cost, quality, task, with a gate at each stage."""
    from talim import progress
    from talim.poc.options import DESIGNS, PocOptions
    from talim.poc.pipeline import poc as work
    from talim.recipe import parse_setting
    from talim.reporting import messages

    wishes = PocOptions(
        base=base,
        designs=tuple(design or DESIGNS),
        seed=seed,
        hours=hours,
        describe=describe,
        held_out=tuple(held_out or ()),
        settings=tuple(parse_setting(text) for text in settings or ()),
        use=use,
        gates=gates,
        curve=curve,
        device=device,
    )
    result = work(folder, out, wishes, progress.for_terminal(), stage)
    show(result, json_, messages.poc_message(result))


def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything.")] = Path("talim-demo"),
    base: Annotated[
        str, typer.Option(help="A miniature base; a larger one takes its time.")
    ] = "nano-musicgen",
    json_: JsonOption = False,
) -> None:
    """The whole road on a built-in corpus and a miniature base: minutes on two CPU cores."""
    from talim import progress
    from talim.poc.demo import compare_designs_sentence, demo_options
    from talim.poc.demo import demo as work
    from talim.reporting import messages

    told = work(out, progress.for_terminal(), demo_options(base))
    result = told | {"sentences": [*told["sentences"], compare_designs_sentence(told["designs"])]}
    show(result, json_, messages.poc_message(result))
