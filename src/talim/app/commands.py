"""What is asked for on the pages, checked, and the `talim` command that does it in the app's folder."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import Field

from talim import recipe as recipes
from talim.app.workspace import Workspace
from talim.atomic_io import write_text
from talim.backbones.registry import MODELS, NANO
from talim.design.expression import Design
from talim.errors import UsageError
from talim.html.formatting import format_setting
from talim.planning.hardware import gpu_table
from talim.strict_yaml import StrictModel

DESIGNS = ("linear@all:2.7%", "conv@all:2.7%", "transformer@all:2.7%", "lora@all:2.7%")
LENGTHS = ("quick", "base", "small-gpu")  # shipped recipes


class CommandRequest(StrictModel):
    """What one step is asked for."""

    def arguments(self, work: Workspace) -> list[str]:
        """The arguments of `talim`, from the app's folder; UsageError for what cannot be met."""
        raise NotImplementedError

    def write(self, work: Workspace) -> None:
        """Write what the command reads and nothing else has written, before it starts."""


class SuggestRequest(CommandRequest):
    """Suggest labels for the recordings."""

    def arguments(self, work: Workspace) -> list[str]:
        return ["modes", "recordings", "--suggest", work.next_name("suggested", ".csv")]


class PrepareRequest(CommandRequest):
    """Make the corpus."""

    caption: str = Field(default="", max_length=500, description="of recordings without one")

    def arguments(self, work: Workspace) -> list[str]:
        caption = ["--caption", " ".join(self.caption.split())] if self.caption.strip() else []
        return ["prepare", "recordings", "--out", "corpus", *caption]


class TrainingChoice(StrictModel):
    """A base and how long it is trained."""

    base: str = NANO
    length: Literal["quick", "base", "small-gpu"] = "quick"
    steps: int | None = Field(default=None, ge=1, le=1_000_000)

    def recipe(self, design: str) -> recipes.Recipe:
        """The recipe of this training; UsageError for a base that is not offered, or a misspelt design."""
        if self.base not in MODELS:
            raise UsageError(f"{self.base[:100]!r} is not offered here: talim train takes any base")
        given: dict[str, Any] = {"base": self.base, "corpus": "corpus", "design": str(Design.parse(design))}
        if self.steps is not None:
            given["training.steps"] = self.steps
        return recipes.load([Path(self.length)], given)


class PlanRequest(TrainingChoice, CommandRequest):
    """Predict what designs take."""

    gpu: str | None = None
    price_per_hour: float | None = Field(default=None, gt=0, le=1e6)

    def arguments(self, work: Workspace) -> list[str]:
        from talim.planning.training_job import prepared_clip_seconds, training_job

        if self.gpu is not None and self.gpu not in gpu_table():
            raise UsageError(f"{self.gpu[:100]!r} is no GPU of the table")
        clip_seconds = prepared_clip_seconds(work.corpus) or recipes.CLIP_SECONDS
        designs = dict.fromkeys([*DESIGNS, *filter(None, [work.choices.get("design")])])
        job = training_job(self.recipe(DESIGNS[0]).model_dump(mode="json"), clip_seconds)
        arguments = ["plan", "--base", job.base, *(text for design in designs for text in ("--design", design))]
        arguments += ["--steps", str(job.steps), "--batch-size", str(job.batch_size)]
        arguments += ["--clip-seconds", format_setting(job.crop_seconds)]
        arguments += ["--precision", job.precision] if job.precision else []
        arguments += ["--gradient-checkpointing"] * job.gradient_checkpointing
        arguments += ["--gpu", self.gpu] if self.gpu else []
        arguments += ["--price-per-hour", f"{self.price_per_hour:g}"] if self.price_per_hour else []
        return [*arguments, "--json"]


class TrainRequest(TrainingChoice, CommandRequest):
    """Train a design, or go on with the run that is not finished."""

    design: str = Field(default=DESIGNS[0], max_length=200)
    seed: int = Field(default=0, ge=0, lt=2**31)
    resume: bool = False

    def arguments(self, work: Workspace) -> list[str]:
        if self.resume:
            return ["train", "--out", _run(work)]
        recipe = self.recipe(self.design)
        arguments = ["train", "--corpus", "corpus", "--config", self.length, "--base", recipe.base]
        arguments += ["--design", str(recipe.design), "--seed", str(self.seed)]
        arguments += [] if self.steps is None else ["--steps", str(self.steps)]
        return [*arguments, "--out", work.next_name("run")]


class EvaluateRequest(CommandRequest):
    """Score the run and make examples before and after."""

    num_prompts: int = Field(default=3, ge=1, le=50)
    seconds: float = Field(default=10, ge=1, le=60)

    def arguments(self, work: Workspace) -> list[str]:
        return ["evaluate", _run(work), "--num-prompts", str(self.num_prompts), "--seconds", f"{self.seconds:g}"]


class ListeningTestRequest(CommandRequest):
    """Serve a blind listening test of the run to this many listeners."""

    listeners: int = Field(default=1, ge=1, le=100)

    def arguments(self, work: Workspace) -> list[str]:
        return ["listen", "serve", _run(work), "--invites", str(self.listeners), "--port", "0"]


class RatingsRequest(CommandRequest):
    """Work out what the listeners say."""

    def arguments(self, work: Workspace) -> list[str]:
        return ["ratings", _run(work)]


class ReportRequest(CommandRequest):
    """Write the run's page."""

    def arguments(self, work: Workspace) -> list[str]:
        return ["report", _run(work)]


class MakeRequest(CommandRequest):
    """Make pieces."""

    prompt: str = Field(default="", max_length=500)
    phrase: str = Field(default="", max_length=200, description="a file of the folder phrases")
    strength: float = Field(default=1.0, ge=0, le=1.5, description="of the adapter")
    seconds: float = Field(default=10, ge=1, le=600)
    seed: int = Field(default=0, ge=0, lt=2**31)
    count: int = Field(default=1, ge=1, le=20)

    def arguments(self, work: Workspace) -> list[str]:
        words = " ".join(self.prompt.split())
        prompt = [f"--prompt={words}"] if words.startswith("-") else ["--prompt", words]
        arguments = ["generate", "--run", _run(work), *prompt]
        if self.phrase:
            if self.phrase not in work.files("phrases"):
                raise UsageError("not_found")
            arguments += ["--continue", f"phrases/{self.phrase}"]
        arguments += ["--adapter-scale", f"{self.strength:g}"] if self.strength != 1 else []
        arguments += ["--seconds", f"{self.seconds:g}", "--seed", str(self.seed)]
        arguments += ["--num-samples", str(self.count)] if self.count > 1 else []
        return [*arguments, "--out", work.next_name("music", "" if self.count > 1 else ".flac")]


class BriefRequest(CommandRequest):
    """Make candidates for a task and serve their review, or serve the latest review again."""

    title: str = Field(default="", max_length=100)
    prompt: str = Field(default="", max_length=500)
    seconds: float = Field(default=10, ge=1, le=600)
    candidates: int = Field(default=4, ge=1, le=100)
    person_hour: float | None = Field(default=None, gt=0, le=1e6, description="price of a reviewer's hour")
    resume: bool = False

    def arguments(self, work: Workspace) -> list[str]:
        name, more = (latest_brief(work), []) if self.resume else (work.next_name("brief"), ["--run", _run(work)])
        return ["brief", "review", f"{name}.yaml", "--out", name, *more, "--invites", "1", "--port", "0"]

    def write(self, work: Workspace) -> None:
        if self.resume:
            return
        prices = {"machine_hour": work.choices.get("price_per_hour"), "person_hour": self.person_hour}
        name = work.next_name("brief")
        brief = {"name": name, "title": self.title or name, "seconds": self.seconds, "prompt": self.prompt or "music"}
        brief |= {"candidates": self.candidates, "prices": {k: v for k, v in prices.items() if v is not None}}
        brief |= {"minimum_seconds": min(5.0, self.seconds / 2)}
        write_text(work.folder / f"{name}.yaml", yaml.safe_dump(brief, allow_unicode=True, sort_keys=False))


class BriefReportRequest(CommandRequest):
    """Work out what the reviews say."""

    def arguments(self, work: Workspace) -> list[str]:
        name = latest_brief(work)
        return ["brief", "report", f"{name}.yaml", "--out", name]


class ExportRequest(CommandRequest):
    """Write a folder for others."""

    to: Literal["folder", "transformers", "onnx", "space"] = "folder"

    def arguments(self, work: Workspace) -> list[str]:
        return ["export", _run(work), "--to", self.to, "--out", work.next_name("shared")]


def _run(work: Workspace) -> str:
    """The name of the current run; UsageError where there is none."""
    if work.run is None:
        raise UsageError("no_run")
    return work.run.name


def latest_brief(work: Workspace) -> str:
    """The name of the latest brief; UsageError where there is none."""
    briefs = [path.stem for path in work.numbered("brief") if path.suffix == ".yaml"]
    if not briefs:
        raise UsageError("no_brief")
    return briefs[-1]


REQUESTS: Mapping[str, type[CommandRequest]] = {
    "suggest": SuggestRequest,
    "prepare": PrepareRequest,
    "plan": PlanRequest,
    "train": TrainRequest,
    "evaluate": EvaluateRequest,
    "listening-test": ListeningTestRequest,
    "ratings": RatingsRequest,
    "report": ReportRequest,
    "make": MakeRequest,
    "brief": BriefRequest,
    "brief-report": BriefReportRequest,
    "share": ExportRequest,
}
