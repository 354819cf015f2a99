"""What an adapter gains on music that returns, from its first occurrence in the same clip.

The loss on a return is compared with the loss on the same frames where another recording's music is in the place of the
first occurrence. That alone would also reward a model that keeps to one piece's sound, so the same is measured on a
performance of the piece in which nothing returns (`PerformanceRequest.returns`): the same places in the clip, after the
same music, without anything that was heard before. What remains is what hearing it before brings.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from talim.evaluation.loss_by_event import sections_of_clip
from talim.html.formatting import format_counted

if TYPE_CHECKING:
    from talim.synthesis.ground_truth import GroundTruth
    from talim.training.crops import EncodedClip

STRUCTURE_SECONDS = 20.0  # of clips and training crops: most returns come later than in a shorter one
LENGTH_TOLERANCE = 0.05  # seconds: frames do not divide every length
CUT_SECONDS = 1.0  # how near to replaced music a loss is left out, where a cut is heard


@dataclass(frozen=True)
class ReturningClip:
    """A clip in which something returns, and the same with another recording's music where that first occurs.

    `first` are the frames that are replaced, `returned` those of the first returns that are far enough from a cut;
    bool [T].
    """

    present: EncodedClip
    absent: EncodedClip
    first: np.ndarray
    returned: np.ndarray

    def performed(self, targets: np.ndarray) -> ReturningClip:
        """The same places in another performance of the piece, with the same music in the first place."""
        altered = targets.copy()
        altered[:, self.first] = self.absent.targets[:, self.first]
        return replace(
            self, present=replace(self.present, targets=targets), absent=replace(self.absent, targets=altered)
        )


def first_returns(
    truth: GroundTruth, start_seconds: float, frames: int, frame_rate_hz: float
) -> tuple[np.ndarray, np.ndarray]:
    """Frames of what a clip plays for the first time and of its first return, bool [frames] each.

    Later returns are none of both: they could be copied from the first return. So is what the clip does not hold from
    its beginning.
    """
    first, returned = np.zeros(frames, bool), np.zeros(frames, bool)
    earlier: dict[str, np.ndarray] = {}
    for section, within in sections_of_clip(truth, start_seconds, frames, frame_rate_hz):
        if not within.any():
            continue
        if section.occurrence == 1 or section.name not in earlier:
            whole = section.onset_seconds >= start_seconds - 0.5 / frame_rate_hz
            earlier[section.name] = within if whole else np.zeros(frames, bool)
        elif earlier[section.name].any():
            first |= earlier[section.name]
            returned |= within
            earlier[section.name] = np.zeros(frames, bool)  # one return of each
    return first, returned


def returning_clips(
    clips: Sequence[EncodedClip], truths: Mapping[str, GroundTruth], frame_rate_hz: float, crop_seconds: float | None
) -> tuple[list[ReturningClip], str]:
    """The clips of 20 s and more in which something returns, and why others have no value ("" where all have).

    The music in the place of a first occurrence is of the same place in the next clip of another recording that is
    long enough. `crop_seconds` are those of training crops (None: whole clips): after shorter ones than 20 s no clip
    has a value.
    """
    least = STRUCTURE_SECONDS - LENGTH_TOLERANCE
    if crop_seconds is not None and crop_seconds < least:
        return [], (
            f"training crops of {crop_seconds:g} s hold few returns with their first occurrence; "
            f"training.crop_seconds must be {STRUCTURE_SECONDS:g} or more"
        )
    found, short = [], 0
    for number, clip in enumerate(clips):
        frames = clip.targets.shape[1]
        if frames / frame_rate_hz < least:
            short += 1
            continue
        truth = truths[clip.clip.recording]
        first, returned = first_returns(truth, clip.clip.start_seconds, frames, frame_rate_hz)
        near = np.convolve(first, np.ones(2 * round(CUT_SECONDS * frame_rate_hz) + 1), mode="same") > 0.5
        returned &= ~near
        if not returned.any():
            continue
        replaced = np.flatnonzero(first)
        others = [*clips[number + 1 :], *clips[:number]]
        donors = (
            other
            for other in others
            if other.clip.sound_group != clip.clip.sound_group and other.targets.shape[1] > replaced[-1]
        )
        if donor := next(donors, None):
            targets = clip.targets.copy()
            targets[:, replaced] = donor.targets[:, replaced]
            found.append(ReturningClip(clip, replace(clip, targets=targets), first, returned))
    if short:
        counted = f"{short} of {format_counted(len(clips), 'held-out clip')}"
        return found, f"{counted} are shorter than {STRUCTURE_SECONDS:g} s and have no value"
    return found, "" if found else "nothing returns in the held-out clips, or no other recording is long enough"


def gains_on_returns(
    returning: Sequence[ReturningClip],
    base: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
    adapted: tuple[Sequence[np.ndarray], Sequence[np.ndarray]],
) -> dict[str, float]:
    """By recording, how much more with the adapter than by the base the loss on returns falls for what came before.

    `base` and `adapted` are losses by frame, float [K, T] a clip, of the clips as they are and with their first
    occurrences replaced. Both are of the same frames, so that neither their place in the clip nor their material
    matters. Recordings that share sound count as one.
    """
    sums: dict[str, np.ndarray] = {}
    for number, clip in enumerate(returning):
        own, others = (
            (absent[number] - present[number]).mean(axis=0)[clip.returned] for present, absent in (base, adapted)
        )
        total = sums.setdefault(clip.present.clip.sound_group, np.zeros(2))
        total += (float((others - own).sum()), clip.returned.sum())
    return {recording: float(total / count) for recording, (total, count) in sums.items()}
