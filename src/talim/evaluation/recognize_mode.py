"""Recognition of the raga or makam of one recording, from its audio or from a given pitch track.

A pitch track is an .npz with `cents` [frames] (NaN where unvoiced) and `hop_s`; its cents are measured from its
`tonic_hz`, or from A4 = 440 Hz where it has none.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from talim.audio.read import read_mono_blocks
from talim.corpus.labels import note_name
from talim.corpus.metadata import SUGGESTION_OR
from talim.errors import TalimError, UsageError
from talim.metrics import pitch
from talim.path_suggestions import did_you_mean
from talim.progress import Progress
from talim.traditions import mode_model, mode_recognition, note_transcription
from talim.traditions.fitted_modes import FittedModes
from talim.traditions.mode_recognition import DECISIVE_RATIO
from talim.traditions.name_matching import normalize_name, unknown_name_error
from talim.traditions.schema import Mode
from talim.traditions.tradition import Tradition, load, load_all_builtin

CONCERT_A_HZ = 440.0
TRACKING_RATE_HZ = 16_000
MAX_MODES_SHOWN = 5
LIKELY = 0.5  # of a mode that is called the most likely; more of them are right (docs/reports/mode-recognition.md)
OTHER_TONIC_CENTS = 50.0  # from a given tonic, in any octave: an estimate further off is another one
FEW_SECONDS = 20.0  # of steady notes: with less, the mode is mostly unsure
NO_MELODY = "there is no melody to recognise a mode from"


@dataclass(frozen=True)
class PitchTrackInput:
    """A melody in Hz, NaN where unvoiced, one value each `hop_seconds`, and its tonic if the file has one."""

    hz: np.ndarray
    hop_seconds: float
    tonic_hz: float | None = None


def recognize_mode(
    file: Path,
    tradition: str | None = None,
    tonic_hz: float | None = None,
    progress: Progress | None = None,
    fitted: Sequence[FittedModes] = (),
) -> dict[str, Any]:
    """Rank all modes of one tradition (a name or a folder), or of every built-in one, for one recording.

    `fitted` are counts of labelled recordings that add to the traditions' facts (`fit_modes.fit_corpus`).
    Returns {"tonic_hz", "note_seconds": seconds of steady notes, which the probabilities rest on, "modes": [{"name",
    "slug", "score"}, ...]}, best first; scores are probabilities that sum to 1. Without `tradition` each entry carries
    its "tradition" too. Where the recording does not tell the best mode from others of nearly the same notes, "alike"
    holds them and the best, the fewest notes first, each with "listen_for": its notes and what else is known of it.
    A tonic that neither the caller nor the file gives is estimated. `tonic_hz` is believed, that of a file is doubted
    as annotations are (`mode_recognition.TONIC_ERROR_RATE`); where the estimate is another pitch class than either,
    "suggested" is what it gives: {"tonic_hz", "note", the best mode's "name", "slug", "score", and its "alike"}.
    TalimError, in one line, for files without a melody and for unknown traditions.
    """
    if tonic_hz is not None and not (math.isfinite(tonic_hz) and tonic_hz > 0):
        raise UsageError(f"--tonic must be a frequency above 0 Hz, not {tonic_hz:g}")
    traditions = [resolve_tradition(tradition)] if tradition else list(load_all_builtin())
    for each in fitted:
        check_fits(each, traditions)
    melody = read_melody(file, progress)
    given_hz = tonic_hz or melody.tonic_hz
    reference_hz = given_hz or float(np.nanmedian(melody.hz))
    notes = note_transcription.transcribe_notes(1200 * np.log2(melody.hz / reference_hz), melody.hop_seconds)
    try:
        recognizer = mode_recognition.ModeRecognizer(traditions, fitted=fitted)
        alone = recognizer.recognize(notes, tonic_known=False)
    except TalimError as error:
        raise TalimError(f"{file}: {error}") from error
    offset_cents = mode_recognition.tonic_cents(alone, notes)
    estimated_hz = reference_hz * 2 ** (offset_cents / 1200)
    posterior, suggested = alone, {}
    if given_hz is not None:
        doubt = 0.0 if tonic_hz is not None else mode_recognition.TONIC_ERROR_RATE
        posterior = recognizer.recognize(notes, tonic_known=True, tonic_error_rate=doubt)
        if abs(float(mode_model.cents_distance(offset_cents, 0.0))) > OTHER_TONIC_CENTS:
            best = _row(*alone.ranked_modes()[0], with_tradition=not tradition)
            at = {"tonic_hz": round(estimated_hz, 3), "note": note_name(estimated_hz)}
            suggested = {"suggested": {**at, **best, **_alike(alone, not tradition)}}
    return {
        "tonic_hz": round(given_hz or estimated_hz, 3),
        **suggested,
        "note_seconds": round(float(notes.seconds.sum()), 1),
        "modes": [_row(*each, with_tradition=not tradition) for each in posterior.ranked_modes()],
        **_alike(posterior, not tradition),
    }


def _row(origin: Tradition, mode: Mode, score: float, with_tradition: bool) -> dict[str, Any]:
    return {"name": mode.name, "slug": mode.slug, "score": score} | (
        {"tradition": origin.slug} if with_tradition else {}
    )


def _alike(posterior: mode_recognition.ModePosterior, with_tradition: bool) -> dict[str, Any]:
    """The modes that the recording does not tell apart, as the key "alike"; nothing where it does."""
    alike = posterior.modes_alike(MAX_MODES_SHOWN)
    rows = [_row(*each, with_tradition) | {"listen_for": listen_for(*each[:2])} for each in alike]
    return {"alike": rows} if len(rows) > 1 else {}


def listen_for(tradition: Tradition, mode: Mode) -> str:
    """By what a listener tells a mode: its notes, the strong ones, whether it ascends, and a remark if there is one."""
    spell = tradition.notation.spell
    marks = [f"notes {spell(mode.degrees_cents)}", f"strong {spell(mode.strong_cents)}" if mode.strong_cents else ""]
    marks += [f"contour {mode.contour}" if mode.contour else "", mode.facts.get("note", "")]
    return "; ".join(filter(None, marks))


def check_fits(fitted: FittedModes, traditions: Sequence[Tradition]) -> None:
    """UsageError where fitted modes are of none of these traditions, or of modes that it does not have."""
    own = next((each for each in traditions if each.slug == fitted.tradition), None)
    if own is None:
        named = " and ".join(each.slug for each in traditions)
        raise UsageError(f"the fitted modes are of {fitted.tradition}, not of {named}: --tradition {fitted.tradition}")
    if strange := sorted(set(fitted.modes) - {mode.slug for mode in own.modes}):
        raise UsageError(f"the fitted modes were made with another {own.slug}: it has no {own.mode_word} {strange[0]}")


def resolve_tradition(tradition: str) -> Tradition:
    """The tradition of a folder, or the built-in one of that name in any common spelling."""
    if Path(tradition).is_dir():
        return load(tradition)
    table = {normalize_name(name): one for one in load_all_builtin() for name in (one.slug, one.name, *one.aliases)}
    if normalize_name(tradition) in table:
        return table[normalize_name(tradition)]
    error = unknown_name_error("tradition", tradition, {key: one.slug for key, one in table.items()}, ())
    raise TalimError(f"{error}; or give the folder of a custom one")


def read_melody(file: Path, progress: Progress | None = None) -> PitchTrackInput:
    """The melody of an audio file or an .npz; TalimError, in one line, if there is none."""
    if not file.exists():
        near = did_you_mean(file)
        raise TalimError(f"{file}: no such file{near}; give a recording, or an .npz with cents, hop_s and tonic_hz")
    if not file.is_file():
        raise TalimError(f"{file}: not a file; give one recording, or one .npz with cents, hop_s and tonic_hz")
    melody = read_pitch_track(file) if file.suffix.lower() == ".npz" else track_audio_melody(file, progress)
    if not np.isfinite(melody.hz).any():
        raise TalimError(f"{file}: unvoiced from end to end; {NO_MELODY}")
    return melody


def track_audio_melody(file: Path, progress: Progress | None = None) -> PitchTrackInput:
    """The melody of an audio file, by pitch tracking."""
    remarks: list[str] = []
    peak = peak_of(read_mono_blocks(file, TRACKING_RATE_HZ, remarks))
    progress = progress or Progress()
    for remark in remarks:
        progress.log(f"note: {file}: {remark}")
    try:
        return track_melody(read_mono_blocks(file, TRACKING_RATE_HZ, []), peak)
    except TalimError as error:
        raise TalimError(f"{file}: {error}") from error


def peak_of(blocks: Iterable[np.ndarray]) -> float:
    """The largest absolute value of a sound in blocks."""
    return max((float(np.abs(block).max(initial=0.0)) for block in blocks), default=0.0)


def track_melody(blocks: Iterable[np.ndarray], peak: float) -> PitchTrackInput:
    """The melody of a sound in blocks float32 [n] at TRACKING_RATE_HZ, at whatever gain; TalimError if it is silent."""
    if peak < 1e-4:
        raise TalimError(f"silent (peak {peak:.1e} of full scale); {NO_MELODY}")
    tracked = pitch.yin_f0_of_blocks((block / peak for block in blocks), TRACKING_RATE_HZ)
    return PitchTrackInput(tracked.hz, tracked.hop_seconds)


def read_pitch_track(file: Path) -> PitchTrackInput:
    """The validated melody of an .npz."""
    try:
        with np.load(file, allow_pickle=False) as archive:
            values = {key: archive[key] for key in ("cents", "hop_s", "tonic_hz") if key in archive.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, AttributeError) as error:
        raise TalimError(f"{file}: cannot be read as an .npz: {error}") from error
    for key in ("cents", "hop_s"):
        if key not in values:
            raise TalimError(f"{file}: has no {key!r}; a pitch track needs cents and hop_s, and tonic_hz if known")
    cents = values["cents"]
    if cents.ndim != 1 or cents.size == 0 or not np.issubdtype(cents.dtype, np.number):
        raise TalimError(f"{file}: cents must be one row of numbers, not {cents.dtype} of shape {cents.shape}")
    hop_seconds = read_scalar(file, "hop_s", values["hop_s"])
    tonic_hz = read_scalar(file, "tonic_hz", values["tonic_hz"]) if "tonic_hz" in values else None
    # infinite or absurd values are unvoiced
    voiced = np.where(np.abs(cents) < 12_000, cents, np.nan).astype(np.float64)
    return PitchTrackInput((tonic_hz or CONCERT_A_HZ) * 2 ** (voiced / 1200), hop_seconds, tonic_hz)


def read_scalar(file: Path, key: str, value: np.ndarray) -> float:
    """One number above 0 from an .npz; TalimError otherwise."""
    if value.size != 1 or not np.issubdtype(value.dtype, np.number) or not 0 < float(value.reshape(-1)[0]) < 1e6:
        raise TalimError(f"{file}: {key} must be one number above 0, not {value!r}")
    return float(value.reshape(-1)[0])


def best_guess(result: dict[str, Any]) -> tuple[str, float]:
    """The best mode, or by "or" all that the recording does not tell apart from it; and the probability of these."""
    rows = result.get("alike") or [result["modes"][0] if "modes" in result else result]
    return SUGGESTION_OR.join(row["name"] for row in rows), sum(row["score"] for row in rows)


def modes_message(result: dict[str, Any]) -> str:
    """A short table of the best modes, which is most likely, and by what to tell it from those of nearly its notes."""
    best = result["modes"][:MAX_MODES_SHOWN]
    width = max(len(row["name"]) for row in best)
    lines = [
        f"{place}. {row['name']:<{width}}  {row['score']:6.1%}"
        + (f"  {row['tradition']}" if "tradition" in row else "")
        for place, row in enumerate(best, 1)
    ]
    other = result.get("suggested")
    hint = f"The recording itself suggests a tonic at {other['tonic_hz']:.1f} Hz ({other['note']})" if other else ""
    if len(result["modes"]) == 1:
        lines.append(
            "The tradition has one mode only, so the share says nothing about this recording; "
            f"its tonic as {best[0]['name']} would be at {result['tonic_hz']:.1f} Hz."
        )
        return "\n".join([*lines, *([f"{hint}."] if hint else [])])
    lines.append(f"Per cent: the probability among the {len(result['modes'])} modes that are known here, 100% in all.")
    guess, score = best_guess(result)
    sure = score >= LIKELY
    confidence = "Most likely" if sure else "Not sure; the best guess is"
    if other:
        lines.append(f"With the given tonic, {result['tonic_hz']:.1f} Hz: {confidence.lower()} {guess}.")
    else:
        lines.append(f"{confidence} {guess}, its tonic at {result['tonic_hz']:.1f} Hz.")
    if alike := result.get("alike", ()):
        lines += [
            "They have nearly the same notes, and this recording does not tell them apart: none is "
            f"{DECISIVE_RATIO:g} times as likely as another. Fewest notes first, as slides between notes let a larger "
            "scale look likelier than it is. What to listen for:",
            *(f"  {row['name']}: {row['listen_for']}" for row in alike),
        ]
    if other:
        lines.append("{}; with it the best guess is {} ({:.1%}).".format(hint, *best_guess(other)))
    if not sure and result["note_seconds"] < FEW_SECONDS:
        lines.append(
            f"There are only {result['note_seconds']:.0f} s of steady notes: too little to tell a mode by; "
            f"{FEW_SECONDS:.0f} s or more tell more."
        )
    return "\n".join(lines)
