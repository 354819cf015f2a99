"""What a machine can say of a candidate before anybody hears it: each check with what was found and wanted."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.audio import Audio
from talim.errors import TalimError
from talim.listening.brief import seam
from talim.listening.brief.schema import Brief
from talim.metrics import rhythm
from talim.stages.modes import modes
from talim.traditions import theory

LOUDNESS_WITHIN_LU = 1.0
SILENCE_DB = -45.0  # under the loudest 50 ms
LONGEST_SILENCE_SECONDS = 1.0
CLIPPED_SHARE = 1e-4
SEAM_RANK = 0.99
MODE_SECONDS = 20.0  # in less, too few notes tell a mode apart (docs/usefulness.md)
MODES_SHOWN = 3  # among a tradition's modes, the one that is wanted must be one of so many
_WINDOW_SECONDS = 0.05


@dataclass(frozen=True)
class Check:
    """One check: passed, failed, or (None) not checked, with the reason in `found`."""

    name: str
    passed: bool | None
    found: str
    wanted: str = ""


Originality = Callable[[Path], Check]


def run(path: Path, brief: Brief, originality: Originality | None = None) -> list[dict[str, Any]]:
    """All checks of one candidate's file, in the order of the page. What cannot be measured is not checked."""
    sound = audio.read(path)
    found = [length(sound, brief), loudness(sound, brief), clipping(sound), silence(sound)]
    found += [loop(sound)] if brief.loop else []
    found += [tempo(sound, brief.tempo_bpm)] if brief.tempo_bpm else []
    found += [mode(path, brief)] if brief.mode else []
    found += [cycle(sound, brief)] if brief.cycle else []
    if originality is None:
        found.append(Check("originality", None, "not checked"))
    else:
        found.append(originality(path))
    return [asdict(check) for check in found]


def length(sound: Audio, brief: Brief) -> Check:
    """Whether the piece is as long as it should be."""
    off = abs(sound.seconds - brief.seconds)
    wanted = f"{brief.seconds:g} s, within {brief.length_tolerance_seconds:g}"
    return Check("length", off <= brief.length_tolerance_seconds + 1e-3, f"{sound.seconds:.2f} s", wanted)


def loudness(sound: Audio, brief: Brief) -> Check:
    """Integrated loudness (BS.1770) within a loudness unit of the target."""
    wanted = f"{brief.loudness_lufs:g} LUFS, within {LOUDNESS_WITHIN_LU:g}"
    found = audio.loudness_lufs(sound)
    if not math.isfinite(found):
        return Check("loudness", False, "silent", wanted)
    near = abs(found - brief.loudness_lufs) <= LOUDNESS_WITHIN_LU
    return Check("loudness", near, f"{found:.1f} LUFS, peak {20 * math.log10(sound.peak):.1f} dB", wanted)


def clipping(sound: Audio) -> Check:
    """Share of samples in flat tops: three or more equal samples in a row, near the piece's own peak."""
    flat = 0
    for row in np.abs(sound.samples):
        high = (row >= 0.99 * sound.peak) & (row > 0)
        same = high[:-2] & (row[1:-1] == row[:-2]) & (row[2:] == row[:-2])
        flat += int(same.sum())
    share = flat / max(1, sound.samples.size)
    return Check("clipping", share <= CLIPPED_SHARE, f"{share:.3%} flat tops", f"at most {CLIPPED_SHARE:.2%}")


def silence(sound: Audio) -> Check:
    """The longest stretch more than 45 dB under the loudest 50 ms."""
    wanted = f"at most {LONGEST_SILENCE_SECONDS:g} s"
    size = max(1, round(_WINDOW_SECONDS * sound.rate_hz))
    mono = sound.mono().samples[0]
    count = max(1, mono.size // size)
    power = np.array([float(np.mean(part.astype(np.float64) ** 2)) for part in np.array_split(mono, count)])
    if power.max() <= 1e-10:
        return Check("silence", False, "silent from end to end", wanted)
    quiet = power < power.max() * 10 ** (SILENCE_DB / 10)
    longest = run_length = 0
    for still in quiet:
        run_length = run_length + 1 if still else 0
        longest = max(longest, run_length)
    seconds = longest * sound.seconds / count
    return Check("silence", seconds <= LONGEST_SILENCE_SECONDS, f"{seconds:.1f} s at most", wanted)


def loop(sound: Audio) -> Check:
    """Whether the end leads into the beginning without a click and without an unusual change of sound."""
    wanted = "no click, and no greater change than inside"
    mono = sound.mono().samples[0]
    click, rank = seam.click_ratio(mono), seam.change_rank(mono, sound.rate_hz)
    if math.isnan(rank):
        return Check("seam", None, "not checked: too short", wanted)
    found = f"click {click:.1f} of the strongest inside, change greater than {rank:.0%} of those inside"
    return Check("seam", click <= 1.5 and rank <= SEAM_RANK, found, wanted)


def tempo(sound: Audio, wanted_bpm: float) -> Check:
    """Tempo within 8 %, half and double forgiven, as is usual."""
    wanted = f"{wanted_bpm:g} beats per minute, within 8 %, half or double"
    found = rhythm.tempo_bpm(sound.mono().samples[0], sound.rate_hz)
    if not math.isfinite(found):
        return Check("tempo", None, "not checked: no onset is heard", wanted)
    return Check("tempo", rhythm.same_tempo(found, wanted_bpm), f"{found:.0f} beats per minute", wanted)


def mode(path: Path, brief: Brief) -> Check:
    """Whether the mode is among the first three that the melody is taken for, of all modes of the tradition.

    In pieces under twenty seconds the place is told and not judged.
    """
    known = brief.known_tradition()
    assert known is not None
    assert brief.mode is not None
    slug = known.mode(brief.mode).slug
    wanted = f"{brief.mode} among the first {MODES_SHOWN} of {len(known.modes)}"
    try:
        ranked = modes(path, brief.tradition)["modes"]
    except TalimError as error:
        return Check("mode", None, f"not checked: {str(error).removeprefix(f'{path}: ')}", wanted)
    place = next(n for n, row in enumerate(ranked, start=1) if row["slug"] == slug)
    first = ranked[0]
    found = f"place {place} with {ranked[place - 1]['score']:.0%}; first is {first['name']} with {first['score']:.0%}"
    if brief.seconds < MODE_SECONDS:
        return Check("mode", None, f"not judged in {brief.seconds:g} s: {found}", wanted)
    return Check("mode", place <= MODES_SHOWN, found, wanted)


def cycle(sound: Audio, brief: Brief) -> Check:
    """Whether accents fall as the cycle's strokes do, better than by luck; needs two whole cycles."""
    import librosa

    known = brief.known_tradition()
    assert known is not None
    assert brief.cycle is not None
    wanted_cycle = known.cycle(brief.cycle)
    wanted = f"accents as in {wanted_cycle.name}"
    if not wanted_cycle.strokes:
        return Check("cycle", None, f"not checked: no strokes of {wanted_cycle.name} are known", wanted)
    mono = sound.mono().samples[0]
    strength = librosa.onset.onset_strength(y=mono, sr=sound.rate_hz)
    start = brief.tempo_bpm or 120.0
    _, beats = librosa.beat.beat_track(
        onset_envelope=strength, sr=sound.rate_hz, start_bpm=start, units="time"
    )
    frames = librosa.onset.onset_detect(onset_envelope=strength, sr=sound.rate_hz)
    onsets = librosa.frames_to_time(frames, sr=sound.rate_hz)
    if len(beats) < 2 * wanted_cycle.beats or not len(onsets):
        told = f"not checked: {len(beats)} beats are heard, two cycles have {2 * wanted_cycle.beats:g}"
        return Check("cycle", None, told, wanted)
    score = theory.cycle_score(onsets, strength[frames], wanted_cycle, beats)
    if math.isnan(score.fit):
        return Check("cycle", None, "not checked: fewer than two whole cycles are heard", wanted)
    found = f"correlation {score.correlation:.2f}, by luck {score.chance:.2f}"
    return Check("cycle", score.fit > 0, found, wanted)
