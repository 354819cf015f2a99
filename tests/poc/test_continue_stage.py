"""Continuing from finished runs: only after the quality gate, reusing runs, within the time budget."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fixtures.fake_pipeline import fake_runs, fake_traces, short_options
from fixtures.japanese_block import foreign_words

from talim import recipe as recipes
from talim.atomic_io import read_json, write_json
from talim.errors import UsageError
from talim.poc import continue_stage
from talim.poc.gates import GateThresholds
from talim.poc.pipeline import poc
from talim.recipe import Recipe
from talim.reporting.messages import stored_sentences
from talim.run import Run

ONE = ("conv@all:2.7%",)


def reduction_of(recipe: Recipe) -> float:
    """Larger with more steps, smaller with other seeds and with a part of the base."""
    return 0.2 + 0.1 * (recipe.training.steps > 10) - 0.02 * recipe.seed - 0.1 * (len(recipe.design.parts) > 1)


def japanese(row: dict[str, Any]) -> list[str]:
    """What of a continuation is not told in Japanese."""
    told = " ".join(stored_sentences(line, "ja") for line in row["sentences"])
    return foreign_words(told, [*ONE, "conv-all-2.7-steps-20", "full@post", "kB"])


def test_poc_continuation_without_a_passed_gate_raises(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, lambda recipe: 0.0)
    out = tmp_path / "out"
    for continuation in ("extend", "hybrid"):
        with pytest.raises(UsageError, match=f"no finished runs.*run first: talim poc .* --out {out}"):
            poc(short_takes, out, short_options(designs=ONE), continuation=continuation)
    poc(short_takes, out, short_options(designs=ONE))
    with pytest.raises(UsageError, match="has passed the quality gate"):
        poc(short_takes, out, short_options(designs=ONE), continuation="extend")


def test_poc_extend_trains_more_seeds_and_steps_once(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes, out = fake_runs(monkeypatch, reduction_of), tmp_path / "out"
    poc(short_takes, out, short_options(designs=ONE))
    result = poc(short_takes, out, short_options(designs=ONE), continuation="extend")
    names = ["conv-all-2.7-seed-1", "conv-all-2.7-seed-2", "conv-all-2.7-steps-20"]
    assert fakes.trained == ["conv-all-2.7", *names]
    (row,) = result["continuations"]
    assert (row["name"], row["passed"], row["runs"]) == ("extend", True, names)
    assert row["sentences"][0].startswith("Over 3 seeds the loss reduction was 0.")
    assert "does not depend on one seed" in row["sentences"][0]
    assert row["sentences"][1].startswith("In 20 steps instead of 10 the loss reduction on validation was 0.1")
    assert "worth its cost" in row["sentences"][1]
    assert japanese(row) == []
    assert row["gate"] == read_json(out / "gates.json")["extend"]
    assert "More seeds and steps: met" in Path(result["page"]).read_text(encoding="utf-8")
    write_json(out / "time_log.json", {"all " + read_json(out / "plan.json")["key"]: 90.0})
    again = poc(short_takes, out, short_options(designs=ONE), continuation="extend")
    assert again["spent"]["seconds"] >= 90.0  # of the plan, though this session did nothing
    assert again["continuations"] == result["continuations"]
    assert (
        poc(short_takes, out, short_options(designs=ONE))["continuations"] == result["continuations"]
    )  # and the pipeline keeps it
    assert len(fakes.trained) == 4
    with pytest.raises(UsageError, match="other recordings or options"):
        poc(short_takes, out, short_options(designs=ONE, seed=3), continuation="extend")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("reductions", "told"),
    [
        ((-0.02, 0.01, -0.05), "the loss rose in the mean by 0.020: the reduction was −0.020, 0.010, −0.050"),
        ((0.02, 0.01, 0.06), "the loss reduction was 0.020, 0.010, 0.060, in the mean 0.030"),
    ],
)
def test_over_seeds_says_so_where_the_loss_rose(
    reductions: tuple[float, ...], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs: Any = [{"per_recording": {"a": each - 0.01, "b": each + 0.01}} for each in reductions]
    monkeypatch.setattr(continue_stage, "loss_reduction_of", lambda run: run)
    monkeypatch.setattr(continue_stage, "ends_below_predictors", lambda _: True)
    passed, text = continue_stage._over_seeds(runs, GateThresholds())
    assert f"ver 3 seeds {told} (95\u202f% interval of the reduction over seeds and recordings " in text
    assert not passed


def test_poc_extend_with_a_seed_that_does_not_end_below_the_predictors_is_not_met(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The losses of seeds 0, 1 and 2 end at 2.80, 2.82 and 2.84; the best predictor that needs no model has 2.83."""
    fake_runs(monkeypatch, reduction_of)
    monkeypatch.setattr("fixtures.fake_pipeline.TRIVIAL_LOSS", 2.83)
    poc(short_takes, tmp_path / "out", short_options(designs=ONE))
    result = poc(short_takes, tmp_path / "out", short_options(designs=ONE), continuation="extend")
    (row,) = result["continuations"]
    assert row["passed"] is False
    assert "1 seed of these did not end below the best predictor that needs no model" in row["sentences"][0]
    assert japanese(row) == []


@pytest.mark.slow
def test_poc_extend_over_the_time_budget_skips_runs(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, reduction_of)
    poc(short_takes, tmp_path / "out", short_options(designs=ONE))
    monkeypatch.setattr("talim.poc.runs.PocContext.seconds_left", lambda _: 15.0)  # a run takes ten
    result = poc(short_takes, tmp_path / "out", short_options(designs=ONE), continuation="extend")
    assert result["continuations"][0]["runs"] == ["conv-all-2.7-seed-1", "conv-all-2.7-seed-2"]
    why = "takes about 22 s of training and 0 s of evaluation, and 15 s are left; give more --hours, or none."
    skipped = "Skipped, as the time budget is too small: conv-all-2.7-steps-20; conv-all-2.7-steps-20"
    assert f"{skipped} {why}" in result["continuations"][0]["sentences"]
    assert japanese(result["continuations"][0]) == []


def test_poc_hybrid_trains_a_part_of_the_base_and_compares_it(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes, out = fake_runs(monkeypatch, reduction_of), tmp_path / "out"
    poc(short_takes, out, short_options(designs=ONE))
    result = poc(short_takes, out, short_options(designs=ONE), continuation="hybrid")
    assert fakes.trained[-1] == "conv-all-2.7-full-post"
    hybrid = recipes.load([Run(out / "conv-all-2.7-full-post").recipe_file])
    assert str(hybrid.design) == "conv@all:2.7%+full@post"
    assert result["continuations"][0]["passed"] is False
    assert "the loss reduction on validation was 0.1" in result["continuations"][0]["sentences"][0]
    assert result["continuations"][0]["sentences"][0].endswith(": worse.")
    assert japanese(result["continuations"][0]) == []
    assert result["run"].endswith("conv-all-2.7")
    fake_traces(monkeypatch, memory_bytes=1e15)
    other = poc(short_takes, out, short_options(designs=ONE), continuation="hybrid")
    assert "the limit is" in other["continuations"][0]["sentences"][0]
    assert japanese(other["continuations"][0]) == []


def test_poc_other_gates_after_a_decision_raise(
    tmp_path: Path, short_takes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_runs(monkeypatch, reduction_of)
    file = tmp_path / "gates.yaml"
    file.write_text("quality: {min_loss_reduction: 0.05}\n")
    poc(short_takes, tmp_path / "out", short_options(designs=ONE, gates=file))
    file.write_text("quality: {min_loss_reduction: 0.01}\n")
    for continuation in (None, "extend"):
        with pytest.raises(UsageError, match="written before the results"):
            poc(short_takes, tmp_path / "out", short_options(designs=ONE, gates=file), continuation=continuation)
