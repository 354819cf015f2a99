"""Tests of talim.planning.training_step: real steps traced without data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import released_musicgen

from talim.design.expression import Design
from talim.errors import TalimError
from talim.planning import training_step
from talim.planning.training_step import StepConfig
from talim.progress import Progress


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


@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize("design", ["full@all", "conv@all:10%"])
def test_trace_step_tells_how_far_it_is_and_the_trace_is_the_same(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, design: str, checkpointing: bool
) -> None:
    steps: list[tuple[str, int, int]] = []

    class Steps(Progress):
        def step(self, title: str, done: int, total: int, facts: str = "") -> None:
            steps.append((title, done, total))

    config = StepConfig(str(tiny_base), Design.parse(design), 2.0, 2, "fp32", checkpointing)
    told = training_step.trace_step(config, Steps())
    titles, done, totals = zip(*steps, strict=True)
    assert {*titles} == {f"tracing {design}: sites, forward and backward"}
    assert len({*totals}) == 1
    assert list(done) == sorted(done)
    assert (done[0], done[-1]) == (0, totals[0])
    assert done[-2] > 0.6 * totals[0]  # gradients were told of too
    monkeypatch.setattr(training_step, "_report_sites", lambda *_: lambda: None)
    assert training_step.trace_step(config).to_json() == told.to_json()


def test_trace_step_of_a_melody_base_counts_the_frames_before_the_music(tmp_path: Path) -> None:
    """Twenty frames of music after seven or seventy of melody, and 32 of text."""
    folder = released_musicgen.write(tmp_path / "tiny", melody=True)
    flops = []
    for frames in (7, 70):
        text = (folder / "config.json").read_text(encoding="utf-8")
        changed = text.replace('"chroma_length": 7,', f'"chroma_length": {frames},')
        (folder / "config.json").write_text(changed, encoding="utf-8")
        config = StepConfig(str(folder), Design.parse("conv@all:width8+linear@conditioner:width4"), 0.4, 2, "fp32")
        flops.append(training_step.trace_step(config).flops)
    longer = (70 + 32 + 23) / (7 + 32 + 23)  # with the three steps of the delays
    assert 0.95 * longer < flops[1] / flops[0] < longer**2  # linear layers, and attention


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
