"""Learning-rate schedule, atomic checkpoints and logs, and the command line of a Config."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from research.pretraining import train_loop


def test_lr_at_rises_to_the_peak_and_decays_to_the_floor() -> None:
    rates = [train_loop.lr_at(step, 1000, 2e-3, warmup=100, floor=0.02) for step in range(1000)]
    assert rates[0] == pytest.approx(2e-5)
    assert rates[:99] == sorted(rates[:99])
    assert rates[100:] == sorted(rates[100:], reverse=True)
    assert max(rates) <= 2e-3
    assert rates[-1] == pytest.approx(0.02 * 2e-3, rel=1e-3)
    assert all(type(rate) is float for rate in rates)  # numpy numbers in a checkpoint would prevent loading


def test_save_atomic_after_a_failed_write_keeps_the_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "state.pt"
    train_loop.save_atomic(file, {"step": 1})

    def fail(*_: object) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="no space"):
        train_loop.save_atomic(file, {"step": 2})
    assert torch.load(file, weights_only=True) == {"step": 1}


def test_discard_after_removes_later_rows(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    for step in (0, 20, 40, 60):
        train_loop.log_row(log, {"step": step})
    train_loop.discard_after(log, 40)
    train_loop.log_row(log, {"step": 40})
    assert log.read_text() == '{"step": 0}\n{"step": 20}\n{"step": 40}\n'
    train_loop.discard_after(tmp_path / "none.jsonl", 3)  # no log yet
