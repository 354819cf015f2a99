"""How well ornaments are found in performed mixtures: F1 by kind against what was really played.

`python -m research.validation.ornament_detection --work FOLDER` performs and tracks the mixtures (what the folder holds is not
done again) and prints the table of docs/metrics-sensitivity.md.

Asked for is what can be heard in the contour. Neither asked for nor punished (a find there is no false alarm):
oscillations narrower than 35 cents, swings narrower than 40 cents or shorter than one and a half periods, glides under
0.17 s, touches and turns that lie on the way from note to note or hold a pitch longer than 0.15 s (the curves of
passing notes), main notes under 0.2 s (the curve of a touch), and all that the second player plays. A shake of 62 to
118 cents may be called shake or vibrato, a swing of more than 3.5 Hz swing or vibrato. What leaves the way once is a
touch and what leaves it more often a turn, whatever its name: a mordent that begins on its upper note is the same curve
as a kan. Ordinary slow ways are glides, for the curve is the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import signal

from talim.atomic_io import read_json, write_json
from talim.metrics import ornaments, pitch
from talim.metrics.ornaments import OrnamentEvent
from talim.synthesis.arrangement import PerformanceRequest
from talim.synthesis.ground_truth import GroundTruth, PlayedOrnament, Voice
from talim.synthesis.performer import perform

HOP_SECONDS = 0.01
SECONDS = 20.0
# Tradition and ornament asked for (none: the performer as it is), and the seeds; nothing was tuned on them.
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


@dataclass(frozen=True)
class OrnamentTrial:
    """One ornament of the truth: asked for, or only excused where it is found."""

    kind: str
    onset_seconds: float
    seconds: float
    asked: bool


def reference_ornaments(truth: GroundTruth) -> list[OrnamentTrial]:
    """Everything of the truth that may be found."""
    lead = truth.voices[0]
    found = [
        one for ornament in lead.ornaments for one in _expected_ornaments(ornament, lead.cents.astype(float))
    ]
    found += _slow_ways(lead) + _quick_notes(lead)
    for voice in truth.voices[1:]:
        for ornament in voice.ornaments:
            for one in _expected_ornaments(ornament, voice.cents.astype(float)):
                found.append(OrnamentTrial(one.kind, one.onset_seconds, one.seconds, False))
    return found


def _expected_ornaments(one: PlayedOrnament, cents: np.ndarray) -> list[OrnamentTrial]:
    """What an ornament on record sounds as: usually itself, a shake of middling width as either kind."""

    def as_kind(kind: str, asked: bool) -> OrnamentTrial:
        return OrnamentTrial(kind, one.onset_seconds, one.seconds, asked)

    if one.shape == "shake":
        if 62 < one.extent_cents < 118:
            return [as_kind("shake", False), as_kind("vibrato", False)]
        return [as_kind("shake" if one.extent_cents > 80 else "vibrato", one.extent_cents >= 35)]
    if one.shape == "swing" and one.rate_hz > 3.5:
        return [as_kind("swing", False), as_kind("vibrato", False)]
    if one.shape == "swing":
        return [as_kind("swing", one.extent_cents >= 40 and one.rate_hz * one.seconds >= 1.5)]
    if one.shape == "glide":
        return [as_kind("glide", one.seconds >= 0.17)]
    seconds = _detours(one, cents) if _stands_out(one, cents) else []
    if not seconds:
        return [as_kind("touch", False), as_kind("turn", False)]
    return [as_kind("touch" if len(seconds) == 1 else "turn", max(seconds) <= LONGEST_DETOUR_SECONDS)]


def _detours(one: PlayedOrnament, cents: np.ndarray) -> list[float]:
    """How long each detour of 60 cents or more within an ornament lasts, at half its height: one for a touch."""
    start, stop = _frames(one)
    span = cents[max(0, start - 5) : stop + 6]
    span = np.pad(span[np.isfinite(span)], 1, mode="edge")
    found = []
    for side in (1, -1):
        peaks, _ = signal.find_peaks(side * span, prominence=60)
        found += (signal.peak_widths(side * span, peaks)[0] * HOP_SECONDS).tolist()
    return found


def _frames(one: PlayedOrnament) -> tuple[int, int]:
    """First and one-past-last frame."""
    end = one.onset_seconds + one.seconds
    return round(one.onset_seconds / HOP_SECONDS), round(end / HOP_SECONDS) + 1


def _stands_out(one: PlayedOrnament, cents: np.ndarray) -> bool:
    """Whether the contour leaves the range of the notes before and after by 60 cents (from a silence: from above)."""
    start, stop = _frames(one)
    inside, after = cents[start:stop], cents[stop : stop + 6]
    if not inside.size or np.isnan(inside).any() or not np.isfinite(after).any():
        return False
    note, before = float(np.nanmedian(after)), float(cents[max(0, start - 4)])
    if not np.isfinite(before):
        return bool(inside.max() - note >= 60)
    return bool(inside.max() - max(note, before) >= 60 or min(note, before) - inside.min() >= 60)


def _quick_notes(voice: Voice) -> list[OrnamentTrial]:
    """Main notes under a fifth of a second: beside the way they are the curve of a touch, several that of a turn."""
    return [
        OrnamentTrial(kind, note.onset_seconds, note.seconds, False)
        for note in voice.notes
        if note.seconds < QUICK_NOTE_SECONDS
        for kind in ("touch", "turn")
    ]


def _slow_ways(voice: Voice) -> list[OrnamentTrial]:
    """Ways between neighbouring notes that take 70 ms or more from 15 to 85 %, asked for from 120 ms on."""
    cents, found = voice.cents.astype(float), []
    busy = [(o.onset_seconds, o.onset_seconds + o.seconds) for o in voice.ornaments if o.shape != "swing"]
    for one, two in zip(voice.notes, voice.notes[1:], strict=False):
        at = round(two.onset_seconds / HOP_SECONDS)
        first = max(round((one.onset_seconds + 0.3 * one.seconds) / HOP_SECONDS), at - 40)
        span = cents[first : min(round((two.onset_seconds + 0.8 * two.seconds) / HOP_SECONDS), at + 60)]
        if abs(two.cents - one.cents) < 80 or span.size < 5 or not np.isfinite(span).all():
            continue
        way = (span - one.cents) / (two.cents - one.cents)
        arrived = np.flatnonzero(way > 0.85)
        left = np.flatnonzero(way[: arrived[0]] < 0.15) if arrived.size else arrived
        if not left.size:
            continue
        begun, ended = (first + left[-1]) * HOP_SECONDS, (first + arrived[0]) * HOP_SECONDS
        if ended - begun >= 0.07 and not any(a < ended and b > begun for a, b in busy):
            found.append(OrnamentTrial("glide", begun, ended - begun, ended - begun >= 0.12))
    return found


def counts(truth: Sequence[OrnamentTrial], found: Sequence[OrnamentEvent], kind: str) -> np.ndarray:
    """Hits, false alarms and misses of a kind: [3]. A hit shares 30 % of the shorter one, or its middle is near."""
    mine = sorted((one for one in truth if one.kind == kind), key=lambda one: not one.asked)
    theirs, used = [one for one in found if one.kind == kind], set[int]()
    hits = misses = 0
    for one in mine:
        gaps = [
            (_gap(one, other), n) for n, other in enumerate(theirs) if n not in used and _is_hit(one, other)
        ]
        if gaps:
            used.add(min(gaps)[1])
            hits += one.asked
        else:
            misses += one.asked
    alarms = [
        other
        for n, other in enumerate(theirs)
        if n not in used and not any(not one.asked and _is_hit(one, other) for one in mine)
    ]
    return np.array([hits, len(alarms), misses])


def _gap(one: OrnamentTrial, other: OrnamentEvent) -> float:
    return abs(one.onset_seconds + one.seconds / 2 - other.onset_seconds - other.seconds / 2)


def _is_hit(one: OrnamentTrial, other: OrnamentEvent) -> bool:
    start = max(one.onset_seconds, other.onset_seconds)
    stop = min(one.onset_seconds + one.seconds, other.onset_seconds + other.seconds)
    return stop - start > 0.3 * min(one.seconds, other.seconds) or _gap(one, other) < NEAR_SECONDS


def trial(
    seed: int, tradition: str, ornament: str | None = None, seconds: float = SECONDS
) -> dict[str, list[list[int]]]:
    """Counts by kind for a performed mixture (two players, the tradition's drone): as tracked, and from the truth.

    With `ornament` the performer is asked to play that one wherever it fits.
    """
    piece = perform(seed, tradition, seconds, PerformanceRequest(ensemble=2, ornament=ornament))
    assert piece.truth is not None
    cents = pitch.track_pitch(piece.samples, piece.rate_hz, hop_seconds=HOP_SECONDS).cents
    truth = reference_ornaments(piece.truth)
    both = (
        ornaments.find_ornaments(cents, HOP_SECONDS),
        ornaments.find_ornaments(piece.truth.voices[0].cents.astype(float), HOP_SECONDS),
    )
    return {kind: [counts(truth, found, kind).tolist() for found in both] for kind in ornaments.KINDS}


def trials(work: Path) -> None:
    """Make every mixture's counts in the work folder that are not there yet."""
    for (tradition, ornament), seeds in MIXTURES.items():
        for seed in seeds:
            file = work / f"played-{tradition}-{ornament or 'plain'}-{seed}.json"
            if not file.is_file():
                write_json(file, trial(seed, tradition, ornament))


def table(work: Path) -> list[str]:
    """The F1 of each kind over all mixtures that the work folder holds, as lines of Markdown; none without any."""
    found: dict[tuple[str, str], list[dict[str, list[list[int]]]]] = {}
    for file in sorted(work.glob("played-*.json")):
        _, slug, what, _ = file.stem.split("-")
        found.setdefault((slug, what), []).append(read_json(file))
    if not found:
        return []
    counted = [f"{len(mine)} {slug} ({what})" for (slug, what), mine in found.items()]
    lines = [
        "## Ornaments found in performed mixtures", "",
        f"Mixtures of {SECONDS:g} s with two players, and a drone in the Hindustani ones: {', '.join(counted)};",
        "*plain* is the performer as it is, a name the ornament that it was asked to play wherever it fits. What is",
        "asked for is told in `research.validation.ornament_detection`, whose command makes this table alone. Thresholds were",
        "set on other seeds. *From the truth*: on the contour that was played, without any tracking.", "",
        "| kind | in the truth | found | false alarms | F1 | hindustani | makam | plain mixtures | from the truth |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]  # fmt: skip
    for kind in ornaments.KINDS:

        def total(
            which: int, slug: str | None = None, what: str | None = None, kind: str = kind
        ) -> np.ndarray:
            rows = [
                one[kind][which]
                for (its_slug, its_what), mine in found.items()
                if slug in (None, its_slug) and what in (None, its_what)
                for one in mine
            ]
            return np.sum([[0, 0, 0], *rows], axis=0)

        hits, alarms, misses = total(0)
        cells = [total(0), total(0, "hindustani"), total(0, "makam"), total(0, None, "plain"), total(1)]
        shares = " | ".join(f"{f1(*cell):.2f}" if cell[0] + cell[2] else "-" for cell in cells)
        lines.append(f"| {kind} | {hits + misses} | {hits} | {alarms} | {shares} |")
    return lines


def f1(hits: float, alarms: float, misses: float) -> float:
    """Harmonic mean of precision and recall; NaN where there was nothing to find or to miss."""
    return 2 * hits / (2 * hits + alarms + misses) if hits + alarms + misses else float("nan")


def main(arguments: Sequence[str] | None = None) -> None:
    """The command line of this module."""
    parser = argparse.ArgumentParser(description="Count the ornaments that are found in performed mixtures.")
    parser.add_argument("--work", type=Path, required=True, help="where finished mixtures are kept")
    asked = parser.parse_args(arguments)
    trials(asked.work)
    print("\n".join(table(asked.work)))


if __name__ == "__main__":
    main()
