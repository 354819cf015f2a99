"""`talim export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from talim.cli import early_checks
from talim.cli.options import JsonOption, show
from talim.exporting.options import Target
from talim.html.formatting import format_counted

EXAMPLE = (
    "Example: `talim export my-run --to folder --out for-a-colleague`, or "
    "`talim export my-run --to hub --repo me/yaman-sitar --dry-run`"
)


def export(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run or of a proof of concept.")],
    to: Annotated[
        Target,
        typer.Option(
            help="folder: for a colleague with talim. transformers: a model with the adapter in its weights where that "
            "is exact. onnx: graphs for onnxruntime with a script, without talim and torch. hub: a repository of the "
            "Hugging Face Hub. space: a page on gradio with these graphs for a Hugging Face Space."
        ),
    ],
    out: Annotated[Path | None, typer.Option(help="New folder (folder, transformers, onnx, space).")] = None,
    with_base: Annotated[
        bool, typer.Option("--with-base", help="Copy a base that is a folder of this machine, too (folder).")
    ] = False,
    repo: Annotated[
        str | None, typer.Option(metavar="OWNER/NAME", help="Repository, made if missing (hub, space).")
    ] = None,
    public: Annotated[
        bool, typer.Option("--public", help="Let everybody see the repository (hub, space); else it is private.")
    ] = False,
    permission: Annotated[
        str | None,
        typer.Option(help="Who allowed publishing what no licence allows, and when; printed on the card (hub, space)."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be sent, and send nothing (hub, space).")
    ] = False,
    json_: JsonOption = False,
) -> None:
    """Take a trained adapter out of talim. Nothing is overwritten, and recordings stay here."""
    early_checks.require_folder(run, "a finished run or a proof of concept")
    if out is not None:
        early_checks.check_name(out)
    from talim import api

    options = {"with_base": with_base, "repo": repo, "public": public, "permission": permission, "dry_run": dry_run}
    result = api.export(run, to.value, out, **options)  # type: ignore[arg-type]
    show(result, json_, _message(result))


def _message(result: dict[str, Any]) -> str:
    files = format_counted(len(result["files"]), "file")
    if "repo" in result:
        if result["commit"] is None:
            return f"{result['repo']}: {files} would be sent"
        use = f"\nuse it with: {result['use']}" if "use" in result else ""
        return f"{result['url']}: {files}, commit {result['commit']}{use}"
    return f"{result['out']}: {files}; how to use it is in {result['out']}/README.md"
