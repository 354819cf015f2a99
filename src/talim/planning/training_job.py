"""A training as every estimate counts it: in plans, studies, proofs of concept, pages and at the start of training."""

from __future__ import annotations

import contextlib
import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from talim.atomic_io import read_json
from talim.design.expression import Design
from talim.errors import TalimError
from talim.html.formatting import format_setting
from talim.path_suggestions import did_you_mean
from talim.planning.base_facts import BaseModelFacts, base_model_facts
from talim.recipe import CLIP_SECONDS, Training

PRECISIONS = ("bf16", "fp32")
# Passes over the training recordings of a full training: the 30 epochs of the paper whose adapters these are (Mehta,
# Chauhan and Choudhury 2025, arXiv 2506.21298), which stopped earlier where the validation loss had risen.
FULL_PASSES = 30
WHY_FULL_PASSES = f"{FULL_PASSES} passes, as the paper trained (arXiv 2506.21298),"


@dataclass(frozen=True)
class TrainingMusic:
    """The music to train on: `seconds` of it, in so many clips (None: not cut yet, so that every crop is full).

    `clip_seconds` is the length at which a prepared corpus was cut.
    """

    seconds: float
    clips: int | None = None
    clip_seconds: float | None = None

    def steps_per_pass(self, batch_size: int, crop_seconds: float) -> float:
        """Steps that hear as much music as there is: every clip once, where crops are whole clips."""
        length_seconds = min(crop_seconds, self.seconds / self.clips) if self.clips else crop_seconds
        return self.seconds / (length_seconds * batch_size)

    def full_steps(self, batch_size: int, crop_seconds: float) -> int:
        """Steps of `FULL_PASSES` passes."""
        return math.ceil(FULL_PASSES * self.steps_per_pass(batch_size, crop_seconds) - 1e-6)


@dataclass(frozen=True)
class TrainingJob:
    """`steps` steps of a design on a base, with clips of `crop_seconds`."""

    base: str
    design: Design
    crop_seconds: float
    batch_size: int
    steps: int
    precision: str | None = None  # of the base; None: by hardware
    gradient_checkpointing: bool = False

    def command(self, gpu: str = "") -> str:
        """The `talim plan` command that predicts it, step for step."""
        return (
            f"talim plan --base {shlex.quote(self.base)} --design {shlex.quote(str(self.design))} "
            f"--steps {self.steps} --batch-size {self.batch_size} --clip-seconds {format_setting(self.crop_seconds)}"
            f"{f' --precision {self.precision}' if self.precision else ''}"
            f"{' --gradient-checkpointing' * self.gradient_checkpointing}{f' --gpu {shlex.quote(gpu)}' if gpu else ''}"
        )


def default_training(base: BaseModelFacts) -> dict[str, Any]:
    """`crop_seconds`, `batch_size` and `steps` of a recipe that sets none of them, on a corpus of clips as usual."""
    training = Training()
    seconds = min(CLIP_SECONDS, base.window_seconds)
    return {"crop_seconds": seconds, "batch_size": training.batch_size, "steps": training.steps}


def prepared_clip_seconds(corpus: Path) -> float | None:
    """The clip length of a prepared corpus, in seconds; None where the folder holds none."""
    summary = corpus / "summary.json"
    return float(read_json(summary)["clip_seconds"]) if summary.is_file() else None


def prepared_music(corpus: Path, fraction: float = 1.0) -> TrainingMusic:
    """The music that a prepared corpus has to train on, or a `fraction` of it; TalimError where the folder has none."""
    summary = corpus / "summary.json"
    if not summary.is_file():
        raise TalimError(
            f"{corpus}: not a corpus (summary.json expected){did_you_mean(corpus)}; make one with: "
            f"talim prepare FOLDER --out {corpus}"
        )
    facts = read_json(summary)
    side, clip_seconds = facts["split"]["train"], float(facts["clip_seconds"])
    return TrainingMusic(fraction * float(side["seconds"]), max(1, round(fraction * int(side["clips"]))), clip_seconds)


def full_training_job(recipe: Mapping[str, Any], clip_seconds: float, base: str, music: TrainingMusic) -> TrainingJob:
    """The training of a recipe's design on another `base` for `FULL_PASSES` passes over `music`, whatever its steps.

    Its crops are no longer than clips as usual, which is how a proof of concept of that base would cut them.
    """
    job = training_job(recipe, min(clip_seconds, CLIP_SECONDS), base)
    return replace(job, precision=None, steps=music.full_steps(job.batch_size, job.crop_seconds))


def training_job(
    recipe: Mapping[str, Any], clip_seconds: float, base: str | None = None, steps: int | None = None
) -> TrainingJob:
    """The training of a recipe's values on a corpus of clips of `clip_seconds`, or as far as the base's window goes.

    `base` and `steps` replace the recipe's. KeyError or UsageError where a value is missing or wrong.
    """
    training, base = recipe["training"], base or str(recipe["base"])
    seconds = float(training.get("crop_seconds") or clip_seconds)
    with contextlib.suppress(TalimError):  # of an unknown base: raised again where the job is traced
        seconds = min(seconds, base_model_facts(base).window_seconds)
    precision = training.get("precision")
    return TrainingJob(
        base,
        Design.parse(str(recipe["design"])),
        seconds,
        int(training["batch_size"]),
        int(steps or training["steps"]),
        precision if precision in PRECISIONS else None,
        bool(training.get("gradient_checkpointing")),
    )
