"""Tests of talim.planning.fit_memory: the order of changes and their options."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from talim.design.expression import Design
from talim.planning.base_facts import base_model_facts
from talim.planning.fit_memory import as_settings, describe_change, smaller_configs, training_advice
from talim.planning.generation_memory import LIBRARY_BYTES
from talim.planning.hardware import CONTEXT_BYTES, HEAP_GROWTH
from talim.planning.trace_cache import TraceCache
from talim.planning.tracer import Trace
from talim.planning.training_step import StepConfig
from talim.progress import Progress
from talim.recipe import Recipe, Training

CPU = torch.device("cpu")


def test_smaller_configs_change_checkpointing_batch_length_and_site_in_this_order() -> None:
    config = StepConfig("nano-musicgen", Design.parse("conv@all:2%"), 12.0, 4)
    changes = [
        describe_change(config, smaller) for smaller in smaller_configs(config, base_model_facts("nano-musicgen"))
    ]
    assert changes[:5] == [
        "--gradient-checkpointing",
        "--gradient-checkpointing --batch-size 2",
        "--gradient-checkpointing --batch-size 1",
        "--gradient-checkpointing --batch-size 1 --clip-seconds 10",
        "--gradient-checkpointing --batch-size 1 --clip-seconds 5",
    ]
    assert [change.split()[-1] for change in changes[5:]] == ["conv@deep:2%", "conv@post:2%"]


def test_smaller_configs_of_combined_design_keep_the_sites() -> None:
    design = Design.parse("conv@all:1%+linear@post:1%")
    config = StepConfig("nano-musicgen", design, 5.0, 1, gradient_checkpointing=True)
    assert list(smaller_configs(config, base_model_facts("nano-musicgen"))) == []


@pytest.mark.slow
def test_training_advice_tells_what_is_needed_and_settings_that_fit(tiny_base: Path) -> None:
    training = Training(batch_size=16, crop_seconds=8.0, precision="fp32")
    recipe = Recipe(base=str(tiny_base), corpus="c", design="conv@all:10%", training=training)
    traces = TraceCache(None, Progress())
    text = training_advice(recipe, 30.0, 0.62e9, CPU, traces)
    assert "this training needs" in text
    assert "and there are 0.62 GB" in text
    assert "with --set training.gradient_checkpointing=true" in text
    assert "no smaller batch" in training_advice(recipe, 30.0, 1e6, CPU, traces)


@pytest.mark.parametrize(("device", "precision"), [("mps", "fp32"), ("cuda", "bf16"), ("cpu", "bf16")])
def test_training_advice_is_for_the_precision_and_the_memory_of_the_device(
    tiny_base: Path, monkeypatch: pytest.MonkeyPatch, device: str, precision: str
) -> None:
    """An Apple GPU computes in float32 also beside a CPU with bf16 instructions (both GPUs are stand-ins)."""
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda _: "a GPU")
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: True)
    monkeypatch.setattr("talim.backbones.precision.cpu_flags", lambda: {"avx512_bf16"})
    steps: list[StepConfig] = []

    class Watched(TraceCache):
        def trace(self, config: StepConfig) -> Trace:
            steps.append(config)
            return Trace(peak_bytes=10_000_000, operations=[])

    recipe = Recipe(base=str(tiny_base), corpus="c", design="linear@all:10%", training=Training(crop_seconds=0.3))
    text = training_advice(recipe, 30.0, 1e6, torch.device(device), Watched(None, Progress()))
    assert {step.precision for step in steps} == {precision}
    # of tensors on a GPU, and of the heap that they need in a process
    needed = (LIBRARY_BYTES + HEAP_GROWTH * 1e7 if device == "cpu" else CONTEXT_BYTES + 1e7) / 1e9
    assert f"this training needs {needed:.2f} GB" in text


def test_as_settings_are_options_of_train() -> None:
    before = StepConfig("nano-musicgen", Design.parse("linear@all:2%"), 20.0, 8)
    after = replace(before, gradient_checkpointing=True, batch_size=2, crop_seconds=5.0).to_json()
    assert as_settings(before, after) == (
        "--set training.gradient_checkpointing=true --set training.batch_size=2 --set training.crop_seconds=5"
    )
