"""`talim poc`: the proof of concept."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from talim.cli import early_checks
from talim.cli.language import LanguageOption, check_language, show_in
from talim.cli.options import CaptionOption, DeviceOption, HeldOutOption, JsonOption, SeedOption, SettingsOption, begin

EXAMPLE = "Example: `talim poc my-recordings --out my-poc --caption 'sitar, raga Yaman' --hours 1`"


def poc(
    folder: Annotated[Path, typer.Argument(help="Folder of your own recordings.")],
    out: Annotated[Path, typer.Option(help="Folder of the results. Rerun the same command to resume.")],
    base: Annotated[str, typer.Option(help="Base model: name, Hub id, NAME@REVISION or folder.")] = "nano-musicgen",
    hours: Annotated[
        float | None, typer.Option(help="Time budget in hours; the number of steps follows from a short timing.")
    ] = None,
    caption: CaptionOption = None,
    design: Annotated[
        list[str] | None,
        typer.Option(help="Adapter as KIND@SITE:SIZE. Repeatable; linear, conv and transformer at 2.7 % if not given."),
    ] = None,
    seed: SeedOption = 0,
    held_out: HeldOutOption = None,
    use: Annotated[
        str, typer.Option(help="any, or commercial: leaves out recordings whose licence forbids it or is unknown.")
    ] = "any",
    gates: Annotated[Path | None, typer.Option(help="YAML file of your own thresholds (docs/guides/poc.md).")] = None,
    continue_: Annotated[
        str | None,
        typer.Option("--continue", help="Continue from the finished runs: extend (more steps and seeds) or hybrid."),
    ] = None,
    no_learning_curve: Annotated[
        bool, typer.Option("--no-learning-curve", help="Do not also train on a quarter and on half of the recordings.")
    ] = False,
    no_tune: Annotated[
        bool,
        typer.Option(
            "--no-tune",
            help="Do not first try learning rates for each kind of design on validation, which is done where time "
            "allows.",
        ),
    ] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(help="Price of this machine per hour, in any currency: costs are told in it too.")
    ] = None,
    settings: SettingsOption = None,
    device: DeviceOption = "auto",
    language: LanguageOption = None,
    json_: JsonOption = False,
) -> None:
    """From recordings to a report in one command: cost, quality and task, with a threshold (gate) at each stage.

    Exit status 1 if a gate is not met and stops it; of --continue, if that continuation's gate is not met.
    """
    check_language(language)
    early_checks.check_name(out)
    early_checks.require_folder(folder, "your own recordings")
    from talim.poc.options import DESIGNS, PocOptions, build_recipes, check_base_use, check_budget

    check_base_use(base, use)  # before anybody is told to fetch a base that this use does not allow
    early_checks.check_loadable(base, device, design or ())
    if gates is not None:
        early_checks.require_yaml(gates, "a YAML file of thresholds")
    from talim.poc.gates import read_gates
    from talim.recipe import parse_setting

    options = PocOptions(
        base=base,
        designs=tuple(design or DESIGNS),
        seed=seed,
        hours=hours,
        caption=caption,
        held_out=tuple(held_out or ()),
        settings=tuple(parse_setting(text) for text in settings or ()),
        license_use=use,
        gates=gates,
        learning_curve=not no_learning_curve,
        tune=not no_tune,
        device=device,
        price_per_hour=price_per_hour,
    )
    if continue_ is None:
        check_budget(options, read_gates(gates).cost.min_steps)
    build_recipes(options, out)  # a wrong setting is told before anything is loaded
    begin(f"{folder}: a proof of concept into {out}")
    from talim import progress
    from talim.poc.pipeline import gates_met
    from talim.poc.pipeline import poc as run_poc
    from talim.reporting import messages

    result = run_poc(folder, out, options, progress.default(), continue_)
    show_in(language, result, json_, lambda code: messages.poc_message(result, code))
    if not gates_met(result, continue_):
        raise typer.Exit(1)
