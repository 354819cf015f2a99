"""Notes and ornaments of real performances, against notes and ornaments that people annotated.

python -m research.validation.performed_notes --notes DIR --ornaments DIR [--tracks DIR] --out PAGE.md

--notes: the folder `data` of MTG/otmm_audio_score_alignment_dataset, whose Sonic Visualiser sessions hold pitch tracks
and notes. --ornaments: the folder with the CSV files of rhythmjain/automated-symbolic-transcription-hindustani-vocals.
--tracks: pitch tracks of the recordings of the latter, MBID.pitch.txt as Saraga has them (seconds, Hz). None of it is
part of the project.
"""

from __future__ import annotations

import argparse
import bz2
import csv
import itertools
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mir_eval
import numpy as np

from research.docs import markdown
from research.validation.ornament_detection import OrnamentTrial, counts, f1
from talim.atomic_io import write_text
from talim.errors import TalimError
from talim.evaluation.intervals import mean_interval
from talim.metrics import ornaments, pitch_contour
from talim.metrics.ornaments import OrnamentEvent
from talim.traditions.note_transcription import transcribe_notes

PAGE = Path("docs/reports/performed-notes.md")
RATE_HZ, TRACK_STEP = 44100, 128  # of the sessions, and between two frames of their pitch tracks
ALIGNMENT_STEP = 2048  # samples: onsets of the automatic alignment lie on it
MIN_MOVED = 0.1  # of the onsets off that grid, for notes that a person has annotated
HOP_SECONDS = 0.01  # at which ornaments and steady notes are found
LOWEST_HZ = 20.0  # below: unvoiced
CHANCE_SECONDS = 7.3  # by which the controls are moved
# Label in the annotations: kind of contour, as in `talim.metrics.ornaments`.
KIND_OF = {"k": "touch", "me": "glide", "g": "shake", "z": "shake", "mu": "turn", "kh": "turn", "a": "swing"}
NAMES = {"touch": "kan", "glide": "meend", "shake": "gamak, zamzama", "turn": "murki, khatka", "swing": "andolan"}


@dataclass(frozen=True)
class NotesTrial:
    """The notes of one annotator: seconds [n, 2] and Hz [n], and the pitch track [frames] in Hz, NaN if unvoiced."""

    recording: str
    annotator: str
    sung: bool
    seconds: np.ndarray
    hz: np.ndarray
    track_hz: np.ndarray
    moved: float  # fraction of the onsets off the grid of the automatic alignment


def read_session(file: Path) -> NotesTrial:
    """A Sonic Visualiser session with one layer of time values in Hz and one of regions; TalimError for others."""
    try:
        with bz2.open(file) as stream:
            session = ElementTree.fromstring(stream.read())
    except (OSError, EOFError, ElementTree.ParseError) as error:
        raise TalimError(f"{file}: is no Sonic Visualiser session: {error}") from error
    points = {each.get("id"): each.findall("point") for each in session.iter("dataset")}
    layers = {
        (model.get("dimensions"), model.get("subtype")): points.get(model.get("dataset"), [])
        for model in session.iter("model")
        if model.get("type") == "sparse"
    }
    track, regions = layers.get(("2", None), []), layers.get(("3", "region"), [])
    if not track or not regions:
        raise TalimError(f"{file}: has no pitch track or no notes")
    at, hz = (np.array([float(point.get(key, 0)) for point in track]) for key in ("frame", "value"))
    whole = np.full(round(at.max() / TRACK_STEP) + 1, np.nan)
    whole[np.round(at / TRACK_STEP).astype(int)] = np.where(hz > LOWEST_HZ, hz, np.nan)
    start, length, note_hz = (
        np.array([float(point.get(key, 0)) for point in regions]) for key in ("frame", "duration", "value")
    )
    valid = (length > 0) & (note_hz > LOWEST_HZ)
    order = np.argsort(start[valid], kind="stable")
    seconds = np.stack([start, start + length], axis=1)[valid][order] / RATE_HZ
    form = file.parent.parent.name.split("--")[1]
    moved = float(np.mean(start % ALIGNMENT_STEP > 0))
    return NotesTrial(file.parent.name, file.stem, form == "sarki", seconds, note_hz[valid][order], whole, moved)


def read_notes(folder: Path) -> tuple[list[NotesTrial], list[str]]:
    """The sessions that a person has edited, and the names of those whose notes are still as aligned by a program."""
    files = [file for file in sorted(folder.glob("*/*/*.sv")) if file.stem != "template"]
    if not files:
        raise TalimError(f"{folder}: no FORM/RECORDING/*.sv here; give the folder `data` of the alignments")
    trials = [read_session(file) for file in files]
    edited = [trial for trial in trials if trial.moved >= MIN_MOVED]
    names = {trial.recording for trial in edited}
    return edited, sorted({trial.recording for trial in trials} - names)


Notes = tuple[np.ndarray, np.ndarray]  # seconds [n, 2], Hz [n]


def notes_of_modes(track_hz: np.ndarray) -> Notes:
    """The notes of `talim modes`."""
    hop_seconds = TRACK_STEP / RATE_HZ
    notes = transcribe_notes(1200 * np.log2(track_hz / 440.0), hop_seconds)
    seconds = np.stack([notes.onset_seconds, notes.onset_seconds + notes.seconds], axis=1)
    return seconds, 440.0 * 2 ** (notes.cents / 1200)


def notes_of_scores(track_hz: np.ndarray) -> Notes:
    """The steady notes of the melody's scores in `talim evaluate`."""
    every = np.round(np.arange(0, track_hz.size * TRACK_STEP / RATE_HZ, HOP_SECONDS) * RATE_HZ / TRACK_STEP).astype(int)
    cents = 1200 * np.log2(track_hz[np.minimum(every, track_hz.size - 1)] / 440.0)
    found = pitch_contour.steady_notes(pitch_contour.clean_f0(cents, HOP_SECONDS), HOP_SECONDS)
    seconds = np.array([(each.start, each.stop) for each in found], float).reshape(-1, 2) * HOP_SECONDS
    return seconds, 440.0 * 2 ** (np.array([each.cents for each in found]) / 1200)


def annotated_times(trial: NotesTrial) -> Notes:
    """The annotated times, with the median pitch of the track in each: what knowing every onset and offset reaches."""
    frames = np.round(trial.seconds * RATE_HZ / TRACK_STEP).astype(int)
    pieces = [trial.track_hz[begin : max(end, begin + 1)] for begin, end in frames]
    hz = np.array([np.nanmedian(piece) if np.isfinite(piece).any() else LOWEST_HZ for piece in pieces])
    return trial.seconds, hz


SYSTEMS: Mapping[str, Callable[[NotesTrial], Notes]] = {
    "notes of `talim modes`": lambda trial: notes_of_modes(trial.track_hz),
    "steady notes of `talim evaluate`": lambda trial: notes_of_scores(trial.track_hz),
    "control: annotated times, pitch of the track": annotated_times,
}
# Tolerances: onset in seconds, pitch in cents, offset as a fraction of the note's length (None: not compared).
MEASURES: Mapping[str, tuple[float, float, float | None]] = {
    "onset 50 ms": (0.05, 1e6, None),
    "and pitch 50 cents": (0.05, 50.0, None),
    "and offset 20 %": (0.05, 50.0, 0.2),
    "onset 100 ms, pitch 20 cents": (0.1, 20.0, None),
}


def within(notes: Notes, begin: float, end: float) -> Notes:
    """The notes whose onsets lie in the annotated part."""
    inside = (notes[0][:, 0] >= begin) & (notes[0][:, 0] <= end)
    return notes[0][inside], notes[1][inside]


def one_octave(hz: np.ndarray, lowest_hz: float) -> np.ndarray:
    """The frequencies [n] in the octave above `lowest_hz`."""
    return lowest_hz * 2 ** (np.log2(hz / lowest_hz) % 1.0)


def emptiest_pitch_hz(hz: np.ndarray) -> float:
    """The middle of the widest gap between the pitch classes of some notes: an octave that begins there cuts none."""
    classes = np.sort(np.log2(hz) % 1.0)
    gaps = np.diff(np.append(classes, classes[0] + 1.0))
    widest = int(gaps.argmax())
    return float(2 ** (classes[widest] + gaps[widest] / 2))


def score_notes(reference: Notes, estimate: Notes) -> list[float]:
    """The F1 of each of MEASURES, octaves ignored."""
    begin, end = reference[0][0, 0] - 0.1, reference[0][:, 1].max()
    seconds, hz = within(estimate, begin, end)
    if not hz.size:
        return [0.0] * len(MEASURES)
    lowest_hz = emptiest_pitch_hz(reference[1])
    pitched = (reference[0], one_octave(reference[1], lowest_hz), seconds, one_octave(hz, lowest_hz))
    precision_recall_f1: Callable[..., tuple[Any, ...]] = mir_eval.transcription.precision_recall_f1_overlap
    return [
        float(precision_recall_f1(*pitched, onset_tolerance=onset, pitch_tolerance=pitch, offset_ratio=offset)[2])
        for onset, pitch, offset in MEASURES.values()
    ]


def moved_notes(notes: Notes, begin: float, end: float) -> Notes:
    """A control: the notes of the annotated part, moved round it by CHANCE_SECONDS."""
    seconds, hz = within(notes, begin, end)
    onset = begin + (seconds[:, 0] - begin + CHANCE_SECONDS) % (end - begin)
    order = np.argsort(onset, kind="stable")
    lengths = np.diff(seconds, axis=1)
    return np.hstack([onset[:, None], onset[:, None] + lengths])[order], hz[order]


def note_rows(trials: Sequence[NotesTrial]) -> list[list[str]]:
    """The table of F1: means over recordings, and their intervals."""
    groups = {"songs": [t for t in trials if t.sung], "instrumental forms": [t for t in trials if not t.sung]}
    rows = []
    for (group, members), (name, system) in itertools.product(groups.items(), SYSTEMS.items()):
        scores, chance = defaultdict[str, list[list[float]]](list), defaultdict[str, list[list[float]]](list)
        for trial in members:
            reference, found = (trial.seconds, trial.hz), system(trial)
            scores[trial.recording].append(score_notes(reference, found))
            moved = moved_notes(found, trial.seconds[0, 0], trial.seconds[:, 1].max())
            chance[trial.recording].append(score_notes(reference, moved))
        notes = sum(trial.hz.size for trial in members)
        for label, values in ((name, scores), (f"control: {name}, moved", chance)):
            if values and not label.startswith("control: control"):
                means = np.array([np.mean(each, axis=0) for each in values.values()])
                rows.append([group, label, str(len(values)), str(notes), *map(_with_interval, means.T)])
    return rows


def agreement_rows(trials: Sequence[NotesTrial]) -> list[list[str]]:
    """The F1 of every two annotators of one recording."""
    by_recording = defaultdict[str, list[NotesTrial]](list)
    for trial in trials:
        by_recording[trial.recording].append(trial)
    return [
        [recording, f"{a + 1} and {b + 1}", *(f"{value:.2f}" for value in score_notes(*(_notes(m[n]) for n in (a, b))))]
        for recording, m in by_recording.items()
        for a, b in itertools.combinations(range(len(m)), 2)
    ]


def _notes(trial: NotesTrial) -> Notes:
    return trial.seconds, trial.hz


def _with_interval(values: np.ndarray) -> str:
    limits = mean_interval(values, bounds=(0.0, 1.0))
    return f"{values.mean():.2f}" + (f" ({limits[0]:.2f} to {limits[1]:.2f})" if limits else "")


def read_ornaments(file: Path) -> list[OrnamentTrial]:
    """The annotated ornaments: a start label (`k_s`) and the next end label (`k_e`) each.

    The parts of a compound (`c_k_me_s`) are optional, in all of it; labels without a kind of ours are left out.
    """
    found, begin = list[OrnamentTrial](), None
    with open(file, encoding="utf-8-sig", newline="") as stream:
        for row in csv.reader(stream):
            if len(row) < 2 or not re.fullmatch(r"\s*[\d.]+\s*", row[0]):
                continue
            at, label = float(row[0]), row[1].strip()
            parts = [part for part in label.split("_") if part]
            if parts[-1:] == ["s"]:
                begin = (at, parts[:-1])
            elif parts[-1:] == ["e"] and begin and begin[1] == parts[:-1]:
                names = parts[:-1]
                kinds = dict.fromkeys(KIND_OF[name] for name in names if name in KIND_OF)
                required = len(names) == 1
                found += [OrnamentTrial(kind, begin[0], at - begin[0], required) for kind in kinds]
                begin = None
    return found


def read_annotations(folder: Path) -> dict[str, list[tuple[str, list[OrnamentTrial]]]]:
    """Annotator's file and ornaments, by the MBID of the recording, from the data set's table of files."""
    table = folder / "Saraga-OHV-file-mapping.csv"
    if not table.is_file():
        raise TalimError(f"{table}: no such file; give the folder of the ornaments' CSV files")
    recordings = {}
    with open(table, encoding="utf-8-sig", newline="") as stream:
        for row in csv.DictReader(stream):
            files = [name.strip() for name in (row["OHVFilenames"] or "").splitlines() if name.strip()]
            recordings[row["mbid ID"]] = [(name, read_ornaments(_file_of(folder, name))) for name in files]
    return recordings


def _file_of(folder: Path, name: str) -> Path:
    """The file of that name; the name in the table may lack a blank."""
    matching = [file for file in folder.iterdir() if file.name.strip() == name]
    if not matching:
        raise TalimError(f"{folder / name}: no such file, though the table of files names it")
    return matching[0]


def as_events(trials: Sequence[OrnamentTrial], moved_seconds: float = 0.0) -> list[OrnamentEvent]:
    """An annotator's simple ornaments as detections."""
    required = [trial for trial in trials if trial.required]
    return [OrnamentEvent(each.kind, each.onset_seconds + moved_seconds, each.seconds, 0.0) for each in required]


def read_track(file: Path) -> np.ndarray:
    """A pitch track of lines of seconds and Hz as cents above 440 Hz every HOP_SECONDS, NaN where unvoiced."""
    seconds, hz = np.loadtxt(file, usecols=(0, 1), ndmin=2).T
    at = np.arange(0.0, seconds[-1] + HOP_SECONDS, HOP_SECONDS)
    nearest = np.clip(np.searchsorted(seconds, at - HOP_SECONDS / 4), 0, seconds.size - 1)
    values = np.where(hz > LOWEST_HZ, hz, np.nan)[nearest]
    values[np.abs(seconds[nearest] - at) > HOP_SECONDS] = np.nan
    return 1200 * np.log2(values / 440.0)


def ornament_rows(
    annotations: Mapping[str, Sequence[tuple[str, list[OrnamentTrial]]]], tracks: Path | None
) -> list[list[str]]:
    """F1 by kind: of the detector where there are pitch tracks, of annotators against one another, and by chance."""
    totals = defaultdict[tuple[str, str], np.ndarray](lambda: np.zeros(3))
    recordings = defaultdict[str, set[str]](set)
    for recording, annotators in annotations.items():
        detected = {}
        for (_, truth), (_, other) in itertools.permutations(annotators, 2):
            detected = {"another annotator": as_events(other)}
            detected["control: another annotator, moved"] = as_events(other, CHANCE_SECONDS)
            _add(totals, recordings, recording, truth, detected)
        file = tracks / f"{recording}.pitch.txt" if tracks else None
        if file and file.is_file():
            events = ornaments.find_ornaments(read_track(file), HOP_SECONDS)
            for _, truth in annotators:
                _add(totals, recordings, recording, truth, {"`talim`": events})
    rows = []
    for name in dict.fromkeys(key[0] for key in totals):
        for kind in NAMES:
            hits, alarms, misses = totals[name, kind]
            shown = f"{f1(hits, alarms, misses):.2f}" if hits + misses else "-"
            cells = [f"{value:.0f}" for value in (hits + misses, hits, alarms)]
            rows.append([name, str(len(recordings[name])), f"{kind} ({NAMES[kind]})", *cells, shown])
    return rows


def _add(
    totals: dict[tuple[str, str], np.ndarray],
    recordings: dict[str, set[str]],
    recording: str,
    truth: Sequence[OrnamentTrial],
    detected: Mapping[str, Sequence[OrnamentEvent]],
) -> None:
    for name, events in detected.items():
        recordings[name].add(recording)
        for kind in NAMES:
            totals[name, kind] = totals[name, kind] + counts(truth, events, kind)


def report(notes: Path, annotated: Path, tracks: Path | None) -> str:
    """The whole page, as Markdown."""
    trials, untouched = read_notes(notes)
    annotations = read_annotations(annotated)
    lacking = [name for name in annotations if not tracks or not (tracks / f"{name}.pitch.txt").is_file()]
    head = ("music", "system", "recordings", "notes", *MEASURES)
    right = ("---", "---", *["--:"] * (2 + len(MEASURES)))
    lines = [OPENING, *markdown.table(head, note_rows(trials), right), ""]
    lines += ["Two annotators of one recording, the second against the first:", ""]
    lines += [*markdown.table(("recording", "annotators", *MEASURES), agreement_rows(trials)), ""]
    lines += [f"Left out, as no onset was moved by hand: {', '.join(untouched) or 'none'}.", ""]
    simple = [trial for each in annotations.values() for _, found in each for trial in found if trial.required]
    kinds, count = sorted({trial.kind for trial in simple}), len(simple)
    files = sum(len(each) for each in annotations.values())
    lines += [ORNAMENTS.format(count=count, files=files, recordings=len(annotations), kinds=", ".join(kinds)), ""]
    lines += markdown.table(
        ("system", "recordings", "kind", "annotated", "found", "false alarms", "F1"), ornament_rows(annotations, tracks)
    )
    if lacking:
        lines += ["", f"Not measured, for want of a pitch track: {', '.join(lacking)}."]
    return "\n".join(lines).rstrip() + "\n"


OPENING = """# Notes and ornaments of real performances

```sh
python -m research.validation.performed_notes --notes DATA --ornaments FOLDER --tracks FOLDER
```

## Notes

Annotated notes of `MTG/otmm_audio_score_alignment_dataset`, against the notes that talim finds in the pitch tracks (of
the predominant melody) which its Sonic Visualiser sessions hold. The data set is not part of the project. Its sound is
not public: what our own pitch tracker would add is not measured here. Notes were aligned by a program and corrected by
hand; used are sessions with a tenth of the onsets moved. Nothing in talim was chosen on these notes.

F1 by `mir_eval.transcription`, mean over recordings (95 %), octaves ignored: those of the annotations are the score's.
*Moved*: the same notes at wrong times. *Annotated times*: were every onset and offset known, the track's pitch would
still differ from the annotated one so often. Published, from sound, on recordings of this collection: F-measure
**56.7 %** for instrumental music at 20 cents (Benetos, Holzapfel, *Automatic transcription of Turkish microtonal
music*, JASA 138(4), 2015), with tolerances of its own.
"""

ORNAMENTS = """## Ornaments

Detection of ornaments is measured where a pitch track is given (`--tracks`). The annotated recordings are Saraga's,
whose sound and pitch tracks are on Zenodo. What can be measured without them is how far annotators agree.

{count} ornaments of the kinds {kinds} in {files} annotations of {recordings} recordings of Hindustani singing
(`rhythmjain/automated-symbolic-transcription-hindustani-vocals`), which are not part of the project. Compounds
(`c_k_me`) are neither a miss nor a false alarm. A hit overlaps by 30 % of the shorter one, or its middle is within
0.12 s, as in [synthetic mixtures](metric-sensitivity.md#ornament-detection-in-synthetic-mixtures). *Another
annotator*: the second annotation of a recording taken for a detector's, in both directions; no detector can be expected
to agree with them better than they do with each other. *Moved*: the same at wrong times."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="Notes and ornaments of real performances.")
    parser.add_argument("--notes", type=Path, required=True, help="folder data of the alignment data set")
    parser.add_argument("--ornaments", type=Path, required=True, help="folder of the ornaments' CSV files")
    parser.add_argument("--tracks", type=Path, help="folder of MBID.pitch.txt for the ornaments")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write, Markdown")
    options = parser.parse_args(arguments)
    write_text(options.out, report(options.notes, options.ornaments, options.tracks))


if __name__ == "__main__":
    main()
