"""What the probability of a mode is worth by the length of the recording: real and performed music, cut to length.

A part of the page of `research.validation.mode_recognition`. Real melodies are cut from their notes; the constant is
chosen on the pitch tracks; performed music and recordings had no part in it.
"""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.validation.mode_dataset import ModeTrial
from talim.audio import Audio
from talim.errors import TalimError
from talim.evaluation.recognize_mode import LIKELY, TRACKING_RATE_HZ, track_audio_melody, track_melody
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.performer import perform
from talim.traditions import note_transcription
from talim.traditions.mode_recognition import EFFECTIVE_SAMPLE_SIZE, HALF_SECONDS, ModeRecognizer
from talim.traditions.note_transcription import NoteSequence
from talim.traditions.tradition import Tradition

LENGTHS_SECONDS = (10.0, 30.0, 60.0, 120.0)
PARTS_OF_EACH = 3  # of a recording, spread over it
HALF_GRID_SECONDS = (0.0, 3.0, 6.0, 9.0, 12.0, 15.0, 20.0, 30.0, 45.0)
PERFORMED_MODES, PERFORMED_SECONDS = 8, 130.0  # of each tradition
HEAD = (
    "| seconds | clips | first is right | its probability | log loss | called likely | of these right | "
    "another's mode likely |\n|---|---|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Melody:
    """A melody from an unknown tonic, whose mode is `truth` of the recogniser's."""

    recording: str
    truth: int
    notes: NoteSequence

    def part(self, start_seconds: float, seconds: float) -> Melody:
        """The notes that sound wholly within the part."""
        notes = self.notes
        ends = notes.onset_seconds + notes.seconds
        inside = (notes.onset_seconds >= start_seconds) & (ends <= start_seconds + seconds)
        cut = NoteSequence(
            notes.cents[inside],
            notes.seconds[inside],
            notes.onset_seconds[inside] - start_seconds,
            notes.gap_seconds[inside],
        )
        return Melody(self.recording, self.truth, cut)

    def parts(self, seconds: float) -> list[Melody]:
        """Up to three parts of that length; none of a shorter melody."""
        end = float((self.notes.onset_seconds + self.notes.seconds).max(initial=0.0))
        starts = np.linspace(0.0, end - seconds, PARTS_OF_EACH) if end >= seconds else ()
        return [self.part(float(start), seconds) for start in starts]


def of_trials(trials: Sequence[ModeTrial]) -> list[Melody]:
    """The melodies of pitch tracks."""
    return [Melody(trial.recording, trial.truth, trial.notes) for trial in trials]


def of_audio(folder: Path, tradition: Tradition) -> list[Melody]:
    """The melodies of recordings that FOLDER/metadata.csv gives a mode of the tradition."""
    slugs, melodies = [mode.slug for mode in tradition.modes], []
    with open(folder / "metadata.csv", encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            try:
                truth = slugs.index(tradition.mode(row["mode"]).slug) if row["tradition"] == tradition.slug else None
            except TalimError:
                continue
            if truth is not None:
                track = track_audio_melody(folder / row["file_name"])
                melodies.append(Melody(row["recording"], truth, _notes(track.hz, track.hop_seconds)))
    return melodies


def performed(tradition: Tradition) -> list[Melody]:
    """Synthetic performances of modes spread over the tradition's, through the pitch tracker."""
    melodies = []
    for number, truth in enumerate(np.linspace(0, len(tradition.modes) - 1, PERFORMED_MODES).astype(int)):
        request = PerformanceRequest(mode=tradition.modes[truth].slug)
        piece = perform(number, tradition.slug, PERFORMED_SECONDS, request)
        samples = Audio(np.atleast_2d(piece.samples), piece.rate_hz).mono().resample(TRACKING_RATE_HZ).samples[0]
        track = track_melody([samples], float(np.abs(samples).max()))
        melodies.append(Melody(f"performed {number}", int(truth), _notes(track.hz, track.hop_seconds)))
    return melodies


def _notes(hz: np.ndarray, hop_seconds: float) -> NoteSequence:
    return note_transcription.transcribe_notes(1200 * np.log2(hz / float(np.nanmedian(hz))), hop_seconds)


class Remembering(ModeRecognizer):
    """A recogniser that fits each melody once, for many values of the constant."""

    def __init__(self, tradition: Tradition) -> None:
        super().__init__([tradition])
        self._fits: dict[int, tuple[NoteSequence, np.ndarray]] = {}

    def fit(self, notes: NoteSequence) -> np.ndarray:
        if id(notes) not in self._fits:
            self._fits[id(notes)] = notes, super().fit(notes).astype(np.float32)
        return self._fits[id(notes)][1]


def judged(recognizer: ModeRecognizer, clips: Sequence[Melody], half_seconds: float) -> tuple[np.ndarray, list[Melody]]:
    """Probabilities [clip, mode] with an unknown tonic, and the clips; those with too little melody are left out."""
    scores, kept = [], []
    for clip in clips:
        try:
            posterior = recognizer.recognize(clip.notes, tonic_known=False, half_seconds=half_seconds)
        except TalimError:
            continue
        scores.append(posterior.scores)
        kept.append(clip)
    return np.array(scores), kept


def log_loss(scores: np.ndarray, clips: Sequence[Melody]) -> float:
    """The mean negative log probability of the true modes, in nats, each recording counting once."""
    if not clips:
        return float("nan")
    counts = Counter(clip.recording for clip in clips)
    weights = np.array([1 / counts[clip.recording] for clip in clips])
    losses = -np.log(scores[np.arange(len(clips)), [clip.truth for clip in clips]] + 1e-12)
    return float(np.average(losses, weights=weights))


def fitted_half_seconds(melodies: Mapping[str, Sequence[Melody]], recognizers: Mapping[str, ModeRecognizer]) -> float:
    """The value of the grid with the lowest log loss over all lengths of all traditions in `melodies`."""
    clips = [
        (recognizers[slug], [part for each in some for part in each.parts(seconds)])
        for slug, some in melodies.items()
        for seconds in LENGTHS_SECONDS
    ]
    losses = [np.nanmean([log_loss(*judged(*of_length, half)) for of_length in clips]) for half in HALF_GRID_SECONDS]
    return HALF_GRID_SECONDS[int(np.argmin(losses))]


def row(recognizer: ModeRecognizer, clips: Sequence[Melody], seconds: float, half_seconds: float) -> str:
    """One line of a table; "another's mode" is the next one that recordings here have: a control."""
    scores, kept = judged(recognizer, clips, half_seconds)
    if not kept:
        return f"| {seconds:g} | 0 | | | | | | |"
    truths = np.array([clip.truth for clip in kept])
    first, probability = scores.argmax(1), scores.max(1)
    likely, right = probability >= LIKELY, first == truths
    modes = sorted({*truths})
    others = np.array([modes[(modes.index(truth) + 1) % len(modes)] for truth in truths])
    another = np.mean((scores[np.arange(len(kept)), others] >= LIKELY) & (others != truths))
    of_these = f"{right[likely].mean():.0%}" if likely.any() else "none"
    return (
        f"| {seconds:g} | {len(kept)} | {right.mean():.0%} | {probability.mean():.0%} | {log_loss(scores, kept):.2f} | "
        f"{likely.sum()} | {of_these} | {another:.0%} |"
    )


def chapter(
    trials: Mapping[str, Sequence[ModeTrial]], traditions: Sequence[Tradition], audio: Path | None
) -> list[str]:
    """The tables before and after, of each kind of music."""
    recognizers = {each.slug: Remembering(each) for each in traditions}
    tracks = {slug: of_trials(some) for slug, some in trials.items()}
    fits = {slug: fitted_half_seconds({slug: some}, recognizers) for slug, some in tracks.items()}
    fitted = ", ".join(f"{half:g} s on {slug}" for slug, half in fits.items())
    lines = [
        "## Probability by length", "",
        f"Parts of {', '.join(f'{seconds:g}' for seconds in LENGTHS_SECONDS)} s, the tonic unknown, as `talim modes` "
        f"has it for a sound file. A melody is worth {EFFECTIVE_SAMPLE_SIZE:g} independent steps times s / (s + "
        f"{HALF_SECONDS:g} s), s being its seconds of steady notes; before, it was worth {EFFECTIVE_SAMPLE_SIZE:g} "
        f"however short it was. On one tradition alone the "
        f"best constant is {fitted}; the one between them was chosen with all rows of pitch tracks in view. "
        f"*Called likely*: a probability of {LIKELY:.0%} or more. *Another's mode likely* is a control, the mode of "
        "another recording, and should be about 0 %. *Log loss* in nats. The synthesiser performs modes drawn evenly "
        "from all of a tradition, while the prior expects common ones: there a rare mode is mostly called by the name "
        "of a common one with nearly its notes, however long the piece.", "",
    ]  # fmt: skip
    groups = [(f"{each.name}, pitch tracks", each, tracks[each.slug]) for each in traditions if each.slug in tracks]
    groups += [(f"{each.name}, performed by the synthesiser", each, performed(each)) for each in traditions]
    groups += [(f"{each.name}, recordings", each, of_audio(audio, each)) for each in traditions if audio is not None]
    for name, tradition, melodies in groups:
        if not melodies:
            continue
        by_length = {
            seconds: [part for each in melodies for part in each.parts(seconds)] for seconds in LENGTHS_SECONDS
        }
        for when, half_seconds in (("before", 0.0), ("after", HALF_SECONDS)):
            rows = [row(recognizers[tradition.slug], clips, s, half_seconds) for s, clips in by_length.items()]
            lines += [f"### {name}: {when}", "", HEAD, *rows, ""]
    return lines
