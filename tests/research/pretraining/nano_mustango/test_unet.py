"""Training of the U-Net on tiny settings: timesteps, averaged weights, exact resumption."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from fixtures import tiny_nano_mustango

from research.pretraining.nano_mustango import pitch_probe, unet
from research.pretraining.nano_mustango.unet import EmaWeights


def test_stratified_timesteps_cover_the_range() -> None:
    timesteps = unet.stratified_timesteps(8, torch.Generator().manual_seed(0))
    assert (timesteps // 125).tolist() == list(range(8))


def test_follow_moves_the_average_by_the_decay() -> None:
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    average = EmaWeights(model)
    average.steps.fill_(100_000)
    torch.nn.init.ones_(model.weight)
    average.follow(model)
    assert float(average.model.weight) == pytest.approx(1 - unet.EMA_DECAY, rel=1e-3)


def test_train_resumed_equals_uninterrupted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(unet.nano_models, "nano_mustango_config", lambda: tiny_nano_mustango.SHAPE)
    monkeypatch.setattr(unet.text_encoder, "restore", lambda encoder, folder: None)
    torch.manual_seed(0)
    mel_vae, probe = tiny_nano_mustango.SHAPE.mel_vae().eval(), pitch_probe.PitchProbe(4 * 8)
    real_draw = unet.draw

    def train(name: str) -> EmaWeights:
        config = unet.Config(
            out=tmp_path / name,
            steps=6,
            clips=4,
            seconds=1.28,
            batch_size=2,
            auxiliary_phase=(1, 3),
            first_schedule_steps=4,
            checkpoint_every=2,
            seed=3,
            num_workers=1,
        )
        return unet.train(config, mel_vae, probe)

    def interrupted(latents: Any, known: Any, step: int, *rest: Any, **named: Any) -> Any:
        if step == 3:
            raise KeyboardInterrupt
        return real_draw(latents, known, step, *rest, **named)

    whole = train("whole")
    monkeypatch.setattr(unet, "draw", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train("parts")
    monkeypatch.setattr(unet, "draw", real_draw)
    resumed = train("parts")
    for (name, expected), (_, weight) in zip(whole.state_dict().items(), resumed.state_dict().items(), strict=True):
        torch.testing.assert_close(weight, expected, rtol=0, atol=0, msg=name)
    rows = [json.loads(line) for line in (tmp_path / "whole" / "log.jsonl").read_text().splitlines()]
    assert {"step", "loss", "by_timestep", "probe", "pitch"} <= rows[-1].keys()
