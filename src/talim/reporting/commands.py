"""Commands that pages and terminals tell people to type: absolute paths, quoted, so that they run from anywhere."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from talim.errors import TalimError
from talim.html.formatting import format_setting
from talim.planning.base_facts import base_model_facts, check_sites
from talim.planning.training_job import (
    FULL_PASSES,
    WHY_FULL_PASSES,
    TrainingJob,
    TrainingMusic,
    default_training,
    full_training_job,
    prepared_music,
)
from talim.recipe import Training
from talim.reporting.catalogue import Texts, counted, duration, in_languages, machine_price
from talim.reporting.run_results import RunResults
from talim.training.model_card import prompt_option

# keys of a recipe that may be folders, with files of which one is in them
PLACES = {
    "corpus": ("summary.json",),
    "base": ("config.json", "state_dict.bin"),
    "init_from": ("adapter_config.json", "adapter/adapter_config.json"),
}
MUSIC_FOLDER = "music"
REFERENCE_BASE = "musicgen-small"  # named beside results of a miniature
GPU_MAKERS = ("NVIDIA", "AMD")  # as systems report names
MAX_PROMPT = 300  # letters of a caption that is used as a prompt


def quoted(path: Path) -> str:
    """The absolute path as one word of a shell."""
    return shlex.quote(str(path.resolve()))


def reproduce_commands(result: RunResults) -> list[str]:
    """The commands that reproduce a run's numbers beside it, or that scored an adapter without a run."""
    if not result.recipe:
        return [str(result.scores["command"])] if result.scored_adapter and result.scores.get("command") else []
    run = result.folder.resolve()
    again = quoted(run.with_name(f"{run.name}-again"))
    places = ""
    for key, markers in PLACES.items():  # paths in a recipe are relative to where training was started
        if folder := _find(run, str(result.recipe.get(key) or ""), markers):
            places += f" --{key.replace('_', '-')} {quoted(folder)}"
    return [
        f"talim train --config {quoted(run / 'recipe.yaml')}{places} --out {again}",
        f"talim evaluate {again}",
        f"talim report {again}",
    ]


def full_training(result: RunResults, base: str) -> TrainingJob | None:
    """A full training of a run's design on another base and the same music; None where too little is known of it."""
    try:
        seconds = float(result.recipe["training"].get("crop_seconds") or result.corpus["clip_seconds"])
        job = full_training_job(result.recipe, seconds, base, music_of(result))
        check_sites(job.design, base)
    except (KeyError, TypeError, ValueError, AttributeError, ZeroDivisionError, TalimError):
        return None
    return None if job.design.is_stored else job  # a plan cannot place a stored adapter in another base


def full_training_text(job: TrainingJob, larger: Mapping[str, Any], price_per_hour: float | None = None) -> Texts:
    """A full training in words: its passes, their reason, its steps of one design, and its planned time and price.

    `larger` has the "hours" that are planned for it, whether they are "rough", and a "gpu" with its "gpu_hours".
    """
    steps, design = counted(job.steps, "step"), str(job.design)
    takes: Texts | str = ""
    if larger.get("hours") is not None:
        seconds = larger["hours"] * 3600
        rough = in_languages("full_training_rough") if larger.get("rough") else ""
        rented: Texts | str = ""
        if gpu := larger.get("gpu"):
            rented = in_languages("full_training_gpu", gpu=gpu, time=duration(larger["gpu_hours"] * 3600))
        price = machine_price(seconds, price_per_hour)
        takes = in_languages("full_training_takes", time=duration(seconds), price=price, rough=rough, rented=rented)
    why = {"passes": FULL_PASSES, "why": WHY_FULL_PASSES}
    return in_languages("full_training", **why, steps=steps, design=design, takes=takes)


def training_settings(job: TrainingJob) -> tuple[tuple[str, Any], ...]:
    """What the time of a job rests on, as recipe keys and values: its steps, and what is not as by default."""
    usual = Training()
    settings: dict[str, Any] = {"steps": job.steps}
    if job.batch_size != usual.batch_size:
        settings["batch_size"] = job.batch_size
    if job.crop_seconds != default_training(base_model_facts(job.base))["crop_seconds"]:
        settings["crop_seconds"] = job.crop_seconds
    if job.gradient_checkpointing != usual.gradient_checkpointing:
        settings["gradient_checkpointing"] = job.gradient_checkpointing
    return tuple((f"training.{name}", value) for name, value in settings.items())


def poc_training(job: TrainingJob | None) -> str:
    """A full training as options of talim poc, with a blank before them; empty where it is not known."""
    if job is None:
        return ""
    settings = "".join(f" --set {key}={json.dumps(value)}" for key, value in training_settings(job))
    return f" --design {shlex.quote(str(job.design))}{settings} --no-learning-curve --no-tune"


def music_of(result: RunResults) -> TrainingMusic:
    """The music that a run was trained on; KeyError where that is not known."""
    return TrainingMusic(float(result.training_music["seconds"]), int(result.training_music["clips"]))


def plan_command(result: RunResults, base: str) -> str:
    """The command that predicts `full_training`, step for step; empty where too little is known.

    It names the corpus where that is found and makes the same steps of the passes.
    """
    if (job := full_training(result, base)) is None:
        return ""
    device = str(result.cost.get("device") or "").split(" x ")[-1]
    command = job.command(device if device.startswith(GPU_MAKERS) else "")
    corpus = _find(result.folder.resolve(), str(result.recipe.get("corpus") or ""), PLACES["corpus"])
    with contextlib.suppress(KeyError, TypeError, ValueError, ZeroDivisionError, TalimError):
        if corpus and prepared_music(corpus).full_steps(job.batch_size, job.crop_seconds) == job.steps:
            return f"{command} --corpus {quoted(corpus)}"
    return command


def _find(run: Path, name: str, markers: Sequence[str]) -> Path | None:
    """The folder that a run's recipe names, wherever its relative path was meant to start; None if it is not found.

    The folder beside the run comes first, so that a folder that was moved with its corpus still works.
    """
    if not name:
        return None
    named = Path(name).expanduser()
    near = [folder / named.name for folder in (*run.parents[:2], run)]
    candidates = [named, *near] if named.is_absolute() else [*near, *(folder / named for folder in run.parents)]
    return next(
        (each for each in [*candidates, Path.cwd() / named] if any((each / file).is_file() for file in markers)), None
    )


def generate_command(run: Path, adapter: Mapping[str, Any], example: str, seconds: float = 10.0) -> str:
    """The command that makes music with a finished run, whose talim.json is `adapter`, into the folder beside it."""
    prompt = prompt_option(adapter, " ".join(example.split())[:MAX_PROMPT].strip())
    out = quoted(run.resolve().parent / MUSIC_FOLDER / f"{run.resolve().name}.flac")
    return f"talim generate --run {quoted(run)} {prompt} --seconds {format_setting(seconds)} --out {out}"
