"""The cost stage on a tiny base: traced memory and FLOPs relative to full fine-tuning."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.fake_pipeline import short_options

from talim.corpus.manifest import Corpus
from talim.poc import cost_stage
from talim.poc.gates import CostGate, GateThresholds
from talim.poc.options import build_recipes
from talim.progress import Progress
from talim.training.time_budget import StepTiming


def test_plan_runs_traces_designs_relative_to_full_finetuning(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("talim.training.time_budget.measure_step_timing", lambda *_: StepTiming(2.0, 5.0))
    monkeypatch.setattr("talim.poc.budget.measure_evaluation", lambda *_: 20.0)
    options = short_options(base=str(tiny_base), designs=("linear@post:10%",))
    by_design, corpus = build_recipes(options, tmp_path), Corpus.load(corpus_folder)
    plan = cost_stage.plan_runs(by_design, corpus, options, GateThresholds(), Progress(), 0.0)
    row, full = plan["rows"]
    assert (row["design"], full["design"]) == ("linear@post:10%", "full@all")
    assert 0 < row["memory_bytes"] < full["memory_bytes"]
    assert 0 < row["ratios"]["disk"] < row["ratios"]["flops"] < 1
    assert plan["stopped"] == ""
    assert cost_stage.planned_recipes(plan, tmp_path / "moved")["linear@post:10%"].corpus == str(tmp_path / "moved")
    costs, steps = cost_stage.cost_summary(plan, options)
    assert "of full fine-tuning" in costs
    assert steps.startswith("10 steps for the design, as in the recipe. Estimated before training: 1 training with ")
    assert plan["estimated_seconds"] == pytest.approx(5 + 20 + 10 * 2, rel=0.3)
    small = GateThresholds(cost=CostGate(memory_gb=row["memory_bytes"] / 2e9))
    stopped = cost_stage.plan_runs(by_design, corpus, options, small, Progress(), 0.0)
    assert "no design fits into" in stopped["stopped"]
    assert "alone needs" in stopped["stopped"]
    assert "a smaller base for the same use is --base musicgen-stereo" not in stopped["stopped"]
    assert "a rented GPU would hold it" in stopped["stopped"]
    assert "--price-per-hour" in stopped["stopped"]
    assert "does not fit and is left out" in cost_stage.cost_summary(stopped, options)[0]


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
    assert plan["stopped"] == ""  # unknown memory does not stop the pipeline
