"""The schooling of nano-mustango in miniature: noise levels, the running average, exact resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import tiny_nano_mustango

from research.pretraining import conditions, pitch_probe, unet
from research.pretraining.unet import EmaWeights


def test_noise_levels_cover_the_range_in_every_batch() -> None:
    levels = unet.levels(8, torch.Generator().manual_seed(0))
    assert (levels // 125).tolist() == list(range(8))


def test_an_average_follows_slowly() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = EmaWeights(model)
    average.steps.fill_(100_000)
    torch.nn.init.ones_(model.weight)
    average.follow(model)
    assert float(average.model.weight) == pytest.approx(1 - unet.EMA_DECAY, rel=1e-3)


def test_stopped_and_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet.mustango, "Shape", lambda: tiny_nano_mustango.SHAPE)
    for room in (unet, conditions):
        monkeypatch.setattr(room, "SECONDS", 1.28)
        monkeypatch.setattr(room, "BATCH", 2)
    monkeypatch.setattr(unet, "CHECKPOINT_INTERVAL", 2)
    monkeypatch.setattr(unet, "AUXILIARY_PHASE", (1, 3))
    monkeypatch.setattr(unet, "FIRST_SCHEDULE_STEPS", 4)
    monkeypatch.setattr(unet.text_encoder, "restore", lambda encoder, folder: None)
    torch.manual_seed(0)
    sound, ear = tiny_nano_mustango.SHAPE.mel_vae().eval(), pitch_probe.PitchProbe(4 * 8)
    real_draw = unet.draw

    def train(name: str) -> EmaWeights:
        said = {"clips": 4, "steps": 6, "seed": 3, "workers": 1, "peak_rate": 1e-3}
        return unet.train(tmp_path / name, sound, tmp_path, ear, **said)

    def interrupted(latents: Any, known: Any, step: int, *rest: Any) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return real_draw(latents, known, step, *rest)

    whole = train("whole")
    monkeypatch.setattr(unet, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("parts")
    monkeypatch.setattr(unet, "draw", real_draw)
    resumed = train("parts")
    for (name, one), (_, two) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        torch.testing.assert_close(one, two, rtol=0, atol=0, msg=name)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"step", "loss", "levels", "read", "off"} <= rows[-1].keys()
