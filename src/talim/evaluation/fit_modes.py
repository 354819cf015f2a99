"""Fits the modes of a tradition to a prepared corpus with labels, for `talim modes --fit`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from talim.corpus.manifest import Clip, Corpus
from talim.errors import TalimError
from talim.evaluation.recognize_mode import NO_MELODY, TRACKING_RATE_HZ, peak_of, resolve_tradition, track_melody
from talim.html.formatting import format_counted
from talim.progress import Progress
from talim.traditions import mode_recognition, note_transcription
from talim.traditions.fitted_modes import fit_modes, save_fitted
from talim.traditions.note_transcription import NoteSequence
from talim.traditions.tradition import Tradition, load_all_builtin

FEW_RECORDINGS = 5  # of a mode: fewer may teach the recordings rather than the mode


def fit_corpus(
    folder: Path, out: Path, tradition: str | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """Write what the recordings of a prepared corpus add to a tradition's facts, an .npz for `recognize_mode`.

    Recordings on the corpus's training and validation sides whose clips name one mode of the tradition are used; where
    no tonic is given it is estimated, the mode being known. Returns {"tradition", "file", "modes": {name: recordings},
    "left_out": {recording: reason}, "held_out": recordings of the test side, which are not used}. TalimError where
    nothing can be used, or `out` exists.
    """
    progress = progress or Progress()
    if out.exists():
        raise TalimError(f"{out}: exists already; choose another --fit, or delete it")
    corpus = Corpus.load(folder)
    known = resolve_tradition(tradition) if tradition else _tradition_of(corpus)
    recordings: dict[str, list[Clip]] = {}
    for clip in (*corpus.train, *corpus.validation):
        recordings.setdefault(clip.recording, []).append(clip)
    left_out: dict[str, str] = {}
    names: dict[str, int] = {}
    used: set[str] = set()

    def melodies() -> Iterator[tuple[str, NoteSequence]]:
        for number, (recording, clips) in enumerate(sorted(recordings.items()), start=1):
            progress.step("melodies", number, len(recordings))
            try:
                if clips[0].sound_group in used:
                    raise TalimError("its sound is in another recording, which counts")
                slug, notes = _labelled_melody(corpus, sorted(clips, key=lambda clip: clip.start_seconds), known)
            except TalimError as error:
                left_out[recording] = str(error)
                progress.log(f"left out: {recording}: {error}")
                continue
            used.add(clips[0].sound_group)
            name = next(mode.name for mode in known.modes if mode.slug == slug)
            names[name] = names.get(name, 0) + 1
            yield slug, notes

    fitted = fit_modes(known.slug, melodies())
    if not fitted.modes:
        raise TalimError(
            f"{folder}: no recording could be used; give a corpus whose metadata has a column {known.mode_word} with "
            f"modes of {known.slug}"
        )
    save_fitted(fitted, out)
    held_out = len({clip.recording for clip in corpus.held_out})
    return {"tradition": known.slug, "file": str(out), "modes": names, "left_out": left_out, "held_out": held_out}


def _tradition_of(corpus: Corpus) -> Tradition:
    """The built-in tradition that the training clips name; TalimError where it is not exactly one."""
    named = sorted({clip.tradition for clip in (*corpus.train, *corpus.validation)} - {"unknown"})
    found = [each for each in load_all_builtin() if each.slug in named]
    if len(named) != 1 or not found:
        what = f"its clips name {' and '.join(named)}" if named else "its clips name no tradition"
        raise TalimError(f"{corpus.folder}: {what}; give the one to fit with --tradition")
    return found[0]


def _labelled_melody(corpus: Corpus, clips: Sequence[Clip], tradition: Tradition) -> tuple[str, NoteSequence]:
    """The mode and the notes above the tonic of one recording; TalimError says why it cannot be used."""
    modes = {clip.mode for clip in clips} - {"unknown", ""}
    if len(modes) != 1:
        raise TalimError("names no mode" if not modes else f"changes its mode: {', '.join(sorted(modes))}")
    mode = tradition.mode(modes.pop())

    def blocks() -> Iterator[np.ndarray]:
        return (corpus.read_clip(clip).mono().resample(TRACKING_RATE_HZ).samples[0] for clip in clips)

    track = track_melody(blocks(), peak_of(blocks()))
    if not np.isfinite(track.hz).any():
        raise TalimError(f"unvoiced from end to end; {NO_MELODY}")
    tonic_hz = next((clip.tonic_hz for clip in clips if clip.tonic_hz), None)
    reference_hz = tonic_hz or float(np.nanmedian(track.hz))
    notes = note_transcription.transcribe_notes(1200 * np.log2(track.hz / reference_hz), track.hop_seconds)
    if notes.cents.size < mode_recognition.MIN_NOTES:
        raise TalimError(
            f"has {format_counted(notes.cents.size, 'steady note')}, of {mode_recognition.MIN_NOTES} needed"
        )
    if tonic_hz is None:
        alone = mode_recognition.ModeRecognizer([replace(tradition, modes=(mode,))])
        at_cents = mode_recognition.tonic_cents(alone.recognize(notes, tonic_known=False), notes)
        notes = replace(notes, cents=notes.cents - at_cents)
    return mode.slug, notes


def fit_message(result: dict[str, Any]) -> str:
    """What was fitted, in a few lines."""
    modes = sorted(result["modes"].items(), key=lambda item: (-item[1], item[0]))
    total = sum(count for _, count in modes)
    lines = [
        f"{result['file']}: {format_counted(len(modes), 'mode')} of {result['tradition']} from "
        f"{format_counted(total, 'recording')}: {', '.join(f'{name} {count}' for name, count in modes)}"
    ]
    if few := [name for name, count in modes if count < FEW_RECORDINGS]:
        lines.append(
            f"note: fewer than {FEW_RECORDINGS} recordings of {', '.join(few)}: such a mode may be recognised worse "
            "than by its facts alone"
        )
    if result["left_out"]:
        lines.append(f"left out: {format_counted(len(result['left_out']), 'recording')} (the reasons are above)")
    if result["held_out"]:
        count = format_counted(result["held_out"], "held-out recording")
        lines.append(f"not used: {count}; how well it works can be tried on them")
    lines.append(f"next: talim modes RECORDING --tradition {result['tradition']} --fitted {result['file']}")
    return "\n".join(lines)
