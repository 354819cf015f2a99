"""The `talim` command: its subcommands in the order of the work, global options, exit status."""

from __future__ import annotations

import os
import sys
import warnings
from typing import Annotated

import typer

from talim import interrupts
from talim.cli import (
    adapters,
    brief,
    copies,
    demo,
    designs,
    evaluate,
    export,
    generate,
    listen,
    modes,
    origin,
    plan,
    poc,
    prepare,
    ratings,
    report,
    serve,
    study,
    train,
)
from talim.cli import app as browser_app
from talim.cli.exit_status import EXIT_STATUSES, exit_status
from talim.cli.slow_imports import announced_loading
from talim.cli.streams import stop_signals, usable_streams
from talim.version import __version__

TRAIN, COMPARE, WHOLE, PEOPLE, FILES = (
    "Train an adapter",
    "Compare designs",
    "Everything in one command",
    "Ask people",
    "Inspect files",
)

app = typer.Typer(
    name="talim",
    help="Teach a music-generation model a tradition it hardly knows, and hear the difference.",
    epilog=EXIT_STATUSES,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
)
for panel, modules in {
    TRAIN: (prepare, designs, plan, train, generate, evaluate, report, export, serve),
    COMPARE: (study,),
    WHOLE: (poc, demo, browser_app),
}.items():
    for module in modules:
        name = module.__name__.rpartition(".")[2]
        app.command(name, epilog=module.EXAMPLE, rich_help_panel=panel)(getattr(module, name))
app.add_typer(listen.app, name="listen", rich_help_panel=PEOPLE)
app.command(epilog=ratings.EXAMPLE, rich_help_panel=PEOPLE)(ratings.ratings)
app.add_typer(brief.app, name="brief", rich_help_panel=PEOPLE)
app.command(epilog=modes.EXAMPLE, rich_help_panel=FILES)(modes.modes)
app.command(epilog=copies.EXAMPLE, rich_help_panel=FILES)(copies.copies)
app.add_typer(origin.app, name="origin", rich_help_panel=FILES)
app.add_typer(adapters.app, name="adapters", rich_help_panel=FILES)


@app.callback(invoke_without_command=True)
def main_options(
    context: typer.Context, version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False
) -> None:
    """Teach a music-generation model a tradition it hardly knows, and hear the difference."""
    if version:
        print(f"talim {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is not None:
        context.with_resource(announced_loading(context.invoked_subcommand))
    if os.environ.get("TALIM_CERTIFICATE"):  # not after an hour of work
        from talim.audio import credentials

        credentials.certificate_in_use()
    if context.invoked_subcommand not in (None, "train") and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        from talim.training import distributed

        distributed.require_single_process(str(context.invoked_subcommand))


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit with the status that `exit_status.EXIT_STATUSES` describes."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("PYTORCH_ENABLE_MPS_FALLBACK", "1")  # read when torch is loaded; only on Macs
    if not os.environ.get("TALIM_DEBUG"):
        warnings.simplefilter("ignore")  # of libraries; what users need to know is printed by talim
    usable_streams()
    with stop_signals():
        if arguments is not None:  # called by a program, which goes on
            sys.exit(exit_status(lambda: app(arguments, standalone_mode=False)))
        with interrupts.command_process():
            status = exit_status(lambda: app(standalone_mode=False))
        if status == interrupts.INTERRUPTED:
            interrupts.end_process(status)
        sys.exit(status)


if __name__ == "__main__":
    main()
