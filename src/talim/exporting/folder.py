"""Export of a run as a folder that works elsewhere: `talim generate --run FOLDER` needs no corpus there."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from talim.backbones.resolve import is_model_folder
from talim.errors import TalimError, UsageError
from talim.exporting import contents
from talim.exporting.contents import ExportedRun, Files
from talim.html.formatting import format_counted
from talim.progress import Progress
from talim.training import model_card

MODEL_SUFFIXES = (".json", ".safetensors", ".bin", ".pt", ".th", ".model", ".spm", ".txt", ".md", ".yaml")


def export_folder(exported: ExportedRun, out: Path, with_base: bool, progress: Progress) -> dict[str, Any]:
    """Write the folder; returned are its path, the names of its files, and what was left out.

    `with_base` also copies a base that is a folder of this machine. FileTakenError if something is at `out`.
    """
    contents.check_free(out)
    files, left_out = run_files(exported)
    if with_base:
        base, others = base_files(exported)
        files |= base
        left_out += others
    elif exported.local_base:
        left_out.insert(
            0,
            f"the base {exported.local_base}: it is a folder of this machine; whoever uses the export puts it to "
            f"{out.name}/{exported.base_name.removeprefix('./')}, or copy it with --with-base",
        )
    files["README.md"] = _readme(exported, files, left_out).encode()
    for line in left_out:
        progress.log(f"left out: {line}")
    contents.write_folder(out, files)
    return {"to": "folder", "out": str(out), "files": [*sorted(files), contents.CHECKSUMS], "left_out": left_out}


def run_files(exported: ExportedRun) -> tuple[Files, list[str]]:
    """The files of a run in their places, without recordings and paths; and what is left out."""
    run = exported.run
    files: Files = {run.recipe_file.name: contents.recipe_file(exported)}
    files |= {path.name: exported.json_file(path) for path in (run.facts_file, run.cost, run.scores) if path.is_file()}
    files |= {run.log.name: contents.log_file(exported)} if run.log.is_file() else {}
    adapter, left_out = contents.adapter_files(exported)
    files |= {f"{run.adapter.name}/{name}": content for name, content in adapter.items()}
    audio, _, not_audio = contents.examples(exported)
    files |= audio
    commands = "commands and paths of this machine, in run.json, recipe.yaml and scores.json"
    return files, [*left_out, *not_audio, *contents.others_left_out(exported, files), commands]


def base_files(exported: ExportedRun) -> tuple[Files, list[str]]:
    """The model's files of a base that is a folder here, and what else lies there.

    UsageError for a base that is had by its name.
    """
    if not exported.local_base:
        raise UsageError(f"--with-base: {exported.base_name} is had by its name everywhere; leave it out")
    folder = Path(exported.run.base)
    if not is_model_folder(folder):
        raise TalimError(f"--with-base: the base is not at {folder} any more; put it back, or leave --with-base out")
    start, files, others = exported.base_name.removeprefix("./"), Files(), []
    for path in sorted(folder.rglob("*")):
        inside = path.relative_to(folder)
        if not path.is_file() or any(part.startswith(".") for part in inside.parts):
            continue
        if path.suffix.lower() in MODEL_SUFFIXES or path.name.startswith("LICENSE"):
            files[f"{start}/{inside.as_posix()}"] = path
        else:
            others.append(f"{start}/{inside.as_posix()}: no file of a model")
    return files, others


def _readme(exported: ExportedRun, files: Files, left_out: list[str]) -> str:
    own = exported.base_name.removeprefix("./")
    here = any(name.startswith(f"{own}/") for name in files) if exported.local_base else True
    base = exported.base_name if not exported.local_base else f"THIS_FOLDER/{own}"
    need = f"Before that, put the base `{exported.local_base}` into `{own}` in this folder.\n\n" * (not here)
    audio = [name for name in files if name.endswith(".flac")]
    rows = [row for row in exported.samples if f"{contents.EXAMPLES}/{row.get('file')}" in audio]
    asked = model_card.prompt_option(exported.info, model_card.example_prompt(exported.facts))
    needed = {"name": exported.info["base"]["name"], "licence": exported.base_licence}
    needed["is_local"] = bool(exported.local_base)
    where = f"is in this folder, in `{own}`" if exported.local_base and here else ""
    stays = "".join(f"- {line}\n" for line in left_out)
    return (
        f"# Adapter `{exported.recipe.design}` for {exported.info['base']['name']}\n\n"
        f"{model_card.needs(needed, where)}{need}With the path of this folder for `THIS_FOLDER`:\n\n```bash\n"
        f"talim generate --run THIS_FOLDER {asked} --out music.flac\n```\n"
        f"{model_card.captions_section(exported.facts)}\n"
        f"```python\nimport talim\n\nbase = talim.load_base({base!r})\n"
        "model = talim.load_adapter(base, 'THIS_FOLDER')\n```\n\n"
        "- `adapter/`: the weights, their model card (`README.md`) and their conditions (`LICENSE.md`)\n"
        "- `recipe.yaml`, `run.json`, `cost.json`: how they were made\n"
        f"- `samples/`: {format_counted(len(audio), 'audio example')}, generated\n"
        f"- `{contents.CHECKSUMS}`: check a copy with `sha256sum --check {contents.CHECKSUMS}`\n\n"
        "## Conditions\n\nBase and recordings bind the adapter and its music: "
        f"[{model_card.LICENCE_FILE}](adapter/{model_card.LICENCE_FILE}) names each.\n\n"
        f"{model_card.unnamed_section(exported.facts)}{contents.example_links(exported.public.of(rows))}"
        f"## Left out\n\n{stays}"
    )
