"""Accuracy of ornament detection in synthetic mixtures: F1 by kind against the ground truth.

`python -m research.validation.ornament_detection --work FOLDER` synthesises and tracks the mixtures that FOLDER does
not hold yet and prints the table of docs/reports/metric-sensitivity.md.

Required are the ornaments that are audible in the contour. Optional (neither a miss nor a false alarm) are
oscillations narrower than 35 cents, swings narrower than 40 cents or shorter than 1.5 periods, glides under 0.17 s,
touches and turns that lie between two notes or hold a pitch longer than 0.15 s (the curve of passing notes), main
notes under 0.2 s (the curve of a touch), and everything that the second player plays. A shake of 62 to 118 cents may be
detected as shake or vibrato, a swing above 3.5 Hz as swing or vibrato. One detour is a touch and several are a turn,
whatever the ornament's name: a mordent that begins on its upper note has the same curve as a kan. Ordinary slow
transitions count as glides, as the curve is the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from scipy import signal

from research.docs import markdown
from talim.atomic_io import read_json, write_json
from talim.metrics import ornaments, pitch
from talim.metrics.ornaments import OrnamentEvent
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.ground_truth import GroundTruth, PlayedOrnament, Voice
from talim.synthesis.performer import perform

HOP_SECONDS = 0.01
SECONDS = 20.0
# Tradition and requested ornament (None: the unmodified synthesizer), and the seeds, which nothing was tuned on.
MIXTURES: Mapping[tuple[str, str | None], range] = {
    ("hindustani", None): range(12000, 12016),
    ("makam", None): range(12000, 12016),
    ("makam", "vibrato"): range(12100, 12112),
    ("hindustani", "andolan"): range(12200, 12228),
    ("hindustani", "meend"): range(12300, 12304),
    ("makam", "glissando"): range(12400, 12404),
}
NEAR_SECONDS = 0.12
LONGEST_DETOUR_SECONDS = 0.15
QUICK_NOTE_SECONDS = 0.2
NOTE = """\
*plain* is the unmodified synthesiser; a name is an ornament that was requested wherever it fits. The requests are in
`research.validation.ornament_detection`, whose command generates this table alone. Thresholds were set on other
seeds. *From ground truth*: on the true contour, without pitch tracking."""


@dataclass(frozen=True)
class OrnamentTrial:
    """One ornament of the ground truth; an optional one is neither a miss nor a false alarm."""

    kind: str
    onset_seconds: float
    seconds: float
    required: bool


def reference_ornaments(truth: GroundTruth) -> list[OrnamentTrial]:
    """Everything in the ground truth that may be detected."""
    lead, *others = truth.voices
    expected = _voice_ornaments(lead) + _slow_transitions(lead) + _quick_notes(lead)
    return expected + [replace(each, required=False) for voice in others for each in _voice_ornaments(voice)]


def _voice_ornaments(voice: Voice) -> list[OrnamentTrial]:
    cents = voice.cents.astype(float)
    return [each for ornament in voice.ornaments for each in _expected_ornaments(ornament, cents)]


def _expected_ornaments(ornament: PlayedOrnament, cents: np.ndarray) -> list[OrnamentTrial]:
    """The kinds as which an ornament may be detected: usually its own, two for a shake of medium width."""

    def as_kind(kind: str, required: bool) -> OrnamentTrial:
        return OrnamentTrial(kind, ornament.onset_seconds, ornament.seconds, required)

    if ornament.shape == "shake":
        if 62 < ornament.extent_cents < 118:
            return [as_kind("shake", False), as_kind("vibrato", False)]
        return [as_kind("shake" if ornament.extent_cents > 80 else "vibrato", ornament.extent_cents >= 35)]
    if ornament.shape == "swing" and ornament.rate_hz > 3.5:
        return [as_kind("swing", False), as_kind("vibrato", False)]
    if ornament.shape == "swing":
        return [as_kind("swing", ornament.extent_cents >= 40 and ornament.rate_hz * ornament.seconds >= 1.5)]
    if ornament.shape == "glide":
        return [as_kind("glide", ornament.seconds >= 0.17)]
    seconds = _detours(ornament, cents) if _stands_out(ornament, cents) else []
    if not seconds:
        return [as_kind("touch", False), as_kind("turn", False)]
    return [as_kind("touch" if len(seconds) == 1 else "turn", max(seconds) <= LONGEST_DETOUR_SECONDS)]


def _detours(ornament: PlayedOrnament, cents: np.ndarray) -> list[float]:
    """Seconds of each detour of 60 cents or more within an ornament, at half its height."""
    start, stop = _frames(ornament)
    span = cents[max(0, start - 5) : stop + 6]
    span = np.pad(span[np.isfinite(span)], 1, mode="edge")
    seconds = []
    for side in (1, -1):
        peaks, _ = signal.find_peaks(side * span, prominence=60)
        seconds += (signal.peak_widths(side * span, peaks)[0] * HOP_SECONDS).tolist()
    return seconds


def _frames(ornament: PlayedOrnament) -> tuple[int, int]:
    """First and one-past-last frame."""
    end = ornament.onset_seconds + ornament.seconds
    return round(ornament.onset_seconds / HOP_SECONDS), round(end / HOP_SECONDS) + 1


def _stands_out(ornament: PlayedOrnament, cents: np.ndarray) -> bool:
    """Whether the contour leaves the range of the notes before and after by 60 cents (after a silence: upwards)."""
    start, stop = _frames(ornament)
    inside, after = cents[start:stop], cents[stop : stop + 6]
    if not inside.size or np.isnan(inside).any() or not np.isfinite(after).any():
        return False
    note, before = float(np.nanmedian(after)), float(cents[max(0, start - 4)])
    if not np.isfinite(before):
        return bool(inside.max() - note >= 60)
    return bool(inside.max() - max(note, before) >= 60 or min(note, before) - inside.min() >= 60)


def _quick_notes(voice: Voice) -> list[OrnamentTrial]:
    """Main notes under 0.2 s: one has the curve of a touch, several that of a turn."""
    return [
        OrnamentTrial(kind, note.onset_seconds, note.seconds, False)
        for note in voice.notes
        if note.seconds < QUICK_NOTE_SECONDS
        for kind in ("touch", "turn")
    ]


def _slow_transitions(voice: Voice) -> list[OrnamentTrial]:
    """Transitions between neighbouring notes of 70 ms or more (15 to 85 %), required from 120 ms."""
    cents, transitions = voice.cents.astype(float), []
    busy = [(o.onset_seconds, o.onset_seconds + o.seconds) for o in voice.ornaments if o.shape != "swing"]
    for note, following in zip(voice.notes, voice.notes[1:], strict=False):
        at = round(following.onset_seconds / HOP_SECONDS)
        first = max(round((note.onset_seconds + 0.3 * note.seconds) / HOP_SECONDS), at - 40)
        span = cents[first : min(round((following.onset_seconds + 0.8 * following.seconds) / HOP_SECONDS), at + 60)]
        if abs(following.cents - note.cents) < 80 or span.size < 5 or not np.isfinite(span).all():
            continue
        progress = (span - note.cents) / (following.cents - note.cents)
        arrived = np.flatnonzero(progress > 0.85)
        left = np.flatnonzero(progress[: arrived[0]] < 0.15) if arrived.size else arrived
        if not left.size:
            continue
        begun, ended = (first + left[-1]) * HOP_SECONDS, (first + arrived[0]) * HOP_SECONDS
        if ended - begun >= 0.07 and not any(a < ended and b > begun for a, b in busy):
            transitions.append(OrnamentTrial("glide", begun, ended - begun, ended - begun >= 0.12))
    return transitions


def counts(truth: Sequence[OrnamentTrial], detected: Sequence[OrnamentEvent], kind: str) -> np.ndarray:
    """Hits, false alarms and misses of a kind: [3].

    A hit overlaps by 30 % of the shorter one, or its middle is within NEAR_SECONDS.
    """
    expected = sorted((trial for trial in truth if trial.kind == kind), key=lambda trial: not trial.required)
    events, used = [event for event in detected if event.kind == kind], set[int]()
    hits = misses = 0
    for trial in expected:
        gaps = [(_gap(trial, event), n) for n, event in enumerate(events) if n not in used and _is_hit(trial, event)]
        if gaps:
            used.add(min(gaps)[1])
            hits += trial.required
        else:
            misses += trial.required
    optional = [trial for trial in expected if not trial.required]
    alarms = [
        event
        for n, event in enumerate(events)
        if n not in used and not any(_is_hit(trial, event) for trial in optional)
    ]
    return np.array([hits, len(alarms), misses])


def _gap(trial: OrnamentTrial, event: OrnamentEvent) -> float:
    return abs(trial.onset_seconds + trial.seconds / 2 - event.onset_seconds - event.seconds / 2)


def _is_hit(trial: OrnamentTrial, event: OrnamentEvent) -> bool:
    start = max(trial.onset_seconds, event.onset_seconds)
    stop = min(trial.onset_seconds + trial.seconds, event.onset_seconds + event.seconds)
    return stop - start > 0.3 * min(trial.seconds, event.seconds) or _gap(trial, event) < NEAR_SECONDS


def measure_mixture(
    seed: int, tradition: str, ornament: str | None = None, seconds: float = SECONDS
) -> dict[str, list[list[int]]]:
    """Counts by kind in a synthetic mixture (two players, the tradition's drone): on the tracked and true contour.

    `ornament` is requested wherever it fits.
    """
    piece = perform(seed, tradition, seconds, PerformanceRequest(ensemble=2, ornament=ornament))
    assert piece.truth is not None
    cents = pitch.track_pitch(piece.samples, piece.rate_hz, hop_seconds=HOP_SECONDS).cents
    truth = reference_ornaments(piece.truth)
    detected = (
        ornaments.find_ornaments(cents, HOP_SECONDS),
        ornaments.find_ornaments(piece.truth.voices[0].cents.astype(float), HOP_SECONDS),
    )
    return {kind: [counts(truth, events, kind).tolist() for events in detected] for kind in ornaments.KINDS}


def measure(work: Path) -> None:
    """Measure every mixture that the work folder does not hold yet."""
    for (tradition, ornament), seeds in MIXTURES.items():
        for seed in seeds:
            file = work / f"mixture-{tradition}-{ornament or 'plain'}-{seed}.json"
            if not file.is_file():
                write_json(file, measure_mixture(seed, tradition, ornament))


def table(work: Path) -> list[str]:
    """The F1 of each kind over the mixtures in the work folder, as Markdown; [] if there are none."""
    mixtures: dict[tuple[str, str], list[dict[str, list[list[int]]]]] = {}
    for file in sorted(work.glob("mixture-*.json")):
        _, slug, request, _ = file.stem.split("-")
        mixtures.setdefault((slug, request), []).append(read_json(file))
    if not mixtures:
        return []

    def total(kind: str, contour: int, slug: str | None = None, request: str | None = None) -> tuple[int, int, int]:
        """Hits, false alarms and misses; `contour` is 0 for the tracked one, 1 for the true one."""
        rows = [
            each[kind][contour]
            for (its_slug, its_request), results in mixtures.items()
            if slug in (None, its_slug) and request in (None, its_request)
            for each in results
        ]
        hits, alarms, misses = np.sum([[0, 0, 0], *rows], axis=0).tolist()
        return hits, alarms, misses

    rows = []
    for kind in ornaments.KINDS:
        hits, alarms, misses = total(kind, 0)
        columns = [(0,), (0, "hindustani"), (0, "makam"), (0, None, "plain"), (1,)]
        cells = [total(kind, *column) for column in columns]
        scores = [f"{f1(*cell):.2f}" if cell[0] + cell[2] else "-" for cell in cells]
        rows.append([kind, str(hits + misses), str(hits), str(alarms), *scores])
    sizes = ", ".join(f"{len(results)} {slug} ({request})" for (slug, request), results in mixtures.items())
    head = ("kind", "true", "found", "false alarms", "F1", "hindustani", "makam", "plain mixtures", "from ground truth")
    return [
        "## Ornament detection in synthetic mixtures",
        "",
        f"Mixtures of {SECONDS:g} s with two players, and a drone in the Hindustani ones: {sizes};",
        NOTE,
        "",
        *markdown.table(head, rows, ("---", *("--:",) * 8)),
    ]


def f1(hits: float, alarms: float, misses: float) -> float:
    """Harmonic mean of precision and recall; NaN without hits, alarms and misses."""
    return 2 * hits / (2 * hits + alarms + misses) if hits + alarms + misses else float("nan")


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description="Measure ornament detection in synthetic mixtures.")
    parser.add_argument("--work", type=Path, required=True, help="folder of the finished mixtures")
    options = parser.parse_args(arguments)
    measure(options.work)
    print("\n".join(table(options.work)))


if __name__ == "__main__":
    main()
