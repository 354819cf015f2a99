"""What an adapter gains on ornaments: on the frames where one is played, against the same notes performed plain.

The loss on ornaments minus that on plain notes says more about the base than about the adapter: other notes, at other
places. Here both are of one piece, performed with and without its ornaments (`PerformanceRequest.ornaments`): the same
notes at the same times, by the same instruments. Only the first codebook counts, which holds the pitch; the others hold
the residue of its sound.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from talim.evaluation.loss_by_event import event_groups

if TYPE_CHECKING:
    from talim.backbones.protocol import Backbone
    from talim.synthesis.ground_truth import GroundTruth
    from talim.training.crops import EncodedClip


def ornament_gains(
    clips: Sequence[EncodedClip],
    ornamented: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    plain: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    truths: Mapping[str, GroundTruth],
    backbone: Backbone,
) -> dict[str, float]:
    """By recording, how much more the adapter lowers the loss on ornaments than on the same frames performed plain.

    `ornamented` and `plain` are losses by frame, float [K, T] a clip, of the base and with the adapter, on the two
    performances. `truths` are those of the ornamented one. Recordings without an ornament are left out; recordings
    that share sound count as one. Of a base without codebooks all parts count: noise levels are no order of detail.
    """
    first = backbone.channels if backbone.target_kind == "tokens" else None  # in stereo each channel has its own
    sums: dict[str, np.ndarray] = {}
    for number, clip in enumerate(clips):
        truth, frames = truths[clip.clip.recording], clip.targets.shape[1]
        played = event_groups(truth, clip.clip.start_seconds, frames, backbone.frame_rate_hz)["ornaments"]
        on_ornaments, on_notes = (
            (base[number] - adapted[number])[:first].mean(axis=0)[played].sum() for base, adapted in (ornamented, plain)
        )
        total = sums.setdefault(clip.clip.sound_group, np.zeros(2))
        total += (float(on_ornaments - on_notes), played.sum())
    return {recording: float(total / count) for recording, (total, count) in sums.items() if count}
