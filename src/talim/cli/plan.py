"""`talim plan`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from talim.cli import early_checks
from talim.cli.language import LanguageOption, check_language, show_in
from talim.cli.options import ClipSecondsOption, JsonOption
from talim.errors import TalimError, UsageError
from talim.out_of_memory import memory_detail, memory_that_ran_out

EXAMPLE = "Example: `talim plan --base musicgen-medium --design conv@all:40M --gpu rtx-3060 --price-per-hour 0.2`"


def plan(
    study: Annotated[
        Path | None, typer.Argument(help="YAML file of a study, for the total of its trials; or give --base.")
    ] = None,
    base: Annotated[str | None, typer.Option(help="Base model: known name or a folder; no weights are needed.")] = None,
    design: Annotated[
        list[str] | None,
        typer.Option(
            help="Adapter as KIND@SITE:SIZE, compared with full@all. Repeatable.",
            show_default="linear@all:2.5%, as talim train",
        ),
    ] = None,
    gpu: Annotated[
        str | None, typer.Option(help="GPU by name, such as rtx-3060, l4 or h100-80gb; this CPU if not given.")
    ] = None,
    clip_seconds: ClipSecondsOption = None,
    batch_size: Annotated[int | None, typer.Option(help="Clips per step.", show_default="8, as talim train")] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.", show_default="300, as talim train")] = None,
    hours_of_music: Annotated[
        float | None,
        typer.Option(
            help="Hours of recordings to train on, without those held out (a fifth to a third): tells how many passes "
            "over them the steps are, and the steps and time of 30 passes."
        ),
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="Instead of hours: a folder written by talim prepare, with its clip length.")
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(help="Numbers of the frozen base: bf16 (16 bits) or fp32 (32 bits); else by the hardware."),
    ] = None,
    gradient_checkpointing: Annotated[
        bool, typer.Option("--gradient-checkpointing", help="Less memory, about a third more time.")
    ] = False,
    memory_gb: Annotated[
        float | None, typer.Option(help="Memory limit in GB; the device's memory if not given.")
    ] = None,
    price_per_hour: Annotated[float | None, typer.Option(help="Machine price per hour, in any currency.")] = None,
    price_per_kwh: Annotated[float | None, typer.Option(help="Electricity price per kWh.")] = None,
    watts: Annotated[float | None, typer.Option(help="Power draw; a GPU's board power if not given.")] = None,
    recalibrate: Annotated[bool, typer.Option("--recalibrate", help="Measure this CPU's speed again.")] = False,
    language: LanguageOption = None,
    json_: JsonOption = False,
) -> None:
    """Predict memory, time, energy and money of training, by tracing the real training step.

    Exit status 1 where none of the designs fits into the memory.
    """
    check_language(language)
    if (study is None) == (base is None):
        raise UsageError("talim plan takes either a study's YAML file or --base")
    early_checks.check_described(base, design or ())
    if study is not None:
        early_checks.require_yaml(study, "the YAML file of a study")
        from talim.experiments.estimates import total_message

        summed = _plan_study(study, gpu, price_per_hour, price_per_kwh, watts, recalibrate)
        show_in(language, summed, json_, lambda code: total_message(summed, code))
        return
    from talim import api
    from talim.design.expression import Design
    from talim.planning.tables import render_plan
    from talim.recipe import Recipe

    design = design or [str(Recipe.model_fields["design"].default)]
    asked = {str(Design.parse(text)) for text in design}
    with _memory_explained():
        planned = api.plan(
            str(base),
            design,
            gpu=gpu,
            crop_seconds=clip_seconds,
            batch_size=batch_size,
            steps=steps,
            hours_of_music=hours_of_music,
            corpus=corpus,
            precision=precision,
            gradient_checkpointing=gradient_checkpointing,
            memory_gb=memory_gb,
            price_per_hour=price_per_hour,
            price_per_kwh=price_per_kwh,
            watts=watts,
            recalibrate=recalibrate,
        )
    show_in(language, planned, json_, lambda code: render_plan(planned, code))
    if not any(row["fits"] for row in planned["designs"] if row["design"] in asked):
        raise typer.Exit(1)


@contextlib.contextmanager
def _memory_explained() -> Iterator[None]:
    """Where planning itself runs out of memory: advice on training would not help."""
    try:
        yield
    except Exception as error:
        if not (place := memory_that_ran_out(error)):
            raise
        raise TalimError(
            f"{place} is too small to plan ({memory_detail(error)}): a plan traces the base without its weights, which "
            "takes about 1 GB whatever the design; close other programs, or plan elsewhere"
        ) from None


def _plan_study(
    file: Path,
    gpu: str | None,
    price_per_hour: float | None,
    price_per_kwh: float | None,
    watts: float | None,
    recalibrate: bool,
) -> dict[str, Any]:
    """The sum over all trials of a study."""
    from talim import progress
    from talim.experiments import estimates
    from talim.experiments.runner import list_trials
    from talim.planning import plan as planning
    from talim.planning.cpu_calibration import hardware_profile
    from talim.planning.trace_cache import default_cache_folder

    planning.check_options(None, watts=watts, price_per_hour=price_per_hour, price_per_kwh=price_per_kwh)
    reporter, cache = progress.default(), default_cache_folder()
    jobs = [estimates.job_of(trial, base, file.parent) for trial, _, base in list_trials(file, file.parent)]
    return planning.plan_total(
        jobs,
        hardware_profile(gpu, watts, cache, recalibrate, reporter),
        planning.EnergyPrices(price_per_hour, price_per_kwh),
        cache,
        reporter,
    )
