"""Where in the music an adapter helps: the held-out loss on ornaments, between them, and on what has been heard before.

A mean over whole clips cannot tell an adapter that learnt ornaments from one that learnt form. Where it is on record
what was played (`talim.traditions.truth`), each frame of a held-out clip belongs to groups, and each group has a loss.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from talim.stages import batches
from talim.stages.progress import Progress

if TYPE_CHECKING:
    from peft import PeftModel

    from talim.backbones.backbone import Backbone
    from talim.stages.batches import Item
    from talim.traditions.truth import Truth

GROUPS = ("ornament", "plain", "first", "again")


def groups_of(truth: Truth, start_seconds: float, frames: int, frame_rate_hz: float) -> dict[str, np.ndarray]:
    """Which frames of a clip belong to which of GROUPS, bool [frames] each.

    "ornament": a voice plays one. "plain": a voice sounds, and none plays an ornament. "again": a section whose
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
    return {"ornament": ornament, "plain": sounds & ~ornament, "first": first, "again": again}


def frame_losses(
    backbone: Backbone, items: Sequence[Item], batch_size: int, progress: Progress, title: str
) -> list[np.ndarray]:
    """Each clip's loss frame by frame, float64 [T], with its words and without dropout."""
    found: list[np.ndarray] = []
    with torch.no_grad():
        for group, batch in batches.held_out_batches(items, backbone, batch_size):
            rows = backbone.loss(batch).per_frame.double().cpu().numpy()
            found += [row[: item.targets.shape[1]] for row, item in zip(rows, group, strict=True)]
            progress.step(title, len(found), len(items))
    return found


def moments(
    backbone: Backbone,
    peft: PeftModel,
    items: Sequence[Item],
    truths: Mapping[str, Truth],
    batch_size: int = 4,
    progress: Progress | None = None,
) -> dict[str, dict[str, Any]]:
    """Per recording and group: mean loss "before" (the base alone) and "after", and how many "frames" these are.

    `truths` are by recording; clips of others are passed over. A group without a frame in a recording is not there.
    """
    from talim.adapters import tuner

    progress = progress or Progress()
    items = [item for item in items if item.clip.recording in truths]
    backbone.model.eval()
    after = frame_losses(backbone, items, batch_size, progress, "moments with adapter")
    with tuner.disabled(peft):
        before = frame_losses(backbone, items, batch_size, progress, "moments without adapter")
    sums: dict[str, dict[str, np.ndarray]] = {}
    for item, old, new in zip(items, before, after, strict=True):
        truth, rate_hz = truths[item.clip.recording], backbone.frame_rate_hz
        mine = sums.setdefault(item.clip.recording, {name: np.zeros(3) for name in GROUPS})
        for name, frames in groups_of(truth, item.clip.start_seconds, len(old), rate_hz).items():
            mine[name] += (old[frames].sum(), new[frames].sum(), frames.sum())
    return {
        recording: {
            name: {"before": old / count, "after": new / count, "frames": int(count)}
            for name, (old, new, count) in groups.items()
            if count
        }
        for recording, groups in sums.items()
    }
