"""Tests of talim.training.step: one AdamW step with gradient clipping, and refusal of values that are not finite."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from talim.backbones.protocol import Loss
from talim.recipe import Training
from talim.training.step import forward_backward, make_optimizer, optimizer_step


class FakeBackbone:
    """Its loss is the sum of a parameter times the batch."""

    def __init__(self) -> None:
        self.weight = nn.Parameter(torch.tensor([1.0, 2.0]))

    def loss(self, batch: Any) -> Loss:
        mean = (self.weight * batch).sum()
        return Loss(mean, mean.detach()[None], ("sum",), mean.detach()[None], torch.ones(1), torch.ones(()))


def test_forward_backward_adds_gradients() -> None:
    backbone: Any = FakeBackbone()
    for _ in range(2):
        forward_backward(backbone, torch.tensor([3.0, 4.0]))
    assert backbone.weight.grad.tolist() == [6.0, 8.0]


def test_optimizer_step_moves_weights_at_the_learning_rate_and_clears_gradients() -> None:
    backbone: Any = FakeBackbone()
    weights = {"weight": backbone.weight}
    optimiser = make_optimizer(weights, Training(weight_decay=0.0))
    loss = forward_backward(backbone, torch.tensor([3.0, -4.0]))
    assert optimizer_step(weights, optimiser, loss, 0.1, max_grad_norm=1.0)
    # the first Adam step moves each weight by the learning rate against the gradient's sign
    assert backbone.weight.tolist() == pytest.approx([0.9, 2.1], abs=1e-6)
    assert backbone.weight.grad is None


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_optimizer_step_with_values_that_are_not_finite_changes_nothing(value: float) -> None:
    backbone: Any = FakeBackbone()
    weights = {"weight": backbone.weight}
    optimiser = make_optimizer(weights, Training())
    loss = forward_backward(backbone, torch.tensor([value, 1.0]))
    assert not optimizer_step(weights, optimiser, loss, 0.1, max_grad_norm=1.0)
    assert backbone.weight.tolist() == [1.0, 2.0]
