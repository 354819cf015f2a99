"""`talim evaluate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.options import (
    DeviceOption,
    JsonOption,
    ProtocolOption,
    SamplerOption,
    SamplingStepsOption,
    SeedOption,
    WorkersOption,
    show,
)

EXAMPLE = (
    "Example: `talim evaluate my-run`, or `talim evaluate --real recordings --generated samples`, or "
    "`talim evaluate --adapter their-lora --corpus my-corpus --out their-scores`"
)


def evaluate(
    run: Annotated[Path | None, typer.Argument(help="Folder of a finished run.")] = None,
    real: Annotated[Path | None, typer.Option(help="Without a run: folder of real recordings, the reference.")] = None,
    generated: Annotated[Path | None, typer.Option(help="Without a run: folder of generated audio to score.")] = None,
    adapter: Annotated[
        str | None, typer.Option(help="Without a run: an adapter of PEFT or talim, by its folder or Hub id.")
    ] = None,
    corpus: Annotated[
        Path | None, typer.Option(help="With --adapter: folder of talim prepare, whose held-out clips are scored.")
    ] = None,
    base: Annotated[
        str | None, typer.Option(help="With --adapter: its base model, as in talim train.", show_default="as it says")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="With --real: file for the scores (JSON). With --adapter: folder of the results."),
    ] = None,
    num_prompts: Annotated[
        int, typer.Option(min=1, help="Held-out captions that are generated with and without the adapter.")
    ] = 3,
    num_continuations: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Held-out clips whose first seconds are continued with and without the adapter (MusicGen only).",
            show_default="as --num-prompts",
        ),
    ] = None,
    seconds: Annotated[float, typer.Option(min=1.0, max=600.0, help="Length of each piece.")] = 10.0,
    seed: SeedOption = 0,
    sampling_steps: SamplingStepsOption = None,
    sampler: SamplerOption = None,
    device: DeviceOption = "auto",
    protocol: ProtocolOption = "default",
    num_workers: WorkersOption = 1,
    json_: JsonOption = False,
) -> None:
    """Score a run or an adapter on held-out recordings: loss with and without the adapter, samples, music scores."""
    early_checks.check_loadable(base, device)
    if run is not None:
        from talim.generation.sources import find_run

        early_checks.require_folder(run, "the folder of a run")
        if (run / "adapter_config.json").is_file() and adapter is None:
            run, adapter = None, str(run)
        else:
            find_run(run)
    for folder in (real, generated):
        if folder is not None:
            early_checks.require_path(folder, "recordings")
    if out is not None:
        early_checks.check_name(out)
    from talim import api
    from talim.reporting import messages

    scores = api.evaluate(
        run,
        real=real,
        generated=generated,
        adapter=adapter,
        corpus=corpus,
        base=base,
        out=out,
        num_prompts=num_prompts,
        num_continuations=num_continuations,
        seconds=seconds,
        seed=seed,
        sampling_steps=sampling_steps,
        sampler=sampler,
        device=device,
        protocol=protocol,
        num_workers=num_workers,
    )
    scored = out if adapter is not None else run
    text = messages.folder_scores_message(scores, out) if scored is None else messages.evaluation_message(scored)
    show(scores, json_, text)
