"""The confusion report: how well modes are told apart on real tracks, and by which part of what is known.

python -m research.validation.mode_recognition --hindustani DIR --makam DIR --out docs/modes.md
"""

from __future__ import annotations

import argparse
import csv
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from research.validation.mode_dataset import (
    ModeTrial,
    held_out_scores,
    histogram_scores,
    judgements,
    ranks,
    tonic_found,
    trials,
)
from talim.atomic_io import write_text
from talim.errors import TalimError
from talim.evaluation.bootstrap import bootstrap_ci, mean_by_recording
from talim.traditions.mode_model import DEFAULT_HISTOGRAM_SHAPE
from talim.traditions.mode_recognition import EFFECTIVE_SAMPLE_SIZE, TONIC_ERROR_RATE, ModeRecognizer
from talim.traditions.note_transcription import NoteSequence
from talim.traditions.tradition import Tradition, load

HEAD = "| what is used | best | in the best three | best three, by recording (95 %) |\n|---|---|---|---|"
MIN_PHRASE_STEPS = 15  # of annotated phrases, for a recording to be tried on them
SVARAS = "SrRgGmMPdDnN"
OPENING = """# Which mode is this: the recognition, measured

Made by `python -m research.validation.mode_recognition --hindustani DIR --makam DIR --out docs/modes.md` on real pitch tracks
that are not part of the project. Where modes tie, the true one counts as last. Intervals are bootstrapped over
recordings, each recording weighing the same.

One number is fitted ({witnesses:g}: how many independent witnesses the steps of one melody are worth). *One
recording out*: it was fitted without the recording and everything of its release or work. *One mode out*: without any
recording of the mode. All else is facts (`traditions/facts`) and the few constants of `traditions/mode_model.py` and
`traditions/note_transcription.py`, chosen by hand on these tracks; nothing was learnt from any recording's phrases or
intonation. The makams' weights are note statistics of 2200 scores, in which works may occur that are also played
here; the rows above "as counted" do not use them. How often a makam is heard is its number of scores there, and the
six makams tried are the commonest: on tracks of rarer ones that row would gain less, or lose. How often a raga is
heard is a grading by hand, in three steps.
"""


def row(name: str, places: np.ndarray, found: Sequence[ModeTrial]) -> str:
    """One line of a table."""
    means = mean_by_recording([float(place <= 3) for place in places], [trial.recording for trial in found])
    low_high = bootstrap_ci(means)
    spread = f" ({low_high[0]:.0%} to {low_high[1]:.0%})" if low_high else ""
    mean = float(np.mean(list(means.values())))
    return f"| {name} | {np.mean(places == 1):.0%} | {np.mean(places <= 3):.0%} | {mean:.0%}{spread} |"


def ablation(tradition: Tradition, found: Sequence[ModeTrial]) -> list[str]:
    """The table of what each part of the knowledge adds."""
    truths = [trial.truth for trial in found]
    scale, weighty = (
        replace(DEFAULT_HISTOGRAM_SHAPE, weighted=False, use_transitions=False),
        replace(DEFAULT_HISTOGRAM_SHAPE, use_transitions=False),
    )
    steps = (
        (
            "the scale: steady notes on its degrees",
            ModeRecognizer([tradition], scale, counted=False, common=False),
            0.0,
        ),
        (
            "+ each degree's weight, by grammar",
            ModeRecognizer([tradition], weighty, counted=False, common=False),
            0.0,
        ),
        (
            "+ movement: ascent, descent, phrases",
            ModeRecognizer([tradition], counted=False, common=False),
            0.0,
        ),
        ("+ weights as counted in practice", ModeRecognizer([tradition], common=False), 0.0),
        ("+ how often a mode is heard", ModeRecognizer([tradition]), 0.0),
        (
            "+ doubt of the annotated tonic (all that `talim modes` uses)",
            ModeRecognizer([tradition]),
            TONIC_ERROR_RATE,
        ),
    )
    lines = [HEAD, row("plain pitch histogram", ranks(histogram_scores(found, tradition), truths), found)]
    for name, listener, doubt in steps:
        scores = np.array([one.scores for one in judgements(listener, found, doubt=doubt)])
        lines.append(row(name, ranks(scores, truths), found))
    return lines


def held_out(tradition: Tradition, listener: ModeRecognizer, found: Sequence[ModeTrial]) -> list[str]:
    """The table of the figures to trust, and of what happens where nobody says the tonic."""
    truths = [trial.truth for trial in found]
    lines = [HEAD]
    groups, modes = [trial.group for trial in found], [str(trial.truth) for trial in found]
    even = ModeRecognizer([tradition], common=False)
    for name, heard_by, leaves in (
        ("one recording out", listener, groups),
        ("one mode out", listener, modes),
        ("one recording out, all modes equally likely beforehand", even, groups),
    ):
        scores, chosen = held_out_scores(heard_by, found, leaves)
        told = f"{name} ({len(set(leaves))} folds; fitted {min(chosen):g} to {max(chosen):g})"
        lines.append(row(told, ranks(scores, truths), found))
    unknown = judgements(listener, found, tonic_known=False)
    lines.append(
        row("the tonic must be found", ranks(np.array([one.scores for one in unknown]), truths), found)
    )
    right = tonic_found(unknown)
    means = mean_by_recording([float(one) for one in right], [trial.recording for trial in found])
    lines += ["", f"The tonic is found (within 50 cents, in any octave) in {np.mean(right):.0%} of the tracks, "
              f"{np.mean(list(means.values())):.0%} by recording."]  # fmt: skip
    return lines


def confusion(tradition: Tradition, listener: ModeRecognizer, found: Sequence[ModeTrial]) -> list[str]:
    """For each true mode: the places it took, and the modes it was taken for."""
    scores, _ = held_out_scores(listener, found, [trial.group for trial in found])
    places = ranks(scores, [trial.truth for trial in found])
    by_truth: dict[int, list[int]] = defaultdict(list)
    for n, trial in enumerate(found):
        by_truth[trial.truth].append(n)
    lines = ["| true mode | tracks | recordings | places | taken for |", "|---|---|---|---|---|"]
    for truth, mine in sorted(by_truth.items(), key=lambda pair: tradition.modes[pair[0]].name):
        taken = Counter(tradition.modes[int(np.argmax(scores[n]))].name for n in mine)
        recordings = len({found[n].recording for n in mine})
        told = ", ".join(f"{name} {count}" for name, count in taken.most_common())
        took = " ".join(str(places[n]) for n in mine)
        lines.append(f"| {tradition.modes[truth].name} | {len(mine)} | {recordings} | {took} | {told} |")
    return lines


def symbol_trials(file: Path, tradition: Tradition) -> list[ModeTrial]:
    """Annotated phrases (svara letters, no durations) as trials: one a recording, with a rest after each phrase."""
    slugs = [mode.slug for mode in tradition.modes]
    phrases: dict[tuple[str, str], list[list[int]]] = defaultdict(list)
    with open(file, encoding="utf-8", newline="") as lines:
        for line in csv.DictReader(lines):
            sung = [SVARAS.index(letter) for letter in line["svaras"] if letter in SVARAS]
            phrases[line["mbid"], line["raga"]].append(sung)
    found = []
    for (recording, raga), sung in phrases.items():
        if not raga or sum(max(0, len(phrase) - 1) for phrase in sung) < MIN_PHRASE_STEPS:
            continue
        try:
            truth = slugs.index(tradition.mode(raga).slug)
        except TalimError:
            continue
        found.append(ModeTrial(recording, recording, recording, truth, np.empty(0), as_notes(sung)))
    return found


def as_notes(phrases: Sequence[Sequence[int]]) -> NoteSequence:
    """Svaras as notes of one length, a hundred cents to the semitone; a silence parts the phrases."""
    cents = np.array([100.0 * svara for phrase in phrases for svara in phrase])
    gaps = np.array([0.0 if place else np.inf for phrase in phrases for place, _ in enumerate(phrase)])
    return NoteSequence(cents, np.ones(cents.size), np.arange(cents.size, dtype=float), gaps)


def tempered(tradition: Tradition) -> Tradition:
    """The tradition with every note moved to the nearest hundred cents: what its measured intonation adds."""

    def on_grid(line: tuple[float, ...]) -> tuple[float, ...]:
        return tuple(100.0 * round(cents / 100.0) for cents in line)

    modes = [
        replace(
            mode,
            degrees_cents=on_grid(mode.degrees_cents),
            ascent_cents=on_grid(mode.ascent_cents),
            descent_cents=on_grid(mode.descent_cents),
            phrases_cents=tuple(on_grid(line) for line in mode.phrases_cents),
            strong_cents=on_grid(mode.strong_cents),
            touched_cents=on_grid(mode.touched_cents),
        )
        for mode in tradition.modes
    ]
    return replace(tradition, modes=tuple(modes))


def chapter(tradition: Tradition, folder: Path) -> list[str]:
    """Everything about one tradition."""
    found, strangers = trials(folder, tradition)
    listener = ModeRecognizer([tradition])
    word, count = tradition.mode_word, len(tradition.modes)
    recordings = len({trial.recording for trial in found})
    lines = [
        f"## {tradition.name}: {len(found)} tracks of {recordings} recordings, {count} {word}s to choose from",
        "",
    ]
    if strangers:
        lines += [f"Left out, their {word} not being in the table: {', '.join(sorted(set(strangers)))}.", ""]
    lines += ["### The figures to trust", "", *held_out(tradition, listener, found), ""]
    lines += ["### What each part adds", "", *ablation(tradition, found), ""]
    if (folder / "phrases.csv").is_file():
        lines += controls(tradition, found, symbol_trials(folder / "phrases.csv", tradition))
    return [
        *lines,
        "### Which was taken for which (one recording out)",
        "",
        *confusion(tradition, listener, found),
        "",
    ]


def controls(tradition: Tradition, found: Sequence[ModeTrial], symbols: Sequence[ModeTrial]) -> list[str]:
    """Two controls: without the intonation that was measured on some of these recordings, and on other recordings."""
    truths = [trial.truth for trial in found]
    scores = np.array([one.scores for one in judgements(ModeRecognizer([tempered(tradition)]), found)])
    ragas = len({trial.truth for trial in symbols})
    lines = [
        "### Two controls", "",
        "The cents of the twelve svaras in `tradition.json` are means that some of these recordings went into; "
        "with every svara on its hundred cents instead:", "",
        HEAD, row("equal-tempered svaras", ranks(scores, truths), found), "",
        f"And the phrases that were annotated, as svara letters without octave or length, in {len(symbols)} "
        f"recordings of {ragas} ragas, most of which are not among the tracks above:", "",
        HEAD,
    ]  # fmt: skip
    scale, weighty = (
        replace(DEFAULT_HISTOGRAM_SHAPE, weighted=False, use_transitions=False),
        replace(DEFAULT_HISTOGRAM_SHAPE, use_transitions=False),
    )
    for name, shape in (
        ("the scale", scale),
        ("+ weights", weighty),
        ("+ movement", DEFAULT_HISTOGRAM_SHAPE),
    ):
        judged = judgements(
            ModeRecognizer([tradition], shape, counted=False, common=False), symbols, doubt=0.0
        )
        places = ranks(np.array([one.scores for one in judged]), [trial.truth for trial in symbols])
        lines.append(row(name, places, symbols))
    return [*lines, ""]


def report(hindustani: Path | None, makam: Path | None) -> str:
    """The whole page, as Markdown."""
    lines = [OPENING.format(witnesses=EFFECTIVE_SAMPLE_SIZE)]
    for slug, folder in (("hindustani", hindustani), ("makam", makam)):
        if folder is not None:
            lines += chapter(load(slug), folder)
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the report."""
    parser = argparse.ArgumentParser(
        description="Measure how well modes are told apart on real pitch tracks."
    )
    parser.add_argument("--hindustani", type=Path, help="folder with metadata.csv and pitch/*.npz")
    parser.add_argument("--makam", type=Path, help="folder of the same form")
    parser.add_argument("--out", type=Path, required=True, help="the page to write, Markdown")
    asked = parser.parse_args()
    write_text(asked.out, report(asked.hindustani, asked.makam))


if __name__ == "__main__":
    main()
