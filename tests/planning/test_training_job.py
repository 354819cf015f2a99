"""One job is told the same wherever its estimate stands, from one stand-in calibration of the CPU."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
import shlex
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import yaml
from fixtures.log_lines import Lines
from hypothesis import given
from hypothesis import strategies as st

from talim import api
from talim.atomic_io import write_json
from talim.backbones import devices, load, precision
from talim.cli import prepare as cli_prepare
from talim.cli import train as cli_train
from talim.cli.main import main
from talim.corpus.manifest import Corpus
from talim.corpus.prepare import prepare
from talim.design.expression import Design
from talim.errors import TalimError
from talim.experiments.study_file import CorpusSpec
from talim.html.formatting import format_number
from talim.planning import cpu_calibration, plan, training_step
from talim.planning.base_facts import base_model_facts
from talim.planning.tracer import OperationCost, Trace
from talim.planning.training_job import (
    FULL_PASSES,
    TrainingJob,
    TrainingMusic,
    default_training,
    full_training_job,
    prepared_music,
    training_job,
)
from talim.planning.training_step import StepConfig
from talim.poc import cost_stage
from talim.poc.options import PocOptions, build_recipes
from talim.progress import Progress
from talim.recipe import CLIP_SECONDS, Recipe
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


def test_known_cost_measures_and_traces_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", lambda *_: pytest.fail("measured"))
    job = training_job(Recipe(corpus="c").model_dump(mode="json"), 2.0)
    assert plan.known_cost(job, "cpu", tmp_path / "empty") is None


def test_steps_of_a_pass_hear_the_music_once() -> None:
    two_hours = TrainingMusic(7200.0)
    assert two_hours.steps_per_pass(8, 10.0) == 90.0
    assert two_hours.full_steps(8, 10.0) == 90 * FULL_PASSES
    short_clips = TrainingMusic(90.0, 30)  # of three seconds, however long a crop may be: a pass is every clip once
    assert short_clips.steps_per_pass(6, 10.0) == pytest.approx(5.0)
    assert TrainingMusic(600.0, 60).steps_per_pass(6, 5.0) == pytest.approx(20.0)  # half of each clip at a time


def test_a_full_training_does_not_depend_on_the_steps_that_were_run() -> None:
    music = TrainingMusic(604.0, 61)
    jobs = {
        full_training_job(Recipe(corpus="c", training={"steps": steps}).model_dump(mode="json"), 10.0, "b", music)
        for steps in (20, 5000)
    }
    (job,) = jobs
    assert job.steps == 229  # 30 x 61 clips, 8 a step
    assert (job.base, job.batch_size, job.crop_seconds) == ("b", 8, 10.0)


def test_prepared_music_is_the_training_side_alone(corpus_folder: Path, tmp_path: Path) -> None:
    train = Corpus.load(corpus_folder).train
    music = prepared_music(corpus_folder)
    assert (music.seconds, music.clips) == (pytest.approx(sum(clip.seconds for clip in train), abs=0.01), len(train))
    assert prepared_music(corpus_folder, 0.5).seconds == pytest.approx(music.seconds / 2)
    with pytest.raises(TalimError, match=r"not a corpus .* talim prepare FOLDER"):
        prepared_music(tmp_path)


def test_command_of_a_job_quotes_and_names_what_differs_from_defaults() -> None:
    job = TrainingJob("my base", Design.parse(DESIGN), 2.5, 4, 10, "fp32", True)
    assert job.command("NVIDIA A100") == (
        f"talim plan --base 'my base' --design {DESIGN} --steps 10 --batch-size 4 --clip-seconds 2.5 "
        "--precision fp32 --gradient-checkpointing --gpu 'NVIDIA A100'"
    )


@given(st.floats(0.02, 600), st.integers(1, 4096), st.integers(1, 10_000_000))
def test_command_of_a_job_says_the_job_exactly(seconds: float, batch_size: int, steps: int) -> None:
    words = shlex.split(TrainingJob("b", Design.parse(DESIGN), seconds, batch_size, steps).command())
    given_ = dict(zip(words[2::2], words[3::2], strict=True))
    assert float(given_["--clip-seconds"]) == seconds
    assert "e" not in given_["--clip-seconds"]
    assert (int(given_["--batch-size"]), int(given_["--steps"])) == (batch_size, steps)


def test_all_commands_count_one_training_by_default(tmp_path: Path) -> None:
    recipe = Recipe(corpus="c")
    usual = default_training(base_model_facts(recipe.base))
    job = training_job(recipe.model_dump(mode="json"), CLIP_SECONDS)
    assert usual == {"crop_seconds": job.crop_seconds, "batch_size": job.batch_size, "steps": job.steps}
    assert usual == {"crop_seconds": 10.0, "batch_size": 8, "steps": 300}  # as the help of talim plan says
    (of_poc,) = build_recipes(PocOptions(designs=(str(recipe.design),)), tmp_path).values()
    assert of_poc.training == recipe.training
    for function in (api.prepare, prepare, cli_prepare.prepare):
        assert inspect.signature(function).parameters["clip_seconds"].default == CLIP_SECONDS
    assert CorpusSpec(corpus="c").clip_seconds == PocOptions().clip_seconds == CLIP_SECONDS
    shorter = replace(base_model_facts(recipe.base), window_seconds=5.0)
    assert default_training(shorter)["crop_seconds"] == 5.0


def made_up_trace(config: StepConfig, _progress: Any = None) -> Trace:
    """A trace that no other step has."""
    number = int(hashlib.sha256(json.dumps(config.to_json()).encode()).hexdigest()[:8], 16)
    return Trace(10**9 + number, [(OperationCost("mm", "float32", (), 10**12 + 10**3 * number, 1), 1)], 10**6)


JOBS = [
    ("nano-musicgen", "linear@all:2.5%", {}),
    ("nano-musicgen", "conv@all:2.5%", {"crop_seconds": 1.0, "precision": "fp32"}),
    ("musicgen-small", "linear@all:2.5%", {"gradient_checkpointing": True, "crop_seconds": 500.0}),
]


@pytest.mark.parametrize("traced", [False, pytest.param(True, marks=pytest.mark.slow)], ids=["made up", "traced"])
@pytest.mark.parametrize("gpu", ["", "rtx-3060"], ids=["CPU", "GPU"])
@pytest.mark.parametrize(
    ("base", "design", "training"), JOBS, ids=["as the corpus", "shorter", "longer than the window of a large base"]
)
def test_three_jobs_are_printed_alike_by_plan_study_poc_and_train(
    base: str,
    design: str,
    training: dict[str, Any],
    gpu: str,
    traced: bool,
    cache: Path,
    corpus_folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Memory, hours and energy, as text; energy where the power is known. Hours of a poc are timed, not planned."""
    if not traced:
        monkeypatch.setattr(training_step, "trace_step", made_up_trace)
    monkeypatch.setattr(cpu_calibration, "measure_in_subprocess", lambda *_: pytest.fail("measured"))
    device = "cuda" if gpu else "cpu"
    for module in (devices, load):
        monkeypatch.setattr(module, "pick_device", lambda _: device)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda _: SimpleNamespace(name="NVIDIA GeForce RTX 3060"))
    for module in (precision, cpu_calibration):
        monkeypatch.setattr(module, "has_bf16", lambda _: (bool(gpu), ""))

    def printed(*arguments: str) -> str:
        with pytest.raises(SystemExit, match="0"):
            main([*arguments, *(["--gpu", gpu] if gpu else [])])
        return capsys.readouterr().out

    settings = {"steps": 37, "batch_size": 3, "warmup_steps": 2, **training}
    recipe = Recipe(base=base, corpus=str(corpus_folder), design=design, training=settings)
    corpus = Corpus.load(corpus_folder)
    job = training_job(recipe.model_dump(mode="json"), float(corpus.summary["clip_seconds"]))

    said = Lines()
    monkeypatch.setattr("talim.progress.default", lambda: said)
    cli_train._tell_plan(Run(tmp_path / "run"), recipe, device)
    music = TrainingMusic(sum(clip.seconds for clip in corpus.train), len(corpus.train))
    passes = format_number(37 * 3 / len(corpus.train), 1) if "crop_seconds" not in training else ""
    told = f"37 steps: {passes}.* of training music; how long .* steps; time and memory that it needs are told by: (.*)"
    assert re.findall(told, said.lines[-1]) == [job.command()]  # nothing is traced for it
    table = printed(*shlex.split(job.command())[1:], "--memory-gb", "1000")
    row = next(line for line in table.splitlines() if line.startswith(design))
    memory, hours = re.findall(r"\d+\.\d\d GB", row)[0], re.findall(r"\d+ s|\d+ min \d\d s|\d+ h \d\d min", row)[-1]
    (energy,) = re.findall(r"[\d.e-]+ kWh", row) or [""]
    assert bool(energy) == bool(gpu)
    needs = f"{memory} of memory, {hours} of training steps{energy and f', {energy}'}"

    cli_train._tell_plan(Run(tmp_path / "run"), recipe, device)
    assert f"; planned: {needs} (" in said.lines[-1]

    # of a prepared corpus the clips count, not the length that a study would prepare
    study: dict[str, Any] = {"corpora": {"takes": {"corpus": str(corpus_folder)}}}
    study["overrides"] = {f"training.{name}": value for name, value in settings.items()}
    study["grids"] = {"a": {"bases": [base], "designs": [design]}}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    dry = printed("study", str(tmp_path / "study.yaml"), "--out", str(tmp_path / "out"), "--dry-run")
    assert f"({needs})" in dry
    assert f", each 37 steps of 3 clips of {job.crop_seconds:g} s" in dry

    rows = cost_stage.trace_designs({design: recipe}, corpus, device, Progress())
    plan_of_poc = {"rows": rows, "step_seconds": {}, "fitting": [design], "recipes": {}, "stopped": "x"}
    assert cost_stage.cost_summary(plan_of_poc, PocOptions())[0].startswith(f"{design}: {memory} of memory; ")
    result = RunResults(tmp_path, recipe=recipe.model_dump(mode="json"), corpus=corpus.summary)
    full = full_training_job(recipe.model_dump(mode="json"), float(corpus.summary["clip_seconds"]), base, music)
    assert commands.plan_command(result, base).startswith(full.command())
    if base == "nano-musicgen":
        larger = cost_stage.larger_base_estimate(recipe, corpus, device, Progress())
        machine = cost_stage.machine_profile(device, Progress(), rates=True)
        of_larger = replace(full, base="musicgen-small")
        (of_plan,) = plan.plan_total([of_larger], machine, cache=cache)["runs"]
        assert larger
        assert (larger["hours"], larger["steps"]) == (of_plan["hours"], full.steps)
