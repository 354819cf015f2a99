"""The held-out loss of a finished run agrees with evaluate's."""

from __future__ import annotations

from typing import Any

import pytest

from talim.atomic_io import read_json
from talim.errors import TalimError
from talim.evaluation.evaluate import evaluate
from talim.evaluation.held_out_loss import held_out_loss
from talim.training.train import train


def test_held_out_loss_equals_that_of_evaluate_and_is_stored(tmp_path: Any, quick_recipe: Any) -> None:
    with pytest.raises(TalimError, match="not finished"):
        held_out_loss(tmp_path / "run")
    run = train(quick_recipe(training={"train_fraction": 0.5}), tmp_path / "run")
    assert read_json(run.cost)["recordings"] == 2
    alone = held_out_loss(run.folder)
    whole = evaluate(run.folder, num_prompts=1, seconds=1.0)["held_out_loss"]["adapted_loss"]
    assert alone["per_recording"] == pytest.approx(whole["per_recording"])
    assert alone["mean"] == pytest.approx(whole["mean"])
    run.scores.unlink()
    assert held_out_loss(run.folder) == alone
    assert "50%" in (run.adapter / "README.md").read_text(encoding="utf-8")
