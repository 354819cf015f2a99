"""Tests of talim.training.checkpoint: exact restoration, refusal of foreign and damaged files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from talim.errors import TalimError
from talim.training import checkpoint
from talim.training.checkpoint import TrainerState


def make(seed: int) -> tuple[dict[str, nn.Parameter], torch.optim.Optimizer]:
    generator = torch.Generator().manual_seed(seed)
    weights = {n: nn.Parameter(torch.randn(3, 2, generator=generator)) for n in ("a.down", "b.up")}
    return weights, torch.optim.AdamW(weights.values(), lr=0.1)


def step(weights: dict[str, nn.Parameter], optimiser: torch.optim.Optimizer, number: int) -> None:
    optimiser.zero_grad()
    sum(((w - number) ** 2).sum() for w in weights.values()).backward()  # type: ignore[union-attr]
    optimiser.step()


def test_read_restores_training_bit_for_bit(tmp_path: Path) -> None:
    weights, optimiser = make(1)
    best = {name: weight.detach().clone() for name, weight in weights.items()}
    step(weights, optimiser, 1)
    state = TrainerState("id", step=1, best_loss=2.5, log_bytes=77, usage={"wall_seconds": 1.5})
    checkpoint.write(tmp_path / "c", state, weights, optimiser, best)
    step(weights, optimiser, 2)

    others, other_optimiser = make(2)
    read, read_best = checkpoint.read(tmp_path / "c", others, other_optimiser, "id")
    assert read == state
    assert all(torch.equal(read_best[name], best[name]) for name in best)
    step(others, other_optimiser, 2)
    assert all(torch.equal(weights[name], others[name]) for name in weights)


def test_read_of_another_run_or_design_raises_talim_error(tmp_path: Path) -> None:
    weights, optimiser = make(1)
    checkpoint.write(tmp_path / "c", TrainerState("id"), weights, optimiser, {})
    with pytest.raises(TalimError, match="belongs to run id"):
        checkpoint.read(tmp_path / "c", weights, optimiser, "other")
    with pytest.raises(TalimError, match="do not fit this design"):
        checkpoint.read(tmp_path / "c", {"x": next(iter(weights.values()))}, optimiser, "id")


@pytest.mark.parametrize("cut", [0, 7, 100, -1])
def test_read_of_truncated_file_raises_talim_error(tmp_path: Path, cut: int) -> None:
    weights, optimiser = make(1)
    path = tmp_path / "c"
    checkpoint.write(path, TrainerState("id"), weights, optimiser, {})
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(TalimError, match="damaged checkpoint"):
        checkpoint.read(path, weights, optimiser, "id")


def test_read_of_a_file_with_any_flipped_bit_raises_talim_error_or_changes_nothing(tmp_path: Path) -> None:
    weights, optimiser = make(1)
    step(weights, optimiser, 1)
    path, state = tmp_path / "c", TrainerState("id", step=1, best_loss=2.5)
    checkpoint.write(path, state, weights, optimiser, {"a.down": weights["a.down"].detach().clone()})
    whole = path.read_bytes()
    refused = 0
    for position in range(len(whole)):
        damaged = bytearray(whole)
        damaged[position] ^= 1 << position % 8
        path.write_bytes(damaged)
        others, other_optimiser = make(2)
        try:
            read, _ = checkpoint.read(path, others, other_optimiser, "id")
        except TalimError:
            refused += 1
            continue
        assert read == state
        assert all(torch.equal(weights[name], others[name]) for name in weights)
    assert refused > 0.9 * len(whole)  # the rest is white space of the header


def test_write_gives_the_file_the_mode_of_new_files(tmp_path: Path) -> None:
    weights, optimiser = make(1)
    checkpoint.write(tmp_path / "c", TrainerState("id"), weights, optimiser, {})
    (tmp_path / "plain").touch()
    assert (tmp_path / "c").stat().st_mode == (tmp_path / "plain").stat().st_mode
