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
from talim.briefs.brief import Brief
from talim.briefs.usage_rights import corpus_of
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation.recognize_mode import recognize_modes
from talim.metrics import audio_matching, copy_detection, rhythm
from talim.run import Run
from talim.traditions import cycle_fit

WINDOW_SECONDS = 0.05

_FLOOR_DB = -80.0


def click_ratio(samples: np.ndarray) -> float:
    """The bend of the wave at the seam over the strongest of 999 in 1000 bends inside; above 1 it stands out.

    `samples` [T]. A bend is the second difference, which a steady wave keeps small and a jump does not.
    """
    around = np.concatenate([samples[-2:], samples[:2]]).astype(np.float64)
    inside = np.abs(np.diff(samples.astype(np.float64), 2))
    usual = float(np.quantile(inside, 0.999)) if inside.size else 0.0
    return float(np.abs(np.diff(around, 2)).max() / max(usual, 1e-6))


def change_rank(samples: np.ndarray, rate_hz: int) -> float:
    """The share of all changes inside that are smaller than the one over the seam; in [0, 1], NaN if too short.

    A change is the root mean square difference in dB between the spectra of two neighbouring 50 ms of `samples` [T].
    """
    size = max(16, round(WINDOW_SECONDS * rate_hz))
    count = samples.size // size
    if count < 4:
        return float("nan")
    # The last window ends at the seam: so that no rest of the division is left there, count from both ends.
    forward = samples[: count * size].reshape(count, size)
    last = samples[-size:][None]
    spectra = _spectra_db(np.concatenate([forward, last]))
    inside = _distance(spectra[:-2], spectra[1:-1])
    seam = _distance(spectra[-1:], spectra[:1])[0]
    return float((inside < seam).mean())


def _spectra_db(windows: np.ndarray) -> np.ndarray:
    power = np.abs(np.fft.rfft(windows * np.hanning(windows.shape[1]), axis=1)) ** 2
    edges = np.unique(np.geomspace(1, power.shape[1] - 1, 25).astype(int))
    bands = np.add.reduceat(power[:, : edges[-1] + 1], edges[:-1], axis=1) + 1e-12
    db = 10 * np.log10(bands)
    return np.maximum(db, db.max() + _FLOOR_DB)


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    return np.sqrt(np.mean((one - other) ** 2, axis=1))


LOUDNESS_WITHIN_LU = 1.0

SILENCE_DB = -45.0  # under the loudest 50 ms

LONGEST_SILENCE_SECONDS = 1.0

CLIPPED_SHARE = 1e-4

MAX_SEAM_RANK = 0.99

MODE_SECONDS = 20.0  # in less, too few notes tell a mode apart (docs/usefulness.md)

MODES_SHOWN = 3  # among a tradition's modes, the one that is wanted must be one of so many

_WINDOW_SECONDS = 0.05


@dataclass(frozen=True)
class CheckResult:
    """One check: passed, failed, or (None) not checked, with the reason in `found`."""

    name: str
    passed: bool | None
    found: str
    wanted: str = ""


OriginalityCheck = Callable[[Path], CheckResult]


def run_checks(path: Path, brief: Brief, originality: OriginalityCheck | None = None) -> list[dict[str, Any]]:
    """All checks of one candidate's file, in the order of the page. What cannot be measured is not checked."""
    sound = audio.read(path)
    found = [
        check_length(sound, brief),
        check_loudness(sound, brief),
        check_clipping(sound),
        check_silence(sound),
    ]
    found += [check_loop(sound)] if brief.loop else []
    found += [check_tempo(sound, brief.tempo_bpm)] if brief.tempo_bpm else []
    found += [check_mode(path, brief)] if brief.mode else []
    found += [check_cycle(sound, brief)] if brief.cycle else []
    if originality is None:
        found.append(CheckResult("originality", None, "not checked"))
    else:
        found.append(originality(path))
    return [asdict(check) for check in found]


def check_length(sound: Audio, brief: Brief) -> CheckResult:
    """Whether the piece is as long as it should be."""
    off = abs(sound.seconds - brief.seconds)
    wanted = f"{brief.seconds:g} s, within {brief.length_tolerance_seconds:g}"
    return CheckResult(
        "length", off <= brief.length_tolerance_seconds + 1e-3, f"{sound.seconds:.2f} s", wanted
    )


def check_loudness(sound: Audio, brief: Brief) -> CheckResult:
    """Integrated loudness (BS.1770) within a loudness unit of the target."""
    wanted = f"{brief.loudness_lufs:g} LUFS, within {LOUDNESS_WITHIN_LU:g}"
    found = audio.loudness_lufs(sound)
    if not math.isfinite(found):
        return CheckResult("loudness", False, "silent", wanted)
    near = abs(found - brief.loudness_lufs) <= LOUDNESS_WITHIN_LU
    return CheckResult(
        "loudness", near, f"{found:.1f} LUFS, peak {20 * math.log10(sound.peak):.1f} dB", wanted
    )


def check_clipping(sound: Audio) -> CheckResult:
    """Share of samples in flat tops: three or more equal samples in a row, near the piece's own peak."""
    flat = 0
    for row in np.abs(sound.samples):
        high = (row >= 0.99 * sound.peak) & (row > 0)
        same = high[:-2] & (row[1:-1] == row[:-2]) & (row[2:] == row[:-2])
        flat += int(same.sum())
    share = flat / max(1, sound.samples.size)
    return CheckResult(
        "clipping", share <= CLIPPED_SHARE, f"{share:.3%} flat tops", f"at most {CLIPPED_SHARE:.2%}"
    )


def check_silence(sound: Audio) -> CheckResult:
    """The longest stretch more than 45 dB under the loudest 50 ms."""
    wanted = f"at most {LONGEST_SILENCE_SECONDS:g} s"
    size = max(1, round(_WINDOW_SECONDS * sound.rate_hz))
    mono = sound.mono().samples[0]
    count = max(1, mono.size // size)
    power = np.array([float(np.mean(part.astype(np.float64) ** 2)) for part in np.array_split(mono, count)])
    if power.max() <= 1e-10:
        return CheckResult("silence", False, "silent from end to end", wanted)
    quiet = power < power.max() * 10 ** (SILENCE_DB / 10)
    longest = run_length = 0
    for still in quiet:
        run_length = run_length + 1 if still else 0
        longest = max(longest, run_length)
    seconds = longest * sound.seconds / count
    return CheckResult("silence", seconds <= LONGEST_SILENCE_SECONDS, f"{seconds:.1f} s at most", wanted)


def check_loop(sound: Audio) -> CheckResult:
    """Whether the end leads into the beginning without a click and without an unusual change of sound."""
    wanted = "no click, and no greater change than inside"
    mono = sound.mono().samples[0]
    click, rank = click_ratio(mono), change_rank(mono, sound.rate_hz)
    if math.isnan(rank):
        return CheckResult("seam", None, "not checked: too short", wanted)
    found = f"click {click:.1f} of the strongest inside, change greater than {rank:.0%} of those inside"
    return CheckResult("seam", click <= 1.5 and rank <= MAX_SEAM_RANK, found, wanted)


def check_tempo(sound: Audio, wanted_bpm: float) -> CheckResult:
    """Tempo within 8 %, half and double forgiven, as is usual."""
    wanted = f"{wanted_bpm:g} beats per minute, within 8 %, half or double"
    found = rhythm.tempo_bpm(sound.mono().samples[0], sound.rate_hz)
    if not math.isfinite(found):
        return CheckResult("tempo", None, "not checked: no onset is heard", wanted)
    return CheckResult("tempo", rhythm.same_tempo(found, wanted_bpm), f"{found:.0f} beats per minute", wanted)


def check_mode(path: Path, brief: Brief) -> CheckResult:
    """Whether the mode is among the first three that the melody is taken for, of all modes of the tradition.

    In pieces under twenty seconds the place is told and not judged.
    """
    known = brief.load_tradition()
    assert known is not None
    assert brief.mode is not None
    slug = known.mode(brief.mode).slug
    wanted = f"{brief.mode} among the first {MODES_SHOWN} of {len(known.modes)}"
    try:
        ranked = recognize_modes(path, brief.tradition)["modes"]
    except TalimError as error:
        return CheckResult("mode", None, f"not checked: {str(error).removeprefix(f'{path}: ')}", wanted)
    place = next(n for n, row in enumerate(ranked, start=1) if row["slug"] == slug)
    first = ranked[0]
    found = f"place {place} with {ranked[place - 1]['score']:.0%}; first is {first['name']} with {first['score']:.0%}"
    if brief.seconds < MODE_SECONDS:
        return CheckResult("mode", None, f"not judged in {brief.seconds:g} s: {found}", wanted)
    return CheckResult("mode", place <= MODES_SHOWN, found, wanted)


def check_cycle(sound: Audio, brief: Brief) -> CheckResult:
    """Whether accents fall as the cycle's strokes do, better than by luck; needs two whole cycles."""
    import librosa

    known = brief.load_tradition()
    assert known is not None
    assert brief.cycle is not None
    wanted_cycle = known.cycle(brief.cycle)
    wanted = f"accents as in {wanted_cycle.name}"
    if not wanted_cycle.strokes:
        return CheckResult("cycle", None, f"not checked: no strokes of {wanted_cycle.name} are known", wanted)
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
        return CheckResult("cycle", None, told, wanted)
    score = cycle_fit.cycle_score(onsets, strength[frames], wanted_cycle, beats)
    if math.isnan(score.fit):
        return CheckResult("cycle", None, "not checked: fewer than two whole cycles are heard", wanted)
    found = f"correlation {score.correlation:.2f}, by luck {score.chance:.2f}"
    return CheckResult("cycle", score.fit > 0, found, wanted)


NAME = "originality"

REQUIREMENT = "nothing that fewer than 1 in 100 strangers come as near to"

RATE_HZ = 16000  # that the prints are made at


def originality_check(run: Run) -> OriginalityCheck:
    """The check of one candidate's file against the training clips of `run`, whose prints are made here, once."""
    place = corpus_of(run)
    if place is None:
        return _unchecked("the corpus of this run is not there")
    try:
        corpus = Corpus.load(place)
        recordings = [clip.recording for clip in corpus.train]
        if len(set(recordings)) < 2:
            return _unchecked("one recording alone does not tell what strangers share")
        sources = audio_matching.build_reference_audio(
            [_print(corpus.read_clip(clip)) for clip in corpus.train]
        )
    except TalimError as error:
        return _unchecked(str(error))
    strangers = copy_detection.audio_null(sources, recordings)

    def check(path: Path) -> CheckResult:
        found = copy_detection.find_audio_copy(_print(audio.read(path)), sources, strangers)
        if found is None:
            return CheckResult(NAME, None, "not checked: too short to hold a passage", REQUIREMENT)
        clip = corpus.train[found.source]
        at, where = found.clip_seconds[0], clip.start_seconds + found.source_seconds[0]
        told = f"nearest: {clip.recording} at {where:.1f} s, from {at:.1f} s on (p = {found.p_value:.2g})"
        return CheckResult(NAME, found.p_value > copy_detection.FALSE_POSITIVE_RATE, told, REQUIREMENT)

    return check


def _print(sound: Audio) -> np.ndarray:
    return audio_matching.audio_fingerprint(sound.mono().resample(RATE_HZ).samples[0])


def _unchecked(reason: str) -> OriginalityCheck:
    return lambda path: CheckResult(NAME, None, f"not checked: {reason}", REQUIREMENT)
