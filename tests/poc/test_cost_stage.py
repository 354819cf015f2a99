"""The first stage on a real, tiny base: memory and operations traced, beside the whole model."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.fake_pipeline import short

from talim.corpus.manifest import Corpus
from talim.poc import cost_stage
from talim.poc.gates import CostGate, GateThresholds
from talim.poc.options import recipes_of
from talim.progress import Progress


def test_designs_are_traced_beside_the_whole_model(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    wishes = short(base=str(tiny_base), designs=("linear@post:10%",))
    found, corpus = recipes_of(wishes, tmp_path), Corpus.load(corpus_folder)
    plan = cost_stage.fit_steps_to_budget(found, corpus, wishes, GateThresholds(), Progress(), 0.0)
    mine, whole = plan["rows"]
    assert (mine["design"], whole["design"]) == ("linear@post:10%", "full@all")
    assert 0 < mine["memory_bytes"] < whole["memory_bytes"]
    assert 0 < mine["ratios"]["storage"] < mine["ratios"]["operations"] < 1
    assert plan["stopped"] == ""
    assert cost_stage.planned_recipes(plan, tmp_path / "moved")["linear@post:10%"].corpus == str(
        tmp_path / "moved"
    )
    (told, steps) = cost_stage.cost_summary(plan, wishes)
    assert "of training the whole model" in told
    assert steps == "10 steps for the design, as the recipe says."
    small = GateThresholds(cost=CostGate(memory_gb=mine["memory_bytes"] / 2e9))
    stopped = cost_stage.fit_steps_to_budget(found, corpus, wishes, small, Progress(), 0.0)
    assert "no design fits into" in stopped["stopped"]
    assert "does not fit and is left out" in cost_stage.cost_summary(stopped, wishes)[0]


def test_a_base_that_cannot_be_traced_is_said_to_be_so(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    wishes = short(base="somebody/unheard-of", designs=("linear@all:10%",))
    plan = cost_stage.fit_steps_to_budget(
        recipes_of(wishes, tmp_path), Corpus.load(corpus_folder), wishes, GateThresholds(), Progress(), 0.0
    )
    assert plan["rows"][0]["memory_bytes"] is None
    assert "could not be told beforehand" in cost_stage.cost_summary(plan, wishes)[0]
    assert plan["stopped"] == ""  # what is not known stops nothing
