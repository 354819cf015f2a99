"""The cost stage on a tiny base: traced memory and FLOPs relative to full fine-tuning."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from fixtures.fake_pipeline import CollectedProgress, short_options

from talim.corpus.manifest import Corpus
from talim.planning.hardware import HardwareProfile
from talim.planning.plan import plan_designs
from talim.poc import cost_stage, fitting
from talim.poc.gates import CostGate, GateThresholds
from talim.poc.options import build_recipes
from talim.progress import Progress
from talim.recipe import Training
from talim.reporting import commands
from talim.reporting.catalogue import in_languages
from talim.reporting.run_results import RunResults
from talim.training.time_budget import StepTiming


def test_plan_runs_traces_designs_relative_to_full_finetuning(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("talim.training.time_budget.measure_step_timing", lambda *_: StepTiming(2.0, 5.0))
    monkeypatch.setattr("talim.poc.budget.measure_evaluation", lambda *_: (20.0, 12.0))
    options = short_options(base=str(tiny_base), designs=("linear@post:10%",))
    by_design, corpus = build_recipes(options, tmp_path), Corpus.load(corpus_folder)
    said = CollectedProgress()
    plan = cost_stage.plan_runs(by_design, corpus, options, GateThresholds(), said, 0.0)
    assert "timing training steps of 1 design" in said.messages
    row, full = plan["rows"]
    assert (row["design"], full["design"]) == ("linear@post:10%", "full@all")
    assert 0 < row["memory_bytes"] < full["memory_bytes"]
    assert 0 < row["ratios"]["disk"] < row["ratios"]["flops"] < 1
    assert plan["stopped"] == {}
    assert cost_stage.planned_recipes(plan, tmp_path / "moved")["linear@post:10%"].corpus == str(tmp_path / "moved")
    costs, steps = cost_stage.cost_summary(plan, options)
    assert "of full fine-tuning" in costs
    assert steps.startswith("10 steps for the design, as in the recipe. Estimated before training: 1 training with ")
    assert plan["estimated_seconds"] - plan["closing_seconds"] == pytest.approx(5 + 20 + 10 * 2, rel=0.3)
    small = GateThresholds(cost=CostGate(memory_gb=row["memory_bytes"] / 2e9))
    stopped = cost_stage.plan_runs(by_design, corpus, options, small, Progress(), 0.0)
    assert "no design fits into" in stopped["stopped"]["en"]
    assert "alone needs" in stopped["stopped"]["en"]
    assert "a smaller base for the same use is --base musicgen-stereo" not in stopped["stopped"]["en"]
    assert "a rented GPU would hold it" in stopped["stopped"]["en"]
    assert "--price-per-hour" in stopped["stopped"]["en"]
    assert "does not fit and is left out" in cost_stage.cost_summary(stopped, options)[0]


def flat_machine(device: str = "cpu", progress: Progress | None = None, *, rates: bool = False) -> HardwareProfile:
    """A machine of known rates: real ones take a minute to measure."""
    flat = {f"{kind}/{dtype}": 1e10 for kind in ("flops", "bytes") for dtype in ("float32", "bfloat16")}
    overhead = {"musicgen": 6e8, "mustango": 9e8}
    return HardwareProfile(
        "this CPU", 1e11, flat, 1e-5, bf16=False, gpu=False, overhead_bytes=lambda family, _: overhead[family]
    )


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> HardwareProfile:
    for module in (cost_stage, fitting):
        monkeypatch.setattr(module, "machine_profile", flat_machine)
    return flat_machine()


def test_memory_of_a_design_is_that_of_talim_plan(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, machine: HardwareProfile
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    settings = (("training.batch_size", 3), ("training.crop_seconds", 1.0), ("training.precision", "fp32"))
    options = short_options(base=str(tiny_base), designs=("linear@post:10%",), settings=settings)
    by_design, corpus = build_recipes(options, tmp_path), Corpus.load(corpus_folder)
    rows = cost_stage.trace_designs(by_design, corpus, "cpu", Progress())
    planned = plan_designs(str(tiny_base), ["linear@post:10%"], machine, crop_seconds=1.0, batch_size=3)
    of_plan = {row["design"]: (row["memory_bytes"], row["file_bytes"]) for row in planned["designs"]}
    assert {row["design"]: (row["memory_bytes"], row["file_bytes"]) for row in rows} == of_plan
    assert all(memory > 6e8 for memory, _ in of_plan.values())  # of the process, not of tensors alone


@pytest.mark.slow
def test_larger_base_hours_are_those_of_the_plan_command_on_the_page(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch, machine: HardwareProfile
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    settings = (("training.batch_size", 3), ("training.crop_seconds", 1.7), ("training.steps", 37))
    options = short_options(base="nano-musicgen", designs=("linear@post:2.5%",), settings=settings)
    recipe, corpus = build_recipes(options, tmp_path)["linear@post:2.5%"], Corpus.load(corpus_folder)
    estimate = cost_stage.larger_base_estimate(recipe, corpus, "cpu", Progress())
    assert estimate
    result = RunResults(tmp_path, recipe=recipe.model_dump(mode="json"), corpus=corpus.summary)
    words = shlex.split(commands.plan_command(result, estimate["base"]))
    given = dict(zip(words[2::2], words[3::2], strict=True))
    planned = plan_designs(
        given["--base"],
        [given["--design"]],
        machine,
        crop_seconds=float(given["--clip-seconds"]),
        batch_size=int(given["--batch-size"]),
        steps=int(given["--steps"]),
        cache=tmp_path / "cache",
    )
    assert planned["steps"] == estimate["steps"] != 37  # those that were run say nothing on a full training
    assert estimate["hours"] == pytest.approx(planned["designs"][1]["hours"], rel=1e-9)
    assert (estimate["gpu"], estimate["rough"]) == (cost_stage.RENTED_GPU, machine.hurried)
    assert 0 < estimate["gpu_hours"] < estimate["hours"]


def test_larger_base_estimate_of_a_large_base_is_none(tmp_path: Path, corpus_folder: Path, tiny_base: Path) -> None:
    options = short_options(base=str(tiny_base), designs=("linear@post:10%",))
    recipe = build_recipes(options, tmp_path)["linear@post:10%"]
    assert cost_stage.larger_base_estimate(recipe, Corpus.load(corpus_folder), "cpu", Progress()) is None


@pytest.mark.parametrize(("designs", "told"), [(3, ["less_designs"]), (1, [])])
def test_less_work_names_no_shorter_steps_where_evaluation_alone_takes_too_long(designs: int, told: list[str]) -> None:
    options, training = short_options(base="nano-musicgen"), Training(batch_size=8)
    less = cost_stage._less_work(options, training, designs, shorter_steps_help=False)
    assert less == [in_languages(key) for key in told]
    more = cost_stage._less_work(options, training, designs, shorter_steps_help=True)
    assert more == [*less, in_languages("less_batch", size=4)]


def test_learning_curve_counts_recordings_of_one_sound_once(corpus_folder: Path) -> None:
    corpus = Corpus.load(corpus_folder)
    side = [clip.model_copy(update={"split": "train", "recording": f"take-{n}"}) for n, clip in enumerate(corpus.clips)]
    shared = [clip.model_copy(update={"shares_sound_with": "take-0"}) for clip in side]
    options = short_options(learning_curve=True)
    aside = side.pop().model_copy(update={"split": "validation"})
    assert len(side) >= 4
    assert cost_stage.include_learning_curve(options, Corpus(corpus_folder, (*side, aside), corpus.summary))
    assert not cost_stage.include_learning_curve(options, Corpus(corpus_folder, tuple(side), corpus.summary))
    assert not cost_stage.include_learning_curve(options, Corpus(corpus_folder, (*shared, aside), corpus.summary))


def test_plan_runs_untraceable_base_has_unknown_memory(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    options = short_options(base="somebody/unheard-of", designs=("linear@all:10%",))
    plan = cost_stage.plan_runs(
        build_recipes(options, tmp_path), Corpus.load(corpus_folder), options, GateThresholds(), Progress(), 0.0
    )
    assert plan["rows"][0]["memory_bytes"] is None
    assert "could not be predicted" in cost_stage.cost_summary(plan, options)[0]
    assert plan["stopped"] == {}  # unknown memory does not stop the pipeline
