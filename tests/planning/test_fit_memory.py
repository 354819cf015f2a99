"""Tests of talim.planning.fit_memory: the order of changes and their options."""

from __future__ import annotations

from talim.design.expression import Design
from talim.planning.design_costs import base_model_facts
from talim.planning.fit_memory import describe_change, smaller_configs
from talim.planning.training_step import StepConfig


def test_smaller_configs_change_checkpointing_batch_length_and_site_in_this_order() -> None:
    config = StepConfig("nano-musicgen", Design.parse("conv@all:2%"), 12.0, 4)
    changes = [
        describe_change(config, smaller) for smaller in smaller_configs(config, base_model_facts("nano-musicgen"))
    ]
    assert changes[:5] == [
        "--gradient-checkpointing",
        "--gradient-checkpointing --batch-size 2",
        "--gradient-checkpointing --batch-size 1",
        "--gradient-checkpointing --batch-size 1 --seconds 10",
        "--gradient-checkpointing --batch-size 1 --seconds 5",
    ]
    assert [change.split()[-1] for change in changes[5:]] == ["conv@deep:2%", "conv@post:2%"]


def test_smaller_configs_of_combined_design_keep_the_sites() -> None:
    design = Design.parse("conv@all:1%+linear@post:1%")
    config = StepConfig("nano-musicgen", design, 5.0, 1, gradient_checkpointing=True)
    assert list(smaller_configs(config, base_model_facts("nano-musicgen"))) == []
