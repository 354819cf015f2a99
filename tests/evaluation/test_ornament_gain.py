"""The gain on ornaments against the same notes performed plain, with hand-computed values."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from talim.beats_chords import BeatsAndChords
from talim.corpus.manifest import Clip
from talim.evaluation.ornament_gain import ornament_gains
from talim.synthesis.ground_truth import GroundTruth, PlayedOrnament, Voice
from talim.training.crops import EncodedClip

MONO, STEREO, LATENTS = (
    SimpleNamespace(target_kind=kind, channels=channels, frame_rate_hz=10.0)
    for kind, channels in (("tokens", 1), ("tokens", 2), ("latents", 1))
)
PLAYED = slice(10, 20)  # frames of the ornament, 1 to 2 s


def truth_of(ornaments: tuple[PlayedOrnament, ...]) -> GroundTruth:
    voice = Voice("flute", "wind", np.zeros(400, np.float32), (), ornaments)
    nothing = np.empty(0)
    return GroundTruth("hindustani", "yaman", None, 200.0, None, None, (voice,), (), nothing, nothing, ())


TRUTHS = {"a": truth_of((PlayedOrnament("gamak", "shake", 1.0, 1.0, 100.0),)), "b": truth_of(())}


def clip_of(recording: str) -> EncodedClip:
    clip = Clip(
        id=recording, file="x", recording=recording, performer="p", start_seconds=0.0, seconds=4.0, caption="",
        split="held_out", audio_hash="0", source_file="x", source_hash="0",
    )  # fmt: skip
    return EncodedClip(clip, np.zeros((4, 40), np.int16), np.zeros((1, 4), np.float32), BeatsAndChords())


def losses(on_ornament: tuple[float, ...], elsewhere: float = 5.0) -> list[np.ndarray]:
    """Losses [4, 40] of one clip: of each codebook on the ornament's frames, and of all on the others."""
    rows = np.full((4, 40), float(elsewhere))
    rows[:, PLAYED] = np.array(on_ornament)[:, None]
    return [rows]


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (MONO, (6 - 3) - (5 - 4.5)),
        (STEREO, ((6 - 3) - (5 - 4.5) + (6 - 2) - (5 - 5)) / 2),  # the first codebook of both channels
        (LATENTS, ((6 - 3) - (5 - 4.5) + (6 - 2) - (5 - 5) + 0 + 0) / 4),
    ],
)
def test_the_gain_is_that_on_the_ornament_beyond_that_on_the_same_frames_performed_plain(
    backbone: Any, expected: float
) -> None:
    base, adapted = losses((6, 6, 7, 7), elsewhere=9), losses((3, 2, 7, 7), elsewhere=1)
    plain_base, plain_adapted = losses((5, 5, 7, 7), elsewhere=8), losses((4.5, 5, 7, 7), elsewhere=2)
    found = ornament_gains([clip_of("a")], (base, adapted), (plain_base, plain_adapted), TRUTHS, backbone)
    assert found == pytest.approx({"a": expected})


def test_an_adapter_that_lowers_all_losses_alike_gains_nothing_on_ornaments() -> None:
    base, plain = losses((6, 6, 7, 7)), losses((4, 4, 7, 7))  # ornaments are harder for the base
    lower = [base[0] - 1.2], [plain[0] - 1.2]
    found = ornament_gains([clip_of("a")], (base, lower[0]), (plain, lower[1]), TRUTHS, MONO)
    assert found == pytest.approx({"a": 0.0})


def test_a_recording_without_ornaments_has_no_value() -> None:
    both = losses((6, 6, 7, 7)) * 2
    found = ornament_gains([clip_of("b"), clip_of("a")], (both, both), (both, both), TRUTHS, MONO)
    assert found == {"a": 0.0}
