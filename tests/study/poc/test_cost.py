"""The first stage on a real, tiny base: memory and operations traced, beside the whole model."""

from __future__ import annotations

from pathlib import Path

import pytest
from fixtures.road import short

from talim.corpus.manifest import Corpus
from talim.stages.progress import Progress
from talim.study.poc import cost
from talim.study.poc.gates import CostGate, Gates
from talim.study.poc.wishes import recipes_of


def test_designs_are_traced_beside_the_whole_model(
    tmp_path: Path, tiny_base: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    wishes = short(base=str(tiny_base), designs=("linear@post:10%",))
    found, corpus = recipes_of(wishes, tmp_path), Corpus.load(corpus_folder)
    plan = cost.planned(found, corpus, wishes, Gates(), Progress(), 0.0)
    mine, whole = plan["rows"]
    assert (mine["design"], whole["design"]) == ("linear@post:10%", "full@all")
    assert 0 < mine["memory_bytes"] < whole["memory_bytes"]
    assert 0 < mine["ratios"]["storage"] < mine["ratios"]["operations"] < 1
    assert plan["stopped"] == ""
    assert cost.recipes_in(plan, tmp_path / "moved")["linear@post:10%"].corpus == str(tmp_path / "moved")
    (told, steps) = cost.told(plan, wishes)
    assert "of training the whole model" in told
    assert steps == "10 steps for the design, as the recipe says."
    small = Gates(cost=CostGate(memory_gb=mine["memory_bytes"] / 2e9))
    stopped = cost.planned(found, corpus, wishes, small, Progress(), 0.0)
    assert "no design fits into" in stopped["stopped"]
    assert "does not fit and is left out" in cost.told(stopped, wishes)[0]


def test_a_base_that_cannot_be_traced_is_said_to_be_so(
    tmp_path: Path, corpus_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TALIM_CACHE", str(tmp_path / "cache"))
    wishes = short(base="somebody/unheard-of", designs=("linear@all:10%",))
    plan = cost.planned(
        recipes_of(wishes, tmp_path), Corpus.load(corpus_folder), wishes, Gates(), Progress(), 0.0
    )
    assert plan["rows"][0]["memory_bytes"] is None
    assert "could not be told beforehand" in cost.told(plan, wishes)[0]
    assert plan["stopped"] == ""  # what is not known stops nothing
