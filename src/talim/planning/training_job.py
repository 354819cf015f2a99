"""A training as every estimate counts it: in plans, studies, proofs of concept, pages and at the start of training."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from talim.design.expression import Design
from talim.errors import TalimError
from talim.planning.base_facts import base_model_facts

PRECISIONS = ("bf16", "fp32")


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
        hours = self.steps * self.batch_size * self.crop_seconds / 3600  # of clips, each used once
        return (
            f"talim plan --base {shlex.quote(self.base)} --design {shlex.quote(str(self.design))} "
            f"--seconds {self.crop_seconds:g} --batch-size {self.batch_size} --data-hours {hours:.8g} --epochs 1"
            f"{f' --precision {self.precision}' if self.precision else ''}"
            f"{' --gradient-checkpointing' * self.gradient_checkpointing}{f' --gpu {shlex.quote(gpu)}' if gpu else ''}"
        )


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
