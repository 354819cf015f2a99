"""The schooling of nano-mustango in miniature: noise levels, the running average, exact resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import nano_mustango

from talim.stages import pretrain_diffusion, pretrain_ear, pretrain_told
from talim.stages.pretrain_diffusion import Average


def test_noise_levels_cover_the_range_in_every_batch() -> None:
    levels = pretrain_diffusion.levels(8, torch.Generator().manual_seed(0))
    assert (levels // 125).tolist() == list(range(8))


def test_an_average_follows_slowly() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = Average(model)
    average.steps.fill_(100_000)
    torch.nn.init.ones_(model.weight)
    average.follow(model)
    assert float(average.model.weight) == pytest.approx(1 - pretrain_diffusion.MEMORY, rel=1e-3)


def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrain_diffusion.mustango, "Shape", lambda: nano_mustango.SHAPE)
    for room in (pretrain_diffusion, pretrain_told):
        monkeypatch.setattr(room, "SECONDS", 1.28)
        monkeypatch.setattr(room, "BATCH", 2)
    monkeypatch.setattr(pretrain_diffusion, "KEEP_EVERY", 2)
    monkeypatch.setattr(pretrain_diffusion, "DRILL", (1, 3))
    monkeypatch.setattr(pretrain_diffusion, "FIRST_TERM", 4)
    monkeypatch.setattr(pretrain_diffusion.pretrain_text, "restore", lambda encoder, folder: None)
    torch.manual_seed(0)
    sound, ear = nano_mustango.SHAPE.sound().eval(), pretrain_ear.Ear(4 * 8)
    real_draw = pretrain_diffusion.draw

    def train(name: str) -> Average:
        said = {"clips": 4, "steps": 6, "seed": 3, "workers": 1, "peak_rate": 1e-3}
        return pretrain_diffusion.train(tmp_path / name, sound, tmp_path, ear, **said)

    def interrupted(latents: Any, known: Any, step: int, *rest: Any) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return real_draw(latents, known, step, *rest)

    whole = train("whole")
    monkeypatch.setattr(pretrain_diffusion, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("parts")
    monkeypatch.setattr(pretrain_diffusion, "draw", real_draw)
    resumed = train("parts")
    for (name, one), (_, two) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, msg=name)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"step", "loss", "levels", "read", "off"} <= rows[-1].keys()
