"""Automatic checks of candidates: each with the measured and the required value."""

from __future__ import annotations

import contextlib
import math
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from talim import audio
from talim.audio import Audio, levels
from talim.audio.load_librosa import load_librosa
from talim.briefs.brief import Brief
from talim.briefs.usage_rights import corpus_of
from talim.corpus.manifest import Corpus
from talim.errors import TalimError
from talim.evaluation import copy_scores
from talim.evaluation.recognize_mode import recognize_mode
from talim.html.formatting import format_counted
from talim.metrics import audio_matching, copy_detection, rhythm
from talim.metrics.cache import MetricCache
from talim.progress import Progress, counted
from talim.run import Run
from talim.traditions import cycle_fit

LOUDNESS_TOLERANCE_LU = 1.0
MAX_SILENCE_SECONDS = 1.0
MAX_CLIPPED_FRACTION = 1e-4
MAX_SEAM_CLICK, MAX_SEAM_RANK = 1.5, 0.99
MIN_MODE_SECONDS = 20.0  # shorter pieces have too few notes to judge the mode
MAX_MODE_RANK = 3
SEAM_WINDOW_SECONDS = 0.05
SPECTRUM_RANGE_DB = 80.0
OF_THE_WHOLE = ("loudness", "seam")  # checks; the others judge new music alone
ORIGINALITY = "originality"
ORIGINALITY_REQUIREMENT = "no passage more similar to a training clip than 1 in 100 unrelated clips"


def click_ratio(samples: np.ndarray) -> float:
    """The largest second difference across the seam of a loop [T], relative to the 99.9th percentile of those inside.

    The second difference is small for a continuous wave and large for a jump; above 1 the seam stands out.
    """
    across = np.concatenate([samples[-2:], samples[:2]]).astype(np.float64)
    inside = np.abs(np.diff(samples.astype(np.float64), 2))
    typical = float(np.quantile(inside, 0.999)) if inside.size else 0.0
    return float(np.abs(np.diff(across, 2)).max() / max(typical, 1e-6))


def change_rank(samples: np.ndarray, rate_hz: int) -> float:
    """Fraction of the spectral changes inside a loop [T] that are smaller than across its seam; NaN if too short.

    A change is the RMS difference in dB between the band spectra of two adjacent windows of 50 ms.
    """
    size = max(16, round(SEAM_WINDOW_SECONDS * rate_hz))
    count = samples.size // size
    if count < 4:
        return float("nan")
    # The last window must end at the seam, whatever the remainder of the division is.
    windows = np.concatenate([samples[: count * size].reshape(count, size), samples[-size:][None]])
    power = np.abs(np.fft.rfft(windows * np.hanning(size), axis=1)) ** 2
    edges = np.unique(np.geomspace(1, power.shape[1] - 1, 25).astype(int))
    spectra = 10 * np.log10(np.add.reduceat(power[:, : edges[-1] + 1], edges[:-1], axis=1) + 1e-12)
    spectra = np.maximum(spectra, spectra.max() - SPECTRUM_RANGE_DB)
    inside = np.sqrt(np.mean((spectra[:-2] - spectra[1:-1]) ** 2, axis=1))
    seam = np.sqrt(np.mean((spectra[-1] - spectra[0]) ** 2))
    return float((inside < seam).mean())


@dataclass(frozen=True)
class CheckResult:
    """The result of one check; `passed` is None if it was not checked, with the reason in `measured`.

    `part` says what of a piece was judged that goes on from a phrase or varies it, and is empty for any other.
    """

    name: str
    passed: bool | None
    measured: str
    required: str = ""
    part: str = ""


OriginalityCheck = Callable[[Path], CheckResult]


def run_checks(
    path: Path,
    brief: Brief,
    originality: OriginalityCheck | None = None,
    phrase_seconds: float = 0.0,
    parts: tuple[str, str] = ("", ""),
) -> list[dict[str, Any]]:
    """All checks of one candidate's file that the brief asks for, in the order of the page.

    Of a piece that begins with `phrase_seconds` of a phrase, only what comes after is judged, as the phrase was not
    generated; but for loudness and seam, which are of the whole. `parts` names the whole and the new part.
    """
    piece = audio.read(path)
    with _new_part(path, piece, phrase_seconds) as (new_path, new):
        results = [check_length(new, brief), check_loudness(piece, brief)]
        results += [check_clipping(new), check_silence(new)]
        results += [check_loop(piece)] if brief.loop else []
        results += [check_tempo(new, brief.tempo_bpm)] if brief.tempo_bpm else []
        results += [check_mode(new_path, brief)] if brief.mode else []
        results += [check_cycle(new, brief)] if brief.cycle else []
        results += [originality(new_path) if originality else CheckResult(ORIGINALITY, None, "not checked")]
    return [asdict(replace(each, part=parts[0 if each.name in OF_THE_WHOLE else 1])) for each in results]


@contextlib.contextmanager
def _new_part(path: Path, piece: Audio, phrase_seconds: float) -> Iterator[tuple[Path, Audio]]:
    """What comes after the phrase, and a file of it."""
    if not phrase_seconds:
        yield path, piece
        return
    new = piece.cut(phrase_seconds, piece.seconds)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / path.name
        audio.write(file, new, {})
        yield file, new


def check_length(piece: Audio, brief: Brief) -> CheckResult:
    """Length within the brief's tolerance."""
    passed = abs(piece.seconds - brief.seconds) <= brief.length_tolerance_seconds + 1e-3
    required = f"{brief.seconds:g} s, within {brief.length_tolerance_seconds:g} s"
    return CheckResult("length", passed, f"{piece.seconds:.2f} s", required)


def check_loudness(piece: Audio, brief: Brief) -> CheckResult:
    """Integrated loudness (BS.1770) within 1 LU of the target."""
    required = f"{brief.loudness_lufs:g} LUFS, within {LOUDNESS_TOLERANCE_LU:g} LU"
    lufs = audio.loudness_lufs(piece)
    if not math.isfinite(lufs):
        return CheckResult("loudness", False, "silent", required)
    measured = f"{lufs:.1f} LUFS, peak {20 * math.log10(piece.peak):.1f} dB"
    return CheckResult("loudness", abs(lufs - brief.loudness_lufs) <= LOUDNESS_TOLERANCE_LU, measured, required)


def check_clipping(piece: Audio) -> CheckResult:
    """Fraction of clipped samples, see `talim.audio.levels.clipped_fraction`."""
    fraction = levels.clipped_fraction(piece)
    required = f"at most {MAX_CLIPPED_FRACTION:.2%}"
    return CheckResult("clipping", fraction <= MAX_CLIPPED_FRACTION, f"{fraction:.3%} clipped", required)


def check_silence(piece: Audio) -> CheckResult:
    """The longest silence, see `talim.audio.levels.silent_frames`."""
    required = f"at most {MAX_SILENCE_SECONDS:g} s"
    if levels.silent_fraction(piece) == 1:
        return CheckResult("silence", False, "silent throughout", required)
    seconds = levels.longest_silence_seconds(piece)
    return CheckResult("silence", seconds <= MAX_SILENCE_SECONDS, f"{seconds:.1f} s", required)


def check_loop(piece: Audio) -> CheckResult:
    """Whether the end connects to the beginning without a click or an unusual spectral change."""
    required = "no click, no larger spectral change than inside"
    mono = piece.mono().samples[0]
    click, rank = click_ratio(mono), change_rank(mono, piece.rate_hz)
    if math.isnan(rank):
        return CheckResult("seam", None, "not checked: too short", required)
    measured = f"click {click:.1f} of the strongest inside, spectral change above {rank:.0%} of those inside"
    return CheckResult("seam", click <= MAX_SEAM_CLICK and rank <= MAX_SEAM_RANK, measured, required)


def check_tempo(piece: Audio, target_bpm: float) -> CheckResult:
    """Tempo within 8 % of the target or of its half or double."""
    required = f"{target_bpm:g} bpm within 8 %, half or double"
    bpm = rhythm.tempo_bpm(piece.mono().samples[0], piece.rate_hz)
    if not math.isfinite(bpm):
        return CheckResult("tempo", None, "not checked: no onsets", required)
    return CheckResult("tempo", rhythm.same_tempo(bpm, target_bpm), f"{bpm:.0f} bpm", required)


def check_mode(path: Path, brief: Brief) -> CheckResult:
    """Whether the mode is among the three most probable of all modes of the tradition.

    Not judged for briefs under 20 s; `measured` states the rank all the same.
    """
    tradition = brief.load_tradition()
    assert tradition
    assert brief.mode
    mode = tradition.mode(brief.mode)
    required = f"{mode.name} among the first {MAX_MODE_RANK} of {len(tradition.modes)}"
    try:
        ranked = recognize_mode(path, brief.tradition)["modes"]
    except TalimError as error:
        return CheckResult("mode", None, f"not checked: {str(error).removeprefix(f'{path}: ')}", required)
    rank = next(n for n, row in enumerate(ranked, start=1) if row["slug"] == mode.slug)
    first, own = ranked[0], ranked[rank - 1]
    measured = f"rank {rank} with {own['score']:.0%}; first {first['name']} with {first['score']:.0%}"
    if brief.seconds < MIN_MODE_SECONDS:
        return CheckResult("mode", None, f"not judged in {brief.seconds:g} s: {measured}", required)
    return CheckResult("mode", rank <= MAX_MODE_RANK, measured, required)


def check_cycle(piece: Audio, brief: Brief) -> CheckResult:
    """Whether accents match the cycle's strokes better than chance; needs two whole cycles."""
    librosa = load_librosa("librosa.beat")

    tradition = brief.load_tradition()
    assert tradition is not None
    assert brief.cycle is not None
    cycle = tradition.cycle(brief.cycle)
    required = f"accents as in {cycle.name}"
    if not cycle.strokes:
        return CheckResult("cycle", None, f"not checked: {cycle.name} has no strokes on record", required)
    mono = piece.mono().samples[0]
    strength = librosa.onset.onset_strength(y=mono, sr=piece.rate_hz)
    start_bpm = brief.tempo_bpm or 120.0
    _, beats = librosa.beat.beat_track(onset_envelope=strength, sr=piece.rate_hz, start_bpm=start_bpm, units="time")
    frames = librosa.onset.onset_detect(onset_envelope=strength, sr=piece.rate_hz)
    onsets = librosa.frames_to_time(frames, sr=piece.rate_hz)
    if len(beats) < 2 * cycle.beats or not len(onsets):
        measured = f"not checked: {format_counted(len(beats), 'beat')} detected, two cycles have {2 * cycle.beats:g}"
        return CheckResult("cycle", None, measured, required)
    score = cycle_fit.cycle_score(onsets, strength[frames], cycle, beats)
    if math.isnan(score.fit):
        return CheckResult("cycle", None, "not checked: fewer than two whole cycles detected", required)
    measured = f"correlation {score.correlation:.2f}, by chance {score.chance:.2f}"
    return CheckResult("cycle", score.fit > 0, measured, required)


def originality_check(run: Run, seconds: float, progress: Progress | None = None) -> OriginalityCheck:
    """A check of candidates of `seconds` against the training clips of `run`, by the rule of its evaluation.

    Fingerprints of the clips are computed here once.
    """
    from talim.evaluation.music_scores import choose_real_clips, clips_beside

    folder, cache, progress = corpus_of(run), MetricCache(None), progress or Progress()
    if folder is None:
        return _unchecked("the corpus of this run is missing")
    try:
        corpus = Corpus.load(folder)
        sources = audio_matching.build_reference_audio(
            (
                copy_scores.fingerprint_of(corpus.read_clip(clip), cache)
                for clip in counted(corpus.train, len(corpus.train), progress, copy_scores.READING)
            ),
            progress=progress,
        )
        held_out = choose_real_clips(corpus.held_out, seconds)
        alike = [
            copy_scores.similarity_of(corpus, clip, seconds, sources, cache)
            for clip in counted(held_out, len(held_out), progress, "looking for copies in clips held out")
        ]
        known, others = [each for each in alike if each is not None], clips_beside(corpus, seconds)
        null = copy_scores.null_similarities(corpus, sources, known, others, seconds, cache, progress)
    except TalimError as error:
        return _unchecked(str(error))
    if null.size < copy_scores.MIN_NULL_CLIPS:
        return _unchecked(copy_scores.null_shortfall(corpus, null.size, seconds, "seconds:"))

    def check(path: Path) -> CheckResult:
        piece = audio.read(path)
        match = copy_detection.find_audio_copy(copy_scores.fingerprint_of(piece, cache), sources, null)
        if match is None:
            reasons = copy_scores.reasons_not_checked([{"seconds": piece.seconds}])
            return _result(None, f"not checked: {reasons[0]}")
        clip = corpus.train[match.source]
        source = f"{clip.recording} at {clip.start_seconds + match.source_seconds[0]:.1f} s"
        measured = f"at {match.clip_seconds[0]:.1f} s most similar to {source} (p = {match.p_value:.2g})"
        return _result(match.p_value > copy_detection.FALSE_POSITIVE_RATE, measured)

    return check


def _unchecked(reason: str) -> OriginalityCheck:
    return lambda path: _result(None, f"not checked: {reason}")


def _result(passed: bool | None, measured: str) -> CheckResult:
    return CheckResult(ORIGINALITY, passed, measured, ORIGINALITY_REQUIREMENT)
