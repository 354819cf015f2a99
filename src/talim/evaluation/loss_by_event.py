"""Where in the music an adapter helps: the held-out loss on ornaments, between them, and on what has been heard before.

A mean over whole clips cannot tell an adapter that learnt ornaments from one that learnt form. Where it is on record
what was played (`talim.synthesis.ground_truth`), each frame of a held-out clip belongs to groups, and each group has a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from talim.progress import Progress
from talim.training import batches

if TYPE_CHECKING:
    from peft import PeftModel

    from talim.backbones.protocol import Backbone
    from talim.synthesis.ground_truth import GroundTruth
    from talim.training.batches import EncodedClip
    from talim.training.frozen_cache import FrozenLayerCache

EVENT_GROUPS = ("ornaments", "plain", "first", "repeat")


def event_groups(
    truth: GroundTruth, start_seconds: float, frames: int, frame_rate_hz: float
) -> dict[str, np.ndarray]:
    """Which frames of a clip belong to which of GROUPS, bool [frames] each.

    "ornaments": a voice plays one. "plain": a voice sounds, and none plays an ornament. "repeat": a section whose
    material the same clip has had from its beginning; "first": that material when it came first.
    """
    times = start_seconds + (np.arange(frames) + 0.5) / frame_rate_hz
    ornament, sounds = np.zeros(frames, bool), np.zeros(frames, bool)
    known = truth.times()
    for voice in truth.voices:
        for one in voice.ornaments:
            ornament |= (one.onset_seconds <= times) & (times < one.onset_seconds + one.seconds)
        nearest = np.searchsorted(known, times).clip(max=known.size - 1)
        sounds |= np.isfinite(voice.cents[nearest])
    first, again = np.zeros(frames, bool), np.zeros(frames, bool)
    heard: dict[str, np.ndarray] = {}
    for section in sorted(truth.sections, key=lambda each: each.onset_seconds):
        within = (section.onset_seconds <= times) & (times < section.end_seconds)
        if section.time > 1 and section.name in heard and within.any():
            again |= within
            first |= heard[section.name]
        elif section.onset_seconds >= start_seconds - 0.5 / frame_rate_hz:
            heard[section.name] = within
    return {"ornaments": ornament, "plain": sounds & ~ornament, "first": first, "repeat": again}


def frame_losses(
    backbone: Backbone,
    items: Sequence[EncodedClip],
    batch_size: int,
    progress: Progress,
    title: str,
    kept: FrozenLayerCache | None = None,
) -> list[np.ndarray]:
    """Each clip's loss frame by frame, float64 [T], with its words and without dropout."""
    found: list[np.ndarray] = []
    with torch.no_grad():
        for group, batch in batches.held_out_batches(items, backbone, batch_size, kept):
            rows = backbone.loss(batch).per_frame.double().cpu().numpy()
            found += [row[: item.targets.shape[1]] for row, item in zip(rows, group, strict=True)]
            progress.step(title, len(found), len(items))
    return found


def loss_by_event(
    backbone: Backbone,
    peft: PeftModel,
    items: Sequence[EncodedClip],
    truths: Mapping[str, GroundTruth],
    batch_size: int = 4,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Per recording and group: mean loss "base_loss" (the base alone) and "adapted_loss", and how many "frames" these are.

    `truths` are by recording; clips of others are passed over. A group without a frame in a recording is not there.
    """
    from talim.adapters import injection

    progress = progress or Progress()
    items = [item for item in items if item.clip.recording in truths]
    backbone.model.eval()
    after = frame_losses(backbone, items, batch_size, progress, "moments with adapter")
    with injection.disabled(peft):
        before = frame_losses(backbone, items, batch_size, progress, "moments without adapter")
    return aggregate_by_event(items, before, after, truths, backbone.frame_rate_hz)


def aggregate_by_event(
    items: Sequence[EncodedClip],
    before: Sequence[np.ndarray],
    after: Sequence[np.ndarray],
    truths: Mapping[str, GroundTruth],
    frame_rate_hz: float,
) -> dict[str, dict[str, Any]]:
    """As `moments`, of losses frame by frame that are known already, float [T] a clip. All recordings have truths."""
    sums: dict[str, dict[str, np.ndarray]] = {}
    for item, old, new in zip(items, before, after, strict=True):
        truth = truths[item.clip.recording]
        mine = sums.setdefault(item.clip.recording, {name: np.zeros(3) for name in EVENT_GROUPS})
        for name, frames in event_groups(truth, item.clip.start_seconds, len(old), frame_rate_hz).items():
            mine[name] += (old[frames].sum(), new[frames].sum(), frames.sum())
    return {
        recording: {
            name: {"base_loss": old / count, "adapted_loss": new / count, "frames": int(count)}
            for name, (old, new, count) in groups.items()
            if count
        }
        for recording, groups in sums.items()
    }
