"""Commands that pages and terminals tell people to type: absolute paths, quoted, so that they run from anywhere."""

from __future__ import annotations

import shlex
from pathlib import Path

from talim.reporting.run_results import RunResults

PLACES = {"corpus": "summary.json", "base": "config.json"}  # keys of a recipe that may be folders, with a file in them
MUSIC_FOLDER = "music"
MAX_PROMPT = 300  # letters of a caption that is used as a prompt


def quoted(path: Path) -> str:
    """The absolute path as one word of a shell."""
    return shlex.quote(str(path.resolve()))


def reproduce_commands(result: RunResults) -> list[str]:
    """The commands that reproduce a run's numbers beside it; none without a recipe."""
    if not result.recipe:
        return []
    run = result.folder.resolve()
    again = quoted(run.with_name(f"{run.name}-again"))
    places = ""
    for key, marker in PLACES.items():  # paths in a recipe are relative to where training was started
        if folder := _find(run, str(result.recipe.get(key) or ""), marker):
            places += f" --{key} {quoted(folder)}"
    return [
        f"talim train --config {quoted(run / 'recipe.yaml')}{places} --out {again}",
        f"talim evaluate {again}",
        f"talim report {again}",
    ]


def _find(run: Path, name: str, marker: str) -> Path | None:
    """The folder that a run's recipe names, wherever its relative path was meant to start; None if it is not found.

    The folder beside the run comes first, so that a folder that was moved with its corpus still works.
    """
    if not name:
        return None
    named = Path(name).expanduser()
    near = [folder / named.name for folder in (*run.parents[:2], run)]
    candidates = [named, *near] if named.is_absolute() else [*near, *(folder / named for folder in run.parents)]
    return next((each for each in [*candidates, Path.cwd() / named] if (each / marker).is_file()), None)


def generate_command(run: Path, prompt: str, seconds: float = 10.0) -> str:
    """The command that makes music with a finished run, into the folder `music` beside it."""
    words = " ".join(prompt.split())[:MAX_PROMPT].strip() or "music"
    out = quoted(run.resolve().parent / MUSIC_FOLDER / f"{run.resolve().name}.flac")
    return f"talim generate --run {quoted(run)} --prompt={shlex.quote(words)} --seconds {seconds:g} --out {out}"
