"""How often the tonic of a recording is found, and what is taken for it instead, on public pitch tracks.

python -m research.validation.tonic_identification --hindustani DIR --pitch DIR --folds folds.json \
    --out docs/reports/tonic-identification.md

--hindustani is the folder `files` of MTG/musical-bridges-hindustani-tools, --pitch the folder `data` of
MTG/otmm_makam_recognition_dataset, --folds the folds.json of sertansenturk/makam_recognition_experiments. None of them
is part of the project.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy.special import logsumexp

from research.validation import makam_folds
from talim.atomic_io import write_text
from talim.errors import TalimError
from talim.evaluation.intervals import mean_by_recording, mean_interval, wilson_interval
from talim.progress import Progress, default
from talim.traditions import mode_recognition, note_transcription
from talim.traditions.mode_model import cents_distance
from talim.traditions.mode_recognition import ModeRecognizer
from talim.traditions.note_transcription import CLASSES, STEP_CENTS, NoteSequence
from talim.traditions.tradition import Tradition, load, load_all_builtin

PAGE = Path("docs/reports/tonic-identification.md")
ON_TONIC_CENTS = 25.0
SAME_DEGREE_CENTS = 50.0
HOP_SECONDS = 0.01  # of the Hindustani pitch tracks
PASSAGE_SECONDS = 300.0
ROWS = ("mode given", "tradition given", "nothing given")
KINDS = ("25 to 50 cents off", "fourth", "fifth", "another degree", "between the degrees")


@dataclass(frozen=True)
class TonicTrial:
    """A recording or a passage of one: the mode's slug, and its notes in cents above the annotated tonic."""

    recording: str
    mode: str
    notes: NoteSequence


@dataclass(frozen=True)
class Found:
    """Tonics in cents above the annotated one, octaves folded, by what was given.

    `rests`, `stays`: whether phrases and the melody end more on the one found with the tradition given than on the
    annotated one, and whether more time is spent on it.
    """

    by_row: dict[str, float]
    rests: bool
    stays: bool


def is_set_aside(recording: str) -> bool:
    """Whether a recording belongs to the half that no constant was chosen on, by the hash of its identifier."""
    return int(hashlib.sha256(recording.encode()).hexdigest()[:8], 16) % 2 == 1


def read_hindustani(folder: Path, tradition: Tradition) -> dict[str, list[TonicTrial]]:
    """The trials of every pitch track that has a tonic and a known raga: whole recordings, and passages of them."""
    info_file = folder / "recordingsInfo.json"
    if not info_file.is_file():
        raise TalimError(f"{info_file}: no such file; give the folder files of MTG/musical-bridges-hindustani-tools")
    info = json.loads(info_file.read_text(encoding="utf-8"))
    trials: dict[str, list[TonicTrial]] = {"whole recordings": [], "passages of at most five minutes": []}
    whole, passages = trials.values()
    for file in sorted((folder / "pitchTracks").glob("*_pitchTrack.json")):
        name = file.stem.removesuffix("_pitchTrack")
        mode = tradition.mode(info[name]["rag"]["rag"]).slug
        cents = read_cents(file)
        whole.append(TonicTrial(name, mode, note_transcription.transcribe_notes(cents, HOP_SECONDS)))
        for part in np.array_split(cents, max(1, int(np.ceil(cents.size * HOP_SECONDS / PASSAGE_SECONDS)))):
            passages.append(TonicTrial(name, mode, note_transcription.transcribe_notes(part, HOP_SECONDS)))
    if not whole:
        raise TalimError(f"{folder}: no pitch track in pitchTracks; give the folder files of the repository")
    return trials


def read_cents(file: Path) -> np.ndarray:
    """A track {seconds: cents above the tonic, or "s" for silence} on a regular grid, NaN where silent."""
    content = json.loads(file.read_text(encoding="utf-8"))
    frames = np.round(np.array([float(key) for key in content]) / HOP_SECONDS).astype(int)
    values = [value[0] if isinstance(value, list) else value for value in content.values()]
    cents = np.full(int(np.ptp(frames)) + 1, np.nan)
    cents[frames - frames.min()] = [np.nan if value == "s" else float(value) for value in values]
    return cents


def read_makam(pitch: Path, folds: Path, tradition: Tradition, progress: Progress) -> list[TonicTrial]:
    """The recordings of the ten published folds."""
    trials, _ = makam_folds.read_trials(pitch, folds, tradition, progress)
    return [TonicTrial(trial.name, trial.makam, trial.notes) for trial in trials]


class TonicFinder:
    """The model of `talim modes` over all traditions, fitted once to each melody."""

    def __init__(self, tradition: Tradition, *, low_end: bool = True) -> None:
        """`low_end`: whether the low end of melodies is used where the tradition has one."""
        traditions = [each if low_end else replace(each, low_end_cents=None) for each in load_all_builtin()]
        self.recognizer = ModeRecognizer(traditions)
        self.slug = tradition.slug
        self.own = np.array([origin.slug == tradition.slug for origin, _ in self.recognizer.modes])
        self.slugs = [mode.slug for _, mode in self.recognizer.modes]

    def find(self, trial: TonicTrial, given_mode: str) -> Found:
        """The tonics of one trial; "mode given" is with `given_mode`, which a control exchanges."""
        notes, recognizer = trial.notes, self.recognizer
        size = mode_recognition.effective_sample_size(notes)
        joint = size * recognizer.fit(notes) + recognizer.prior + recognizer.tonic_log_probs(notes)
        given = self.own & np.array([slug == given_mode for slug in self.slugs])
        by_row = {
            row: folded(float(np.argmax(np.asarray(logsumexp(joint[:, modes], axis=1)))) * STEP_CENTS)
            for row, modes in zip(ROWS, (given, self.own, np.full(self.own.size, True)), strict=True)
        }
        time = mode_recognition.pitch_class_histogram(notes, notes.seconds)
        by_row["the note that most time is spent on"] = folded(float(time.argmax()) * STEP_CENTS)
        by_row["the last note"] = folded(float(notes.cents[-1]))
        ends = mode_recognition.tonic_log_prob(notes)
        found = round(by_row["tradition given"] / STEP_CENTS) % CLASSES
        return Found(by_row, rests=bool(ends[found] > near_zero(ends)), stays=bool(time[found] > near_zero(time)))


def folded(cents: float) -> float:
    """`cents` in [-600, 600)."""
    return float(cents_distance(cents, 0.0))


def near_zero(values: np.ndarray) -> float:
    """The largest of `values` [CLASSES] within ON_TONIC_CENTS of class 0."""
    return float(values[np.abs(cents_distance(np.arange(CLASSES) * STEP_CENTS, 0.0)) <= ON_TONIC_CENTS].max())


def error_kind(off_cents: float, degrees_cents: Sequence[float]) -> str:
    """One of KINDS, for a tonic that was found `off_cents` above the true one of a mode of these degrees."""
    if abs(off_cents) <= SAME_DEGREE_CENTS:
        return KINDS[0]
    for kind, cents in (("fourth", 500.0), ("fifth", 700.0)):
        if abs(folded(off_cents - cents)) <= SAME_DEGREE_CENTS:
            return kind
    on_degree = np.abs(cents_distance(np.array(degrees_cents), off_cents)).min() <= SAME_DEGREE_CENTS
    return "another degree" if on_degree else "between the degrees"


def percent(right: Sequence[bool], recordings: Sequence[str]) -> str:
    """The percentage of trials with its 95 % interval: Wilson's, or over recordings where these have several trials."""
    share = f"{100 * np.mean(right):.1f} %"
    if len(set(recordings)) == len(recordings):
        low, high = wilson_interval(sum(right), len(right))
    else:
        means = mean_by_recording([float(each) for each in right], list(recordings))
        interval = mean_interval(means, bounds=(0.0, 1.0))
        if interval is None:
            return share
        low, high = interval
    return f"{share} ({100 * low:.0f} to {100 * high:.0f})"


def table(trials: Sequence[TonicTrial], tradition: Tradition) -> list[str]:
    """How often the tonic is found, by what is given, on both halves; the simple rules; the exchanged modes."""
    finder, plain = TonicFinder(tradition), TonicFinder(tradition, low_end=False)
    exchanged = np.random.default_rng(0).permutation([trial.mode for trial in trials]).tolist()
    found = [finder.find(trial, trial.mode) for trial in trials]
    rows = {row: [each.by_row[row] for each in found] for row in found[0].by_row}
    if tradition.low_end_cents is not None:
        without = [plain.find(trial, trial.mode) for trial in trials]
        rows["tradition given, without the low end"] = [each.by_row["tradition given"] for each in without]
    controls = [finder.find(trial, mode) for trial, mode in zip(trials, exchanged, strict=True)]
    rows["control: the mode of another recording given"] = [each.by_row["mode given"] for each in controls]
    halves: list[tuple[str, Callable[[str], bool]]] = [
        ("set aside", is_set_aside),
        ("the other half", lambda name: not is_set_aside(name)),
        ("all", lambda _: True),
    ]
    counts = [sum(part(trial.recording) for trial in trials) for _, part in halves]
    heads = [f"{name} ({count})" for (name, _), count in zip(halves, counts, strict=True)]
    lines = ["| | " + " | ".join(heads) + " |", "|---|" + "---|" * len(halves)]
    for row, off in rows.items():
        cells = []
        for _, part in halves:
            chosen = [n for n, trial in enumerate(trials) if part(trial.recording)]
            right = [abs(off[n]) <= ON_TONIC_CENTS for n in chosen]
            cells.append(percent(right, [trials[n].recording for n in chosen]) if chosen else "-")
        lines.append(f"| {row} | {' | '.join(cells)} |")
    return [*lines, "", *error_rows(trials, found, tradition)]


def error_rows(trials: Sequence[TonicTrial], found: Sequence[Found], tradition: Tradition) -> list[str]:
    """What was taken for the tonic where only the tradition is given, and whether the melody itself is to blame."""
    kinds: Counter[str] = Counter()
    rests: Counter[str] = Counter()
    stays: Counter[str] = Counter()
    modes: Counter[str] = Counter()
    for trial, each in zip(trials, found, strict=True):
        off = each.by_row["tradition given"]
        if abs(off) > ON_TONIC_CENTS:
            mode = tradition.mode(trial.mode)
            kind = error_kind(off, mode.degrees_cents)
            kinds[kind] += 1
            rests[kind] += each.rests
            stays[kind] += each.stays
            modes[mode.name] += 1
    lines = [
        "Where the tonic was not found, the tradition given:", "",
        "| taken for it | times | of them, where phrases and the melody end more on it | where more time is on it |",
        "|---|---|---|---|",
    ]  # fmt: skip
    lines += [f"| {kind} | {kinds[kind]} | {rests[kind]} | {stays[kind]} |" for kind in KINDS]
    named = ", ".join(f"{name} {count}" for name, count in modes.most_common(8))
    return [*lines, "", f"By {tradition.mode_word}: {named or 'none'}.", ""]


def report(hindustani: dict[str, list[TonicTrial]] | None, makam: Sequence[TonicTrial] | None) -> str:
    """The whole page, as Markdown."""
    lines = [OPENING]
    for name, trials in (hindustani or {}).items():
        recordings = len({trial.recording for trial in trials})
        lines += [f"## Hindustani, {name}: {len(trials)} of {recordings} recordings", ""]
        lines += table(trials, load("hindustani"))
    if makam:
        lines += [f"## Makam: {len(makam)} recordings", "", *table(makam, load("makam"))]
    return "\n".join(lines).rstrip() + "\n"


OPENING = """# Tonic identification

How often `talim modes` finds the tonic of a pitch track, within 25 cents and in any octave. Generated by

```sh
python -m research.validation.tonic_identification --hindustani DIR --pitch DIR --folds folds.json
```

from public data that are not part of the project: the pitch tracks and tonics of
`MTG/musical-bridges-hindustani-tools` (concerts of the Saraga collection and course recordings; singers), the pitch
tracks of `MTG/otmm_makam_recognition_dataset` with the tonics of the folds of
`sertansenturk/makam_recognition_experiments`. Facts alone: no recording was learnt.

*Mode given*: the raga or makam is known. *Tradition given*: it is one of all of the tradition. *Nothing given*: one of
all modes of all built-in traditions. The two simple rules need no model; a tonic drawn at random is found in 4 % of
cases. Intervals are 95 %, over recordings.

**Halves.** A recording belongs to the half *set aside* if the hash of its identifier is odd. The place of the low end
of Hindustani melodies, its spread and share of exceptions (`low_end_cents`, `traditions/mode_recognition.py`), and the
rule that no degree weighs more than the tonic unless it was counted, were chosen on the other half. The constants that
were there before had been chosen with many of these recordings in view (*Mode recognition*, *Makam recognition on
published folds*); no makam's constant was chosen for this page.

**Literature.** On these folds of makam recordings the best figures are 95.8 % with the makam given and 86.1 % with
neither given (MORTY: Karakurt, Şentürk, Serra, DLfM 2016, the best of 1728 settings on the test folds). On Indian
music, from audio with its drone, on six other sets: about 90 % on the average (Gulati et al., Journal of New Music
Research 2014), 93 % (Salamon, Gulati, Serra, ISMIR 2012). Here a pitch track of the leading voice is all there is, so
the drone is heard only where the tracker follows it.
"""


def main() -> None:
    """Measure and write the page."""
    parser = argparse.ArgumentParser(description="Measure tonic identification on public pitch tracks.")
    parser.add_argument("--hindustani", type=Path, help="folder files of MTG/musical-bridges-hindustani-tools")
    parser.add_argument("--pitch", type=Path, help="folder data of MTG/otmm_makam_recognition_dataset")
    parser.add_argument("--folds", type=Path, help="folds.json of sertansenturk/makam_recognition_experiments")
    parser.add_argument("--out", type=Path, default=PAGE, help="the page to write, Markdown")
    options = parser.parse_args()
    if (options.pitch is None) != (options.folds is None):
        parser.error("--pitch and --folds belong together")
    if options.hindustani is None and options.pitch is None:
        parser.error("give --hindustani, or --pitch and --folds, or all three")
    hindustani = read_hindustani(options.hindustani, load("hindustani")) if options.hindustani else None
    makam = read_makam(options.pitch, options.folds, load("makam"), default()) if options.pitch else None
    write_text(options.out, report(hindustani, makam))


if __name__ == "__main__":
    main()
