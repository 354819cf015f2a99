"""Held-out loss by musical event: on ornaments, between them, and on material that the clip has played before.

A mean over whole clips cannot separate an adapter that learned ornaments from one that learned form. For synthetic
recordings with ground truth (`talim.synthesis.ground_truth`) each frame of a held-out clip is assigned to groups, and
each group has a loss.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from talim.progress import Progress
from talim.training import batches

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.synthesis.ground_truth import FormSection, GroundTruth
    from talim.training.crops import EncodedClip
    from talim.training.frozen_cache import FrozenLayerCache

EVENT_GROUPS = ("ornaments", "plain", "first", "repeat")


def sections_of_clip(
    truth: GroundTruth, start_seconds: float, frames: int, frame_rate_hz: float
) -> Iterator[tuple[FormSection, np.ndarray]]:
    """The sections of a recording in order, each with its frames in a clip, bool [frames]."""
    times = start_seconds + (np.arange(frames) + 0.5) / frame_rate_hz
    for section in sorted(truth.sections, key=lambda each: each.onset_seconds):
        yield section, (section.onset_seconds <= times) & (times < section.end_seconds)


def event_groups(truth: GroundTruth, start_seconds: float, frames: int, frame_rate_hz: float) -> dict[str, np.ndarray]:
    """Which frames of a clip belong to which of EVENT_GROUPS, bool [frames] each.

    "ornaments": some voice plays one. "plain": some voice sounds, and none plays an ornament. "repeat": a section
    whose material the same clip has contained from its beginning; "first": that material at its first occurrence.
    """
    times = start_seconds + (np.arange(frames) + 0.5) / frame_rate_hz
    ornaments, sounding = np.zeros(frames, bool), np.zeros(frames, bool)
    truth_times = truth.times()
    for voice in truth.voices:
        for ornament in voice.ornaments:
            end_seconds = ornament.onset_seconds + ornament.seconds
            ornaments |= (ornament.onset_seconds <= times) & (times < end_seconds)
        nearest = np.searchsorted(truth_times, times).clip(max=truth_times.size - 1)
        sounding |= np.isfinite(voice.cents[nearest])
    first, repeat = np.zeros(frames, bool), np.zeros(frames, bool)
    first_occurrence: dict[str, np.ndarray] = {}
    for section, within in sections_of_clip(truth, start_seconds, frames, frame_rate_hz):
        if section.occurrence > 1 and section.name in first_occurrence and within.any():
            repeat |= within
            first |= first_occurrence[section.name]
        elif section.onset_seconds >= start_seconds - 0.5 / frame_rate_hz:
            first_occurrence[section.name] = within
    return {"ornaments": ornaments, "plain": sounding & ~ornaments, "first": first, "repeat": repeat}


def frame_losses(
    backbone: Backbone,
    clips: Sequence[EncodedClip],
    batch_size: int,
    progress: Progress,
    title: str,
    cache: FrozenLayerCache | None = None,
) -> list[np.ndarray]:
    """Each clip's loss by part (codebook or noise level) and frame, float64 [K, T], with its caption, no dropout."""
    losses: list[np.ndarray] = []
    with torch.no_grad():
        for group, batch in batches.held_out_batches(clips, backbone, batch_size, cache):
            rows = backbone.loss(batch).per_frame.double().cpu().numpy()
            losses += [row[:, : clip.targets.shape[1]] for row, clip in zip(rows, group, strict=True)]
            progress.step(title, len(losses), len(clips))
    return losses


def aggregate_by_event(
    clips: Sequence[EncodedClip],
    base: Sequence[np.ndarray],
    adapted: Sequence[np.ndarray],
    truths: Mapping[str, GroundTruth],
    frame_rate_hz: float,
) -> dict[str, dict[str, Any]]:
    """Per recording and group: mean "base_loss" (the base alone), mean "adapted_loss", and the number of "frames".

    `base` and `adapted` are losses by frame, float [K, T] a clip; `truths` are by recording, of which every one must
    have its own. Groups without a frame are left out; recordings that share sound count as one.
    """
    sums: dict[str, dict[str, np.ndarray]] = {}
    for clip, base_losses, adapted_losses in zip(clips, base, adapted, strict=True):
        truth, start_seconds = truths[clip.clip.recording], clip.clip.start_seconds
        base_row, adapted_row = base_losses.mean(axis=0), adapted_losses.mean(axis=0)
        groups = event_groups(truth, start_seconds, base_row.size, frame_rate_hz)
        recording_sums = sums.setdefault(clip.clip.sound_group, {name: np.zeros(3) for name in EVENT_GROUPS})
        for name, frames in groups.items():
            recording_sums[name] += (base_row[frames].sum(), adapted_row[frames].sum(), frames.sum())
    return {
        recording: {
            name: {"base_loss": base_sum / count, "adapted_loss": adapted_sum / count, "frames": int(count)}
            for name, (base_sum, adapted_sum, count) in groups.items()
            if count
        }
        for recording, groups in sums.items()
    }
