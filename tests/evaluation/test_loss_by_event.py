"""Loss by musical event: groups from the ground truth, and losses by frame that add up to the clip's loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fixtures import released_musicgen, released_mustango
from fixtures.adapter_designs import randomize_adapter

from talim import adapters
from talim.adapters import injection
from talim.backbones.load import load
from talim.beats_chords import BeatsAndChords
from talim.corpus.manifest import Clip
from talim.evaluation.loss_by_event import aggregate_by_event, event_groups, frame_losses
from talim.progress import Progress
from talim.synthesis.performer import performance_ground_truth
from talim.training.crops import EncodedClip


def test_event_groups_of_piece_with_repeats() -> None:
    truth = performance_ground_truth(7000, "hindustani", 20.0)
    groups = event_groups(truth, 0.0, 1000, 50.0)
    sections = [(s.name, s.occurrence, s.onset_seconds) for s in truth.sections]
    assert [name for name, time, _ in sections if time == 2] == ["sthayi", "mukhra"]
    at = {(name, time): int(onset * 50) + 5 for name, time, onset in sections}
    assert groups["first"][at["sthayi", 1]]
    assert groups["first"][at["mukhra", 1]]
    assert groups["repeat"][[at["sthayi", 2], at["mukhra", 2], at["mukhra", 3]]].all()
    assert not (groups["first"] & groups["repeat"]).any()
    assert not (groups["first"] | groups["repeat"])[at["improvisation", 1]]
    seconds = sum(one.seconds for one in truth.voices[0].ornaments)
    assert groups["ornaments"].sum() / 50 == pytest.approx(seconds, rel=0.15)
    assert not (groups["plain"] & groups["ornaments"]).any()


def test_event_groups_ignore_what_was_played_before_the_clip() -> None:
    truth = performance_ground_truth(7000, "hindustani", 20.0)  # sthayi at 0 and 6 s, mukhra at 3, 9 and 15 s
    groups = event_groups(truth, 4.0, 800, 50.0)
    assert not groups["repeat"][int((6.5 - 4) * 50)]
    assert groups["repeat"][int((15.5 - 4) * 50)] == groups["first"][int((9.5 - 4) * 50)]


def items_of(backbone: Any, seconds: tuple[float, ...]) -> list[EncodedClip]:
    rng = np.random.default_rng(0)
    found = []
    for number, length in enumerate(seconds):
        frames = round(length * backbone.frame_rate_hz)
        shape = (4, frames) if backbone.target_kind == "tokens" else (8, frames, 16)
        targets = rng.integers(0, 16, shape) if backbone.target_kind == "tokens" else rng.normal(size=shape)
        clip = Clip(
            id=f"c{number}", file="x", recording=f"r{number % 2}", performer="p", start_seconds=0.0,
            seconds=length, caption="sitar", split="held_out", audio_hash="0", source_file="x", source_hash="0",
        )  # fmt: skip
        kind = np.int16 if backbone.target_kind == "tokens" else np.float32
        found.append(EncodedClip(clip, targets.astype(kind), backbone.encode_text(["sitar"])[0], BeatsAndChords()))
    return found


@pytest.fixture(scope="module", params=["musicgen", "mustango"])
def tiny(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder: Path = tmp_path_factory.mktemp("bases")
    written = {"musicgen": released_musicgen.write, "mustango": released_mustango.write}[request.param](folder / "tiny")
    return load(str(written), precision="fp32", device="cpu")


def test_frame_losses_average_to_the_clip_loss(tiny: Any) -> None:
    """The mean over a clip's frames is the clip's loss in each part, whatever lies in the batch beside it."""
    tiny.model.eval()
    items = items_of(tiny, (1.0, 0.6, 0.8))
    rows = frame_losses(tiny, items, 3, Progress(), "losses")
    parts = len(tiny.validation_terms)
    assert [row.shape for row in rows] == [(parts, item.targets.shape[1]) for item in items]
    for item, row in zip(items, rows, strict=True):
        with torch.no_grad():
            alone = tiny.loss(tiny.collate([item.full_length.content(tiny.frame_rate_hz)], [False]))
        assert row.mean() == pytest.approx(float(alone.mean), rel=1e-4)
        np.testing.assert_allclose(row.mean(axis=1), alone.per_item[0].numpy(), rtol=1e-4)


def test_aggregate_by_event_compares_base_and_adapted_by_recording(tiny: Any) -> None:
    items = [item for item in items_of(tiny, (2.0, 2.0, 1.0)) if item.clip.recording == "r0"]
    truth = performance_ground_truth(7000, "hindustani", 20.0)
    peft = adapters.attach(tiny.model, "linear@all:width4", tiny.sites())
    tiny.model.eval()
    try:
        with injection.disabled(peft):
            base = frame_losses(tiny, items, 4, Progress(), "losses")
        unchanged = frame_losses(tiny, items, 4, Progress(), "losses")
        randomize_adapter(peft)
        adapted = frame_losses(tiny, items, 4, Progress(), "losses")
    finally:
        peft.unload()
    rate_hz = tiny.frame_rate_hz
    same, found = (aggregate_by_event(items, base, losses, {"r0": truth}, rate_hz) for losses in (unchanged, adapted))
    assert set(found) == {"r0"}
    assert set(found["r0"]) <= {"ornaments", "plain"}  # nothing returns in two seconds
    for name, group in found["r0"].items():
        assert same["r0"][name]["base_loss"] == pytest.approx(same["r0"][name]["adapted_loss"], rel=1e-5)
        assert group["base_loss"] == pytest.approx(same["r0"][name]["base_loss"], rel=1e-5)
        assert group["adapted_loss"] != pytest.approx(group["base_loss"], rel=1e-5)
    frames = round(3.0 * tiny.frame_rate_hz)
    assert 0.5 * frames < sum(group["frames"] for group in found["r0"].values()) <= frames
