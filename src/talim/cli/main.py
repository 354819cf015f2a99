"""The door: one function per command, lazy imports, no logic."""

from __future__ import annotations

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated

import typer

import talim
from talim.cli import adapters, listening, making, planning, proving, reporting, studying
from talim.cli.options import (
    Base,
    Describe,
    Design,
    Device,
    HeldOut,
    Jobs,
    Json,
    Protocol,
    Sampler,
    Seed,
    Sets,
    Steps,
    show,
)
from talim.stages import parallel
from talim.stages.ending import exit_status

app = typer.Typer(
    name="talim",
    help="Teach a music-generation model a tradition it hardly knows, and hear the difference.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
app.add_typer(adapters.app, name="adapters")
listening.add_to(app)


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
        parallel.refuse_company(asked.invoked_subcommand)


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
    describe: Describe = None,
    clip_seconds: Annotated[float, typer.Option(help="Length of a clip.")] = 10.0,
    rate: Annotated[int, typer.Option(help="Sample rate of the stored clips in Hz.")] = 32000,
    channels: Annotated[int, typer.Option(help="1, or 2 for a stereo model.")] = 1,
    held_out_share: Annotated[float, typer.Option(help="Share of the music kept out of training.")] = 0.2,
    held_out: HeldOut = None,
    split: Annotated[str, typer.Option(help="auto, performer, lead, release, recording or blocks.")] = "auto",
    seed: Seed = 0,
    json_: Json = False,
) -> None:
    """Turn recordings into a corpus of clips with words, rights and a fair split, and a page about it."""
    from talim.stages import progress
    from talim.stages.prepare import prepare as work
    from talim.study import telling
    from talim.study.poc.road import preparing

    shown = progress.for_terminal()
    corpus = work(
        source,
        out,
        kind=from_,
        say=shown.say,
        clip_seconds=clip_seconds,
        rate_hz=rate,
        seed=seed,
        held_out_share=held_out_share,
        held_out=tuple(held_out or ()),
        describe=describe,
        split=split,
        channels=channels,
        progress=preparing(shown),
    )
    show(corpus.summary, json_, telling.corpus(corpus.summary, out))


@app.command(epilog="Example: `talim train --corpus my-corpus --design linear@all:2.5% --out my-run`")
def train(
    out: Annotated[Path, typer.Option(help="Folder of the run; alone, it goes on with the run there.")],
    corpus: Annotated[str | None, typer.Option(help="Folder written by talim prepare.")] = None,
    base: Base = None,
    design: Design = None,
    steps: Annotated[int | None, typer.Option(help="Training steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Every random draw follows from it.")] = None,
    config: Annotated[
        list[Path] | None, typer.Option(help="Recipe YAML or shipped name; may be repeated.")
    ] = None,
    settings: Sets = None,
    device: Device = "auto",
    json_: Json = False,
) -> None:
    """Train an adapter; interrupted at any point, the same command goes on from the last checkpoint."""
    from talim.stages.asked import recipe_for

    given = {"corpus": corpus, "base": base, "design": design, "training.steps": steps, "seed": seed}
    recipe = recipe_for(out, config or [], given, settings or [])
    from talim.run import read_json
    from talim.stages import progress
    from talim.stages.train import train as work
    from talim.study import telling

    run = work(recipe, out, progress.for_terminal(), device)
    cost = read_json(run.cost)
    if parallel.speaks():
        show({"run": str(run.folder), "cost": cost}, json_, telling.training(run.folder, cost))


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
    json_: Json = False,
) -> None:
    """List every kind of adapter at every site with its exact cost; needs no weights and no network."""
    from talim.stages.design_table import draw
    from talim.stages.designs import designs as work

    found = work(base, budget or (), design or (), seconds)
    show(found, json_, "" if json_ else draw(found))


app.command(epilog=planning.EXAMPLE)(planning.plan)
app.command(epilog=making.EXAMPLE)(making.generate)
app.command(epilog=studying.EXAMPLE)(studying.study)


@app.command(epilog="Example: `talim evaluate my-run`")
def evaluate(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    prompts: Annotated[int, typer.Option(min=1, help="Held-out captions to play before and after.")] = 3,
    seconds: Annotated[float, typer.Option(min=1.0, max=600.0, help="Length of each piece.")] = 10.0,
    seed: Seed = 0,
    steps: Steps = None,
    sampler: Sampler = None,
    device: Device = "auto",
    protocol: Protocol = "default",
    jobs: Jobs = 1,
    json_: Json = False,
) -> None:
    """Judge a run on recordings it never heard: loss before and after, and what the adapter changes."""
    from talim.stages import progress
    from talim.stages.evaluate import evaluate as work
    from talim.stages.generate import Sampling
    from talim.study import telling

    scores = work(
        run,
        progress.for_terminal(),
        prompts=prompts,
        seconds=seconds,
        seed=seed,
        sampling=Sampling(steps=steps, sampler=sampler),
        device=device,
        protocol=protocol,
        jobs=jobs,
    )
    show(scores, json_, telling.judgement(run))


app.command(epilog=reporting.EXAMPLE)(reporting.report)


app.command(epilog=proving.POC_EXAMPLE)(proving.poc)


@app.command(epilog="Example: `talim modes my-recording.flac --tradition hindustani --tonic 146.8`")
def modes(
    file: Annotated[Path, typer.Argument(help="A recording, or an .npz with cents, hop_s and tonic_hz.")],
    tradition: Annotated[
        str | None,
        typer.Option(help="hindustani, makam or a folder of your own; without it, all shipped ones."),
    ] = None,
    tonic: Annotated[float | None, typer.Option(help="The tonic in Hz; found where none is given.")] = None,
    json_: Json = False,
) -> None:
    """Tell which raga or makam a recording is in, with scores."""
    from talim.stages.modes import modes as work
    from talim.stages.modes import telling

    result = work(file, tradition, tonic)
    show(result, json_, telling(result))


app.command(epilog=proving.DEMO_EXAMPLE)(proving.demo)


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
