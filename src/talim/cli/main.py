"""The door: one function per command, lazy imports, no logic."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

import talim
from talim.cli import adapters, generate, listen, plan, poc, report, study
from talim.cli.exit_status import exit_status
from talim.cli.options import (
    BaseOption,
    CaptionOption,
    DesignOption,
    DeviceOption,
    HeldOutOption,
    JsonOption,
    ProtocolOption,
    SamplerOption,
    SamplingStepsOption,
    SeedOption,
    SettingsOption,
    WorkersOption,
    show,
)
from talim.training import distributed

app = typer.Typer(
    name="talim",
    help="Teach a music-generation model a tradition it hardly knows, and hear the difference.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(adapters.app, name="adapters")
listen.register_commands(app)


@app.callback(invoke_without_command=True)
def version(
    asked: typer.Context,
    show: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Teach a music-generation model a tradition it hardly knows, and hear the difference."""
    if show:
        print(f"talim {talim.__version__}")
        raise typer.Exit
    if asked.invoked_subcommand not in (None, "train"):
        distributed.require_single_process(asked.invoked_subcommand)


@app.command(epilog="Example: `talim prepare my-recordings --out my-corpus --describe 'sitar, raga Yaman'`")
def prepare(
    source: Annotated[
        str, typer.Argument(help="Folder of recordings, with or without metadata.csv; or another source.")
    ],
    out: Annotated[Path, typer.Option(help="Where to write the corpus.")],
    from_: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="KIND",
            help="folder, otmm, symbtr[:theory], huggingface, mirdata:LOADER. Else it is recognised.",
        ),
    ] = None,
    describe: CaptionOption = None,
    clip_seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 10.0,
    rate: Annotated[int, typer.Option(help="Sample rate of the stored clips in Hz.")] = 32000,
    channels: Annotated[int, typer.Option(help="1, or 2 for a stereo model.")] = 1,
    held_out_share: Annotated[float, typer.Option(help="Share of the music kept out of training.")] = 0.2,
    held_out: HeldOutOption = None,
    split: Annotated[str, typer.Option(help="auto, performer, lead, release, recording or blocks.")] = "auto",
    seed: SeedOption = 0,
    json_: JsonOption = False,
) -> None:
    """Turn recordings into a corpus of clips with words, rights and a fair split, and a page about it."""
    from talim import progress
    from talim.corpus.prepare_source import prepare as work
    from talim.progress import prepare_progress
    from talim.reporting import messages

    shown = progress.for_terminal()
    corpus = work(
        source,
        out,
        kind=from_,
        say=shown.log,
        clip_seconds=clip_seconds,
        rate_hz=rate,
        seed=seed,
        held_out_share=held_out_share,
        held_out=tuple(held_out or ()),
        describe=describe,
        split=split,
        channels=channels,
        progress=prepare_progress(shown),
    )
    show(corpus.summary, json_, messages.corpus_message(corpus.summary, out))


@app.command(epilog="Example: `talim train --corpus my-corpus --design linear@all:2.5% --out my-run`")
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run; alone, it goes on with the run there.")],
    corpus: Annotated[str | None, typer.Option(help="Folder written by talim prepare.")] = None,
    base: BaseOption = None,
    design: DesignOption = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Every random draw follows from it.")] = None,
    config: Annotated[
        list[Path] | None, typer.Option(help="Recipe YAML or shipped name; may be repeated.")
    ] = None,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    json_: JsonOption = False,
) -> None:
    """Train an adapter; interrupted at any point, the same command goes on from the last checkpoint."""
    from talim.run import resolve_recipe

    given = {"corpus": corpus, "base": base, "design": design, "training.steps": steps, "seed": seed}
    recipe = resolve_recipe(out, config or [], given, settings or [])
    from talim import progress
    from talim.atomic_io import read_json
    from talim.reporting import messages
    from talim.training.train import train as work

    run = work(recipe, out, progress.for_terminal(), device)
    cost = read_json(run.cost)
    if distributed.is_main_process():
        show({"run": str(run.folder), "cost": cost}, json_, messages.training_message(run.folder, cost))


@app.command(epilog="Example: `talim designs --base musicgen-medium --budget 40M`")
def designs(
    base: Annotated[str, typer.Option(help="Base model: known name or a folder with config.json.")],
    budget: Annotated[
        list[str] | None, typer.Option(help="Size: 40M, 250k or 2.5% of the base. May be repeated.")
    ] = None,
    design: Annotated[
        list[str] | None,
        typer.Option(help="Only this expression, such as conv@shallow:20M. May be repeated."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Length of a training clip; else the base's window.")
    ] = None,
    json_: JsonOption = False,
) -> None:
    """List every kind of adapter at every site with its exact cost; needs no weights and no network."""
    from talim.planning.design_costs import design_costs as work
    from talim.planning.design_table import render_designs

    found = work(base, budget or (), design or (), seconds)
    show(found, json_, "" if json_ else render_designs(found))


app.command(epilog=plan.EXAMPLE)(plan.plan)
app.command(epilog=generate.EXAMPLE)(generate.generate)
app.command(epilog=study.EXAMPLE)(study.study)


@app.command(epilog="Example: `talim evaluate my-run`")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    prompts: Annotated[int, typer.Option(min=1, help="Held-out captions to play before and after.")] = 3,
    seconds: Annotated[float, typer.Option(min=1.0, max=600.0, help="Length of each piece.")] = 10.0,
    seed: SeedOption = 0,
    steps: SamplingStepsOption = None,
    sampler: SamplerOption = None,
    device: DeviceOption = "auto",
    protocol: ProtocolOption = "default",
    jobs: WorkersOption = 1,
    json_: JsonOption = False,
) -> None:
    """Judge a run on recordings it never heard: loss before and after, and what the adapter changes."""
    from talim import progress
    from talim.evaluation.evaluate import evaluate as work
    from talim.generation.generate import GenerationOptions
    from talim.reporting import messages

    scores = work(
        run,
        progress.for_terminal(),
        prompts=prompts,
        seconds=seconds,
        seed=seed,
        sampling=GenerationOptions(steps=steps, sampler=sampler),
        device=device,
        protocol=protocol,
        jobs=jobs,
    )
    show(scores, json_, messages.evaluation_message(run))


app.command(epilog=report.EXAMPLE)(report.report)


app.command(epilog=poc.POC_EXAMPLE)(poc.poc)


@app.command(epilog="Example: `talim modes my-recording.flac --tradition hindustani --tonic 146.8`")
def modes(
    file: Annotated[Path, typer.Argument(help="A recording, or an .npz with cents, hop_s and tonic_hz.")],
    tradition: Annotated[
        str | None,
        typer.Option(help="hindustani, makam or a folder of your own; without it, all shipped ones."),
    ] = None,
    tonic: Annotated[float | None, typer.Option(help="The tonic in Hz; found where none is given.")] = None,
    json_: JsonOption = False,
) -> None:
    """Tell which raga or makam a recording is in, with scores."""
    from talim.evaluation.recognize_mode import modes_message
    from talim.evaluation.recognize_mode import recognize_modes as work

    result = work(file, tradition, tonic)
    show(result, json_, modes_message(result))


app.command(epilog=poc.DEMO_EXAMPLE)(poc.demo)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 it worked, 1 it failed, 2 it was asked wrongly, 130 it was stopped."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    if not os.environ.get("TALIM_DEBUG"):
        warnings.simplefilter("ignore")  # of the libraries; what matters to a user is said by talim itself
    sys.exit(exit_status(lambda: app(arguments, standalone_mode=False)))


if __name__ == "__main__":
    main()
