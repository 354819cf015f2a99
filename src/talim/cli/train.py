"""`talim train`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import BaseOption, DesignOption, DeviceOption, JsonOption, SettingsOption, begin, show
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from talim.recipe import Recipe
    from talim.run import Run

EXAMPLE = (
    "Example: `talim train --corpus my-corpus --design linear@all:2.5% --out my-run`, or "
    "`talim train --corpus my-corpus --init-from their-lora --out my-run`"
)


def train(
    out: Annotated[Path, typer.Option(help="Folder of the run. Given alone, the run in it is resumed.")],
    corpus: Annotated[str | None, typer.Option(help="Folder written by talim prepare.")] = None,
    base: BaseOption = None,
    design: DesignOption = None,
    init_from: Annotated[
        str | None,
        typer.Option(
            help="Adapter to train further, with its design: folder of PEFT or talim, run, or Hub id. By default the "
            "adapter begins untrained."
        ),
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Random seed.")] = None,
    config: Annotated[
        list[Path] | None, typer.Option(help="Recipe YAML, or the name of a shipped recipe. Repeatable.")
    ] = None,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Train an adapter. Rerun the same command to resume from the last checkpoint."""
    from talim.run import Run, resolve_recipe

    early_checks.check_name(out)

    given = {"corpus": corpus, "base": base, "design": design, "init_from": init_from}
    given |= {"training.steps": steps, "seed": seed}
    recipe = resolve_recipe(out, config or [], given, settings or [])
    if recipe.init_from is not None and not Run(out).finished:
        from talim.training.start_adapter import complete_recipe

        recipe = complete_recipe(recipe, Run(out))
    from talim import api

    if not Run(out).finished:
        early_checks.check_loadable(recipe.base, device, [str(recipe.design)])
    recipe = api.checked_recipe(recipe, out, device)
    if not Run(out).finished:
        begin(f"{out}: loading the base {recipe.base} and the corpus {recipe.corpus}")
    from talim.atomic_io import read_json
    from talim.reporting import messages
    from talim.training import distributed

    if distributed.is_main_process():
        _tell_plan(Run(out), recipe, device)
    run = api.train_checked(recipe, out, device=device)
    cost = read_json(run.cost)
    if distributed.is_main_process():
        show({"run": str(run.folder), "cost": cost}, json_, messages.training_message(run.folder))


def _tell_plan(run: Run, recipe: Recipe, device: str) -> None:
    """Tell what a training that begins needs, as plans say it; the command of the plan where it is not known here."""
    from talim import progress
    from talim.backbones.devices import pick_device
    from talim.planning import plan, tables
    from talim.planning.trace_cache import default_cache_folder
    from talim.planning.training_job import prepared_clip_seconds, prepared_music, training_job

    if run.finished or run.checkpoint.is_file() or recipe.design.is_stored:
        return
    clip_seconds = prepared_clip_seconds(Path(recipe.corpus))
    if clip_seconds is None:
        return
    job = training_job(recipe.model_dump(mode="json"), clip_seconds)
    cost = plan.known_cost(job, pick_device(device), default_cache_folder())
    needs = (
        "how long the rest takes is told after the first steps; time and memory that it needs are told by: "
        f"{job.command()}"
    )
    if cost is not None:
        needs = f"planned: {tables.training_needs(cost)} (validation, encoding of clips and evaluation come on top)"
    music = prepared_music(Path(recipe.corpus), recipe.training.train_fraction)
    if music.seconds:
        passes = job.steps / music.steps_per_pass(job.batch_size, job.crop_seconds)
        needs = f"{format_counted(job.steps, 'step')}: {tables.passes_text(passes, music.seconds)}; {needs}"
    progress.default().log(needs)
