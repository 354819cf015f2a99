"""One job is told the same wherever its estimate stands, from one stand-in calibration of the CPU."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fixtures.log_lines import Lines

from talim.atomic_io import write_json
from talim.cli import train as cli_train
from talim.cli.main import main
from talim.corpus.manifest import Corpus
from talim.design.expression import Design
from talim.experiments.estimates import TrialEstimates, trial_lines
from talim.planning import cpu_calibration, plan, tables
from talim.planning.training_job import TrainingJob, training_job
from talim.poc import cost_stage
from talim.progress import Progress
from talim.recipe import Recipe
from talim.reporting import commands
from talim.reporting.run_results import RunResults
from talim.run import Run

DESIGN = "linear@post:10%"


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache in which this CPU was timed, with made-up rates."""
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    rates = {f"{kind}/{dtype}": 1e9 for kind in ("flops", "bytes") for dtype in ("float32", "bfloat16")}
    measured: dict[str, Any] = {"speed": {"rates": rates, "launch_seconds": 1e-4}}
    measured |= {f"musicgen/{precision}": 6e8 for precision in ("bf16", "fp32")}
    write_json(cpu_calibration._calibration_file(tmp_path / "cache"), measured)
    return tmp_path / "cache"


@pytest.fixture
def recipe(tiny_base: Path, corpus_folder: Path) -> Callable[..., Recipe]:
    def make(**training: Any) -> Recipe:
        values = {"steps": 37, "batch_size": 3, "warmup_steps": 2, **training}
        return Recipe(base=str(tiny_base), corpus=str(corpus_folder), design=Design.parse(DESIGN), training=values)  # type: ignore[arg-type]

    return make


@pytest.mark.parametrize(
    "training",
    [{}, {"crop_seconds": 1.0, "precision": "fp32"}, {"gradient_checkpointing": True, "crop_seconds": 500.0}],
    ids=["as the corpus", "shorter", "longer than the window"],
)
def test_plan_study_proof_of_concept_and_training_tell_the_same(
    cache: Path,
    recipe: Callable[..., Recipe],
    training: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    one = recipe(**training)
    corpus = Corpus.load(one.corpus)
    clip_seconds = float(corpus.summary["clip_seconds"])
    job = training_job(one.model_dump(mode="json"), clip_seconds)

    said = Lines()
    monkeypatch.setattr("talim.progress.default", lambda: said)
    cli_train._tell_plan(Run(tmp_path / "run"), one, "cpu")
    assert said.lines == [f"time and memory that it needs are told by: {job.command()}"]  # nothing is traced for it
    with pytest.raises(SystemExit) as done:
        main([*shlex.split(job.command())[1:], "--json"])
    assert done.value.code == 0
    planned = json.loads(capsys.readouterr().out)
    of_plan = next(row for row in planned["designs"] if row["design"] == DESIGN)
    assert planned["steps"] == 37
    needs = tables.training_needs(of_plan)

    cli_train._tell_plan(Run(tmp_path / "run"), one, "cpu")
    assert f"planned: {needs} (" in said.lines[-1]
    trial: Any = SimpleNamespace(recipe=one, corpus_spec=SimpleNamespace(clip_seconds=clip_seconds), stage="trial")
    trial.id, trial.grid, trial.name = "1", "main", "linear"
    of_study = TrialEstimates(None, Progress()).estimate(trial, one.base)
    assert f"({needs})" in trial_lines([(trial, "missing", of_study)])
    rows = cost_stage.trace_designs({DESIGN: one}, corpus, "cpu", Progress())
    assert rows[0]["memory_bytes"] == of_plan["memory_bytes"] == (of_study or {})["memory_bytes"]
    result = RunResults(tmp_path, recipe=one.model_dump(mode="json"), corpus=corpus.summary)
    assert commands.plan_command(result, one.base) == replace(job, precision=None).command()


def test_known_cost_measures_and_traces_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: Callable[..., Recipe]
) -> None:
    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", lambda *_: pytest.fail("measured"))
    job = training_job(recipe().model_dump(mode="json"), 2.0)
    assert plan.known_cost(job, "cpu", tmp_path / "empty") is None


def test_command_of_a_job_quotes_and_names_what_differs_from_defaults() -> None:
    job = TrainingJob("my base", Design.parse(DESIGN), 2.5, 4, 10, "fp32", True)
    assert job.command("NVIDIA A100") == (
        f"talim plan --base 'my base' --design {DESIGN} --seconds 2.5 --batch-size 4 --data-hours 0.027777778 "
        "--epochs 1 --precision fp32 --gradient-checkpointing --gpu 'NVIDIA A100'"
    )
