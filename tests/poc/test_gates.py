"""Gates: strict YAML, written once, and fixed after a decision."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.atomic_io import read_json
from talim.errors import TalimError, UsageError
from talim.poc import gates
from talim.poc.budget import least_seconds
from talim.recipe import Training
from talim.training.time_budget import MAX_TRAINING_STEPS, StepTiming, steps_for_budget


def test_read_gates_missing_keys_have_defaults(tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text("cost: {min_steps: 7}\nquality: {tolerance_fraction: 0.3}\n")
    found = gates.read_gates(file)
    assert (found.cost.min_steps, found.quality.tolerance_fraction) == (7, 0.3)
    assert found.task == gates.GateThresholds().task
    assert gates.read_gates(None) == gates.GateThresholds()


def test_min_steps_reach_exactly_as_far_as_a_time_budget(tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text(f"cost: {{min_steps: {MAX_TRAINING_STEPS}}}\n")
    assert gates.read_gates(file).cost.min_steps == MAX_TRAINING_STEPS
    timing = StepTiming(step_seconds=0.5, startup_seconds=1.0)
    seconds = least_seconds(lambda left: steps_for_budget(Training(), left, [timing]) >= MAX_TRAINING_STEPS, 0.0)
    assert seconds < 2 * MAX_TRAINING_STEPS


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cost: {min_step: 7}", "unknown key cost.min_step: did you mean min_steps"),
        ("cost: {min_steps: 20001}", "cost.min_steps"),  # more than any time budget gives
        ("quality: {tolerance_fraction: 2}", "quality.tolerance_fraction"),
        ("task: {min_acceptance_fraction: 0}", "task.min_acceptance_fraction"),
        ("- 3", "expected `key: value` lines"),
        ("cost: [", "not a YAML file"),
    ],
)
def test_read_gates_invalid_file_raises_one_line(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message) as caught:
        gates.read_gates(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(TalimError, match="no such file"):
        gates.read_gates(tmp_path / "none.yaml")


def test_memory_limit_bytes_is_the_gate_or_90_percent_of_the_machine() -> None:
    given = gates.GateThresholds(cost=gates.CostGate(memory_gb=2))
    assert gates.memory_limit_bytes(given, 8e9) == 2e9
    assert gates.memory_limit_bytes(gates.GateThresholds(), 8e9) == pytest.approx(7.2e9)
    assert gates.memory_limit_bytes(gates.GateThresholds()) > 1e8


def test_write_gates_other_thresholds_after_a_decision_raise(tmp_path: Path) -> None:
    summary = gates.write_gates(tmp_path, gates.GateThresholds(), 1.0, 4e9, decided=False)
    assert read_json(tmp_path / "gates.json") == summary
    assert "at least 20 steps of each within 1 h" in summary["cost"]["threshold"]
    assert all(summary[stage]["reason"] for stage in ("cost", "quality", "task", "extend", "hybrid"))
    other = gates.GateThresholds(quality=gates.QualityGate(min_loss_reduction=0.1))
    assert gates.write_gates(tmp_path, other, 1.0, 4e9, decided=False) != summary  # nothing is decided yet
    with pytest.raises(UsageError, match="written before the results"):
        gates.write_gates(tmp_path, gates.GateThresholds(), 1.0, 4e9, decided=True)
    gates.write_gates(tmp_path, other, 1.0, 5e9, decided=True)  # another machine changes no threshold
    assert gates.saved_gates(tmp_path, None) == other
    file = tmp_path / "gates.yaml"
    file.write_text("quality: {min_loss_reduction: 0.2}")
    with pytest.raises(UsageError, match="other gates"):
        gates.saved_gates(tmp_path, file)
