"""Tests of research.validation.learning_rates."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from research.validation import learning_rates
from research.validation.learning_rates import Setting
from talim.atomic_io import append_jsonl
from talim.recipe import Recipe
from talim.run import Run


def row(rate: float, best: float, **changes: Any) -> dict[str, Any]:
    values = {"corpus": "solo", "base": "nano-musicgen", "design": "conv@all:2.7%", "steps": 100, "train_fraction": 0.2}
    return values | {"learning_rate": rate, "before": 3.0, "best": best, "best_step": 10, "last": best} | changes


def test_the_page_marks_the_largest_reduction_of_each_row_beside_the_usual_rate() -> None:
    rows = [row(3e-4, 2.98), row(1e-3, 2.99), row(3e-3, 3.0)]
    rows += [row(3e-4, 3.0, design="full@all"), row(1e-3, 3.0, design="full@all")]
    rows += [row(9e-5, 2.5, base="nano-mustango", train_fraction=1.0)]
    rows += [row(1e-3, 2.9, corpus="demo", train_fraction=1.0)]
    rows += [row(1e-3, 2.8, corpus="demo", train_fraction=1.0, steps=200)]
    text = learning_rates.page({"rows": rows, "train_seconds": {"solo": 2400.0, "demo": 300.0}})
    assert "| music | design | 0.0003 | 0.001 | 0.003 | usual rate |" in text
    assert "| 8.0 min | `conv@all:2.7%` | **0.0200** | 0.0100 | 0.0000 | 0.0009 |" in text
    assert "| 8.0 min | `full@all` | 0.0000 | 0.0000 | 9e-05 |" in text  # none was below the start
    assert "| 5.0 min (demo) | `conv@all:2.7%` |  | **0.1000** |  | 0.00063 |" in text
    assert "| 5.0 min (demo, 200 steps) | `conv@all:2.7%` |  | **0.2000** |  | 0.00063 |" in text
    assert "| 40.0 min | `conv@all:2.7%` | **0.5000** |" in text


def test_the_figure_draws_a_line_for_each_row_whose_loss_fell() -> None:
    rows = [row(3e-4, 2.98), row(1e-3, 2.99), row(3e-3, 3.0), row(9e-5, 2.5, base="nano-mustango")]
    result = {"train_seconds": {"solo": 2400.0}, "rows": rows}
    drawn = [learning_rates.figure(result)]
    drawn.append(learning_rates.figure({**result, "rows": [*rows, row(3e-4, 2.9, design="full@all")]}))
    drawn.append(learning_rates.figure({**result, "rows": [*rows, row(3e-4, 3.0, design="full@all")]}))
    lines = [svg.count("stroke-opacity: 0.7") for svg in drawn]
    assert lines[0] == lines[2] < lines[1]
    assert drawn[0] == learning_rates.figure(result)


def test_a_measurement_is_the_lowest_validation_loss_of_a_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[tuple[Recipe, Path]] = []

    def train(recipe: Recipe, out: Path, progress: Any) -> Run:
        trained.append((recipe, out))
        run = Run(out)
        run.folder.mkdir(parents=True)
        for step, split, loss in (
            (0, "validation", 3.0),
            (10, "train", 1.0),
            (10, "validation", 2.5),
            (20, "validation", 2.75),
        ):
            append_jsonl(run.log, {"step": step, "split": split, "loss": loss})
        return run

    monkeypatch.setattr(learning_rates, "train", train)
    setting = Setting("lora@all:2.7%", 0.2, (1e-3,), base="nano-mustango", steps=20)
    found = learning_rates.measure(tmp_path / "corpus", setting, 1e-3, tmp_path)
    assert (found["before"], found["best"], found["best_step"], found["last"]) == (3.0, 2.5, 10, 2.75)
    training = trained[0][0].training
    assert (training.learning_rate, training.train_fraction, training.crop_seconds, training.steps) == (
        1e-3,
        0.2,
        10,
        20,
    )


def test_every_design_is_tried_at_rates_on_both_sides_of_its_usual_one() -> None:
    folders = [(s.base, s.design, s.train_fraction, s.steps) for s in learning_rates.settings()]
    assert len(set(folders)) == len(folders)
    rows = [
        row(rate, 2.9, base=s.base, design=s.design, train_fraction=s.train_fraction, steps=s.steps)
        for s in learning_rates.settings()
        for rate in s.rates
    ]
    found = learning_rates.rows_of({"train_seconds": {"solo": 2400.0, "demo": 300.0}, "rows": rows})
    assert len(found) == len(folders)
    for each in found:
        assert min(each.reductions) < each.usual < max(each.reductions)
