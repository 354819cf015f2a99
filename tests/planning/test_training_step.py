"""Tests of talim.planning.training_step: real steps traced without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from talim.design.expression import Design
from talim.errors import TalimError
from talim.planning import training_step
from talim.planning.training_step import StepConfig


def test_step_config_to_json_are_keywords_of_the_constructor() -> None:
    config = StepConfig("nano-musicgen", Design.parse("conv@all:8M"), 4.0, 2, "fp32", True)
    assert config.to_json()["design"] == "conv@all:8M"
    assert StepConfig(**config.to_json()) == config


@pytest.mark.parametrize(
    "design", ["transformer@conditioner:10%", "conv@layers[0]:5%+linear@post:5%", "ia3@all", "full@post", "dora@all:r2"]
)
def test_trace_step_of_every_kind_counts_flops(tiny_base: Path, design: str) -> None:
    config = StepConfig(str(tiny_base), Design.parse(design), 4.0, 2, "fp32")
    assert training_step.trace_step(config).flops > 0


def test_trace_step_of_value_dependent_design_raises_talim_error(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def read_values(*_: Any) -> None:
        torch.nonzero(torch.zeros(3))

    monkeypatch.setattr(training_step.SyntheticTrainingStep, "take_step", read_values)
    with pytest.raises(TalimError, match="depends on values"):
        training_step.trace_step(StepConfig(str(tiny_base), Design.parse("conv@all:10%"), 4.0, precision="fp32"))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("base", "seconds", "checkpointing", "max_bytes"),
    [("musicgen-medium", 30.0, True, 6e9), ("mustango", 10.24, False, 16e9)],
)
def test_trace_step_of_large_bases_needs_modest_memory(
    base: str, seconds: float, checkpointing: bool, max_bytes: float
) -> None:
    config = StepConfig(base, Design.parse("conv@all:40M"), seconds, 1, "bf16", checkpointing)
    assert training_step.trace_step(config).peak_bytes < max_bytes
