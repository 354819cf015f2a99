"""Tests of talim.training.trainer: learning rate, random states, divergence, early stopping, stored weights."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from talim.atomic_io import read_json, read_jsonl
from talim.backbones.musicgen import backbone
from talim.errors import TalimError
from talim.progress import Progress
from talim.recipe import Training
from talim.run import Run, resolve_recipe
from talim.training import trainer
from talim.training.distributed import SINGLE_PROCESS
from talim.training.train import train
from talim.training.trainer import learning_rate, rng_state_at


def losses(run: Run) -> list[tuple[int, str, float]]:
    return [(row["step"], row["split"], row["loss"]) for row in read_jsonl(run.log)]


def weights(run: Run) -> dict[str, torch.Tensor]:
    return load_file(run.adapter / "adapter_model.safetensors")


def test_learning_rate_known_values() -> None:
    training = Training(steps=10, warmup_steps=2, learning_rate=1.0)
    rates = [learning_rate(step, training) for step in range(1, 11)]
    expected = [0.5, 1.0, 1.0, 0.961940, 0.853553, 0.691342, 0.5, 0.308658, 0.146447, 0.038060]
    assert rates == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 20), (2, 1), (5, 0), (10, 20)])
def test_learning_rate_is_positive_at_every_step(steps: int, warmup: int) -> None:
    training = Training(steps=steps, warmup_steps=warmup, learning_rate=1e-3)
    assert all(0 < learning_rate(step, training) <= 1e-3 for step in range(1, steps + 1))


def test_validation_tells_its_batches_before_they_are_computed(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Any] = []

    def loss(batch: range) -> Any:
        told.append(len(batch))
        return SimpleNamespace(per_item=torch.ones(len(batch), 2))

    fake: Any = SimpleNamespace(
        peft=SimpleNamespace(eval=lambda: None),
        progress=SimpleNamespace(step=lambda *what: told.append(what)),
        processes=SINGLE_PROCESS,
        training=Training(batch_size=2),
        state=SimpleNamespace(step=40),
        backbone=SimpleNamespace(loss=loss),
        validation_items=[*range(3)],
        cache=None,
        _enable_training=lambda: None,
    )
    monkeypatch.setattr(trainer.batches, "held_out_batches", lambda *_: [([], range(2)), ([], range(1))])
    assert trainer.Trainer._validation_terms(fake).tolist() == [1.0, 1.0]
    title = "validation at step 40, clips"
    assert told == [(title, 0, 3), 2, (title, 2, 3), 1]


def test_rng_state_at_depends_on_seed_step_and_rank_and_restores_the_global_state() -> None:
    cpu = torch.device("cpu")

    def draw(*arguments: int) -> float:
        seed, step, *rank = arguments
        with rng_state_at(seed, step, cpu, *rank):
            return torch.rand(()).item()

    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    first = torch.rand(())
    assert draw(1, 2) == draw(1, 2, 0)
    assert len({draw(1, 2), draw(1, 3), draw(2, 2), draw(1, 2, 1)}) == 4
    assert torch.equal(torch.stack([first, torch.rand(())]), expected)


def test_train_with_nan_loss_stops_and_keeps_the_last_checkpoint(
    tmp_path: Path, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    true_loss, calls = backbone.MusicGen.loss, []

    def nan_at_step_4(self: Any, batch: Any) -> Any:
        loss = true_loss(self, batch)
        calls.append(loss.mean.requires_grad)
        if sum(calls) >= 4:  # the fourth training step, and when it is looked at again
            loss.mean = loss.mean * float("nan")
        return loss

    monkeypatch.setattr(backbone.MusicGen, "loss", nan_at_step_4)
    with pytest.raises(TalimError, match=r"not finite at step 4: all modules are .*learning_rate=0\.005"):
        train(quick_recipe(), tmp_path)
    run = Run(tmp_path)
    assert not run.finished
    assert max(r["step"] for r in read_jsonl(run.log)) == 3
    monkeypatch.undo()
    assert train(quick_recipe(), tmp_path).finished


def test_numbers_that_are_not_finite_by_the_data_are_not_blamed_on_the_learning_rate(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here: Any = SimpleNamespace(
        recipe=SimpleNamespace(seed=0),
        backbone=SimpleNamespace(device=torch.device("cpu")),
        processes=SimpleNamespace(rank=0),
        weights={},
        training=Training(learning_rate=0.05),
        run=SimpleNamespace(folder="run"),
    )
    monkeypatch.setattr(
        trainer.not_finite, "find_cause", lambda *_: trainer.not_finite.Cause("the data hold NaN", False)
    )
    batch: Any = None
    text = str(trainer.Trainer._not_finite(here, batch, 4))
    assert text.startswith(
        "run: the loss or its gradient is not finite at step 4: the data hold NaN; a smaller learning"
    )
    assert "learning_rate=" not in text


def test_train_with_early_stopping_keeps_the_best_weights(tmp_path: Path, quick_recipe: Any) -> None:
    recipe = quick_recipe(training__learning_rate=1.0, training__early_stopping_patience=1, training__eval_every=1)
    run = train(recipe, tmp_path)
    cost, rows = read_json(run.cost), read_jsonl(run.log)
    held_out = [r["loss"] for r in rows if r["split"] == "validation"]
    assert cost["stopped_early"]
    assert cost["steps"] < 9
    assert held_out[-1] >= min(held_out[:-1])
    assert cost["best_validation_loss"] == min(held_out)


def test_train_whose_time_is_over_ends_with_its_step_as_if_finished(tmp_path: Path, quick_recipe: Any) -> None:
    recipe = quick_recipe()
    whole, stopped = (train(recipe, tmp_path / name, seconds=seconds) for name, seconds in (("a", 1e6), ("b", 0.0)))
    assert read_json(whole.cost)["steps"] == recipe.training.steps
    assert not read_json(whole.cost)["stopped_for_time"]
    cost = read_json(stopped.cost)
    assert (cost["steps"], cost["stopped_early"], cost["stopped_for_time"]) == (1, True, True)
    assert losses(stopped)[:2] == losses(whole)[:2]  # what it did until then is the same
    assert [row[:2] for row in losses(stopped)] == [(0, "validation"), (1, "train"), (1, "validation")]
    assert stopped.finished
    assert weights(stopped)


def test_train_with_save_weights_last_stores_the_last_weights(
    tmp_path: Path, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    validation_terms = trainer.Trainer._validation_terms

    def ever_higher(self: trainer.Trainer) -> torch.Tensor:
        return validation_terms(self) + 10.0 * max(0, self.state.step - 3)

    monkeypatch.setattr(trainer.Trainer, "_validation_terms", ever_higher)
    changes = {"training__eval_every": 3, "training__early_stopping_patience": 20}
    best = train(quick_recipe(**changes), tmp_path / "best")
    last = train(quick_recipe(**changes, training__save_weights="last"), tmp_path / "last")
    assert losses(best) == losses(last)
    assert read_json(last.cost)["best_step"] <= 3
    stored = [read_json(run.cost)["stored_step"] for run in (best, last)]
    assert stored == [read_json(best.cost)["best_step"], read_json(last.cost)["steps"]]
    assert any(not torch.equal(weights(best)[key], weights(last)[key]) for key in weights(best))


class Told(Progress):
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.facts: list[str] = []

    def log(self, text: str) -> None:
        self.lines.append(text)

    def step(self, title: str, done: int, total: int, facts: str = "") -> None:
        if title == "training":
            self.facts.append(facts)


def losses_of_steps(monkeypatch: pytest.MonkeyPatch, by_step: list[float]) -> None:
    """Let the validation loss be these after 0, 1, 2, ... steps."""
    monkeypatch.setattr(trainer.Trainer, "_validation_terms", lambda self: torch.tensor([by_step[self.state.step]]))


def test_train_without_a_lower_validation_loss_warns_once_and_shows_latest_and_lowest(
    tmp_path: Path, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_of_steps(monkeypatch, [3.0, 3.1, 3.2, 3.3, 3.4])
    told = Told()
    changes = {"training__steps": 4, "training__eval_every": 1, "training__learning_rate": 1e-3}
    run = train(quick_recipe(**changes), tmp_path / "run", told)
    (warning,) = [line for line in told.lines if line.startswith("warning: ")]
    assert "at 2 validations in a row the loss was not below the 3.000 before training (it is 3.200 now)" in warning
    assert "--set training.learning_rate=0.00033)" in warning
    assert "stored as it was before training" in warning
    assert [facts.partition(", ")[2].rpartition(", ")[0] for facts in told.facts] == [
        f"validation 3.{step}00 (lowest 3.000 at step 0)" for step in (1, 2, 3, 4)
    ]
    out, again = run.gentler_command.split(" --out ")[1].split(" --set ")
    gentler = resolve_recipe(Path(out), [run.recipe_file], {}, [again, "training.save_weights=last"])
    assert (gentler.training.learning_rate, Path(out)) == (0.00033, tmp_path / "run-2")


def test_train_whose_validation_loss_was_lower_once_does_not_warn(
    tmp_path: Path, quick_recipe: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    losses_of_steps(monkeypatch, [3.0, 3.1, 2.9, 3.1, 3.2])
    told = Told()
    train(quick_recipe(training__steps=4, training__eval_every=1), tmp_path / "run", told)
    assert not any(line.startswith("warning: ") for line in told.lines)
    assert "validation 3.200 (lowest 2.900 at step 2)" in told.facts[-1]


def test_time_left_is_told_once_after_the_first_steps_with_the_validations_to_come() -> None:
    told = Told()
    here: Any = SimpleNamespace(
        training=Training(steps=40, eval_every=10),
        state=SimpleNamespace(step=3),
        step_seconds=[30.0, 7.0, 9.0],
        validation_seconds=10.0,
        deadline=None,
        progress=told,
    )
    trainer.Trainer._tell_time_left(here)
    assert not told.lines  # the second and third step are too few
    here.state.step, here.step_seconds = 4, [30.0, 7.0, 9.0, 8.0]
    trainer.Trainer._tell_time_left(here)
    assert told.lines == ["36 more steps, with 4 validations: about 5 min 28 s"]
    here.training = Training(steps=6, eval_every=2)
    here.validation_seconds = 1.0
    trainer.Trainer._tell_time_left(here)
    assert len(told.lines) == 1  # 17 s are soon over
