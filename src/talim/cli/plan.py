"""The command that tells what training will cost before anything is spent."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli.options import JsonOption, show
from talim.errors import UsageError

EXAMPLE = (
    "Example: `talim plan --base musicgen-medium --design conv@all:40M --gpu rtx-3060 --price-per-hour 0.2`"
)


def plan(
    study: Annotated[
        Path | None,
        typer.Argument(help="YAML file of a study, for the total of its trials; else give a base."),
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="Base model: known name or a folder; no weights are needed.")
    ] = None,
    design: Annotated[
        list[str] | None,
        typer.Option(help="Adapter as KIND@SITE:SIZE. May be repeated; full@all stands beside."),
    ] = None,
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
    json_: JsonOption = False,
) -> None:
    """Tell the memory, time, energy and money of designs beforehand, by tracing the real training step."""
    from talim import progress
    from talim.planning import plan as stage
    from talim.planning import plan_table
    from talim.planning.cpu_calibration import hardware_profile
    from talim.planning.trace_cache import default_cache_folder

    shown, prices = (
        progress.for_terminal(),
        {"price_per_hour": price_per_hour, "price_per_kwh": price_per_kwh},
    )
    stage.check_options(precision, memory_gb=memory_gb, watts=watts, **prices)
    if (study is None) == (base is None):
        raise UsageError(
            "talim plan takes either a study's YAML file or --base with --design; see talim plan --help"
        )
    machine = hardware_profile(gpu, watts, default_cache_folder(), calibrate, shown)
    if study is not None:
        from talim.experiments import estimates
        from talim.experiments.runner import list_trials

        jobs = [estimates.plan_request(each, where) for each, _, where in list_trials(study, study.parent)]
        summed = stage.plan_total(
            jobs, machine, stage.EnergyPrices(price_per_hour, price_per_kwh), default_cache_folder(), shown
        )
        show(summed, json_, estimates.total_message(summed))
        return
    if not design:
        raise UsageError("talim plan --base needs at least one --design, for example --design conv@all:2.7%")
    assert base is not None
    found = stage.plan_designs(
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
        prices=stage.EnergyPrices(price_per_hour, price_per_kwh),
        cache=default_cache_folder(),
        progress=shown,
    )
    show(found, json_, "" if json_ else plan_table.render_plan(found))
