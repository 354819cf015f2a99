"""The command that tells what training will cost before anything is spent."""

from __future__ import annotations

from typing import Annotated

import typer

from talim.cli.options import Json, show

EXAMPLE = (
    "Example: `talim plan --base musicgen-medium --design conv@all:40M --gpu rtx-3060 --price-per-hour 0.2`"
)


def plan(
    base: Annotated[str, typer.Option(help="Base model: known name or a folder; no weights are needed.")],
    design: Annotated[
        list[str], typer.Option(help="Adapter as KIND@SITE:SIZE. May be repeated; full@all stands beside.")
    ],
    gpu: Annotated[
        str | None, typer.Option(help="A GPU of the table, such as rtx-3060, l4 or h100-80gb; else this CPU.")
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Length of a training clip; else the base's window.")
    ] = None,
    batch: Annotated[int, typer.Option(help="Clips in a step.")] = 1,
    music_hours: Annotated[float, typer.Option(help="Hours of music to learn from.")] = 1.0,
    epochs: Annotated[float, typer.Option(help="How often all of it is heard.")] = 10.0,
    precision: Annotated[
        str | None, typer.Option(help="bf16 or fp32 of the frozen base; else what suits the hardware.")
    ] = None,
    checkpointing: Annotated[
        bool, typer.Option("--checkpointing", help="Gradient checkpointing: less memory, a third more time.")
    ] = False,
    memory_gb: Annotated[
        float | None, typer.Option(help="What may be taken (10^9 bytes); else what the machine has.")
    ] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="Of the machine, in your currency.")] = None,
    price_per_kwh: Annotated[float | None, typer.Option(help="Of electricity, in your currency.")] = None,
    watts: Annotated[
        float | None, typer.Option(help="What the machine draws; else a GPU's board power.")
    ] = None,
    calibrate: Annotated[bool, typer.Option("--calibrate", help="Time this CPU anew.")] = False,
    json_: Json = False,
) -> None:
    """Tell the memory, time, energy and money of designs beforehand, by tracing the real training step."""
    from talim.stages import plan as stage
    from talim.stages import plan_table, progress
    from talim.stages.calibration import machine_for
    from talim.stages.shelf_of_traces import usual

    shown, prices = (
        progress.for_terminal(),
        {"price_per_hour": price_per_hour, "price_per_kwh": price_per_kwh},
    )
    stage.check_wishes(precision, memory_gb=memory_gb, watts=watts, **prices)
    machine = machine_for(gpu, watts, usual(), calibrate, shown)
    found = stage.plan(
        base,
        design,
        machine,
        seconds=seconds,
        batch=batch,
        music_hours=music_hours,
        epochs=epochs,
        precision=precision,
        checkpointing=checkpointing,
        limit_bytes=None if memory_gb is None else memory_gb * 1e9,
        prices=stage.Prices(price_per_hour, price_per_kwh),
        cache=usual(),
        progress=shown,
    )
    show(found, json_, "" if json_ else plan_table.draw(found))
