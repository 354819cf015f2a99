"""Gates: strict to read, written beforehand, and not to be moved after the result."""

from __future__ import annotations

from pathlib import Path

import pytest

from talim.atomic_io import read_json
from talim.errors import UsageError
from talim.poc import gates


def test_the_users_own_values_are_read_and_what_is_not_said_is_as_usual(tmp_path: Path) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text("cost: {least_steps: 7}\nquality: {margin_share: 0.3}\n")
    found = gates.read_gates(file)
    assert (found.cost.least_steps, found.quality.margin_share) == (7, 0.3)
    assert found.task == gates.GateThresholds().task
    assert gates.read_gates(None) == gates.GateThresholds()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cost: {least_step: 7}", "cost.least_step"),
        ("quality: {margin_share: 2}", "quality.margin_share"),
        ("task: {acceptance_at_least: 0}", "task.acceptance_at_least"),
        ("- 3", "known are cost.least_steps"),
        ("cost: [", "not a YAML file"),
    ],
)
def test_what_cannot_be_a_gate_is_refused_in_a_line(tmp_path: Path, text: str, words: str) -> None:
    file = tmp_path / "gates.yaml"
    file.write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        gates.read_gates(file)
    assert "\n" not in str(caught.value)
    with pytest.raises(UsageError, match="cannot be read"):
        gates.read_gates(tmp_path / "none.yaml")


def test_the_limit_is_what_is_asked_else_most_of_the_machine() -> None:
    asked = gates.GateThresholds(cost=gates.CostGate(memory_gb=2))
    assert gates.size_limit_bytes(asked, 8e9) == 2e9
    assert gates.size_limit_bytes(gates.GateThresholds(), 8e9) == pytest.approx(7.2e9)
    assert gates.size_limit_bytes(gates.GateThresholds()) > 1e8


def test_gates_are_written_once_and_not_moved_after_a_result(tmp_path: Path) -> None:
    said = gates.write_gates(tmp_path, gates.GateThresholds(), 1.0, 4e9, decided=False)
    assert read_json(tmp_path / "gates.json") == said
    assert "at least 20 steps of each within 1 h" in said["cost"]["threshold"]
    assert all(said[stage]["why"] for stage in ("cost", "quality", "task", "extend", "hybrid"))
    other = gates.GateThresholds(quality=gates.QualityGate(fall_above=0.1))
    assert gates.write_gates(tmp_path, other, 1.0, 4e9, decided=False) != said  # nothing is decided yet
    with pytest.raises(UsageError, match="written before the results"):
        gates.write_gates(tmp_path, gates.GateThresholds(), 1.0, 4e9, decided=True)
    gates.write_gates(tmp_path, other, 1.0, 5e9, decided=True)  # a machine of another size moves no threshold
    assert gates.saved_gates(tmp_path, None) == other
    file = tmp_path / "gates.yaml"
    file.write_text("quality: {fall_above: 0.2}")
    with pytest.raises(UsageError, match="other gates"):
        gates.saved_gates(tmp_path, file)
